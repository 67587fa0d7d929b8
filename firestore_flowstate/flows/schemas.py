"""JSON Schemas of the types of answers, which refuse nothing that the types take but by a conversion of its kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from .losses import fields_of, paths_read

_OWN: Final = ("function-plain", "function-wrap")
_WITH_EXPONENT: Final = "1E-7"
"""The text that a small decimal has."""
_OF_NAMES: Final = ("$defs", "properties", "patternProperties")
_OF_VALUES: Final = ("const", "default", "enum", "examples")


def json_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """Return the JSON Schema of an adapter's type, by alias.

    Raises:
        PydanticUserError: The type has none.
    """
    form = adapter.json_schema(by_alias=True, schema_generator=_Schemas)
    _drop_fractions(form)
    return form


def _drop_fractions(form: Any) -> None:
    """Take each ``multipleOf`` that is not whole out of a schema: 19.99 is no multiple of 0.01 by the remainder.

    Pydantic takes it within a tolerance, or reads it as a decimal.
    """
    if isinstance(form, list):
        for member in form:
            _drop_fractions(member)
    elif isinstance(form, dict):
        if isinstance(form.get("multipleOf"), float) and not form["multipleOf"].is_integer():
            del form["multipleOf"]
        for key, inside in form.items():
            if key in _OF_NAMES and isinstance(inside, dict):
                _drop_fractions(list(inside.values()))
            elif key not in _OF_VALUES:
                _drop_fractions(inside)


class _Schemas(GenerateJsonSchema):
    """Says what JSON Schema and pydantic understand alike.

    Bytes are in base64, as `Values` has them, but for those of what has a configuration of its own: pydantic before
    2.14 leaves out the configuration of an adapter, and says of all bytes that they are UTF-8. A union takes what any
    of its members takes, a set the same member twice. A field may have any of its names, and a value with a serializer
    of the application's also the form that this gives it.
    """

    _configured = 0

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return self._inside(super().model_schema, schema)

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return self._inside(super().dataclass_schema, schema)

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return self._inside(super().typed_dict_schema, schema)

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        form = super().bytes_schema(schema)
        return form if self._configured else {**form, "format": "base64url"}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        form = super().tagged_union_schema(schema)
        return {"anyOf" if key == "oneOf" else key: inside for key, inside in form.items()}

    def set_schema(self, schema: core_schema.SetSchema) -> JsonSchemaValue:
        return _without(super().set_schema(schema), "uniqueItems", "maxItems")

    def frozenset_schema(self, schema: core_schema.FrozenSetSchema) -> JsonSchemaValue:
        return _without(super().frozenset_schema(schema), "uniqueItems", "maxItems")

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        form = super().str_schema(schema)
        is_changed = any(schema.get(change) for change in ("strip_whitespace", "to_lower", "to_upper"))
        return _without(form, "maxLength", "pattern") if is_changed else form  # these are of the text that it becomes

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        form = super().decimal_schema(schema)
        for part in (form, *form.get("anyOf", ())):
            if not re.search(part.get("pattern", ""), _WITH_EXPONENT):  # of pydantic before 2.14
                del part["pattern"]
        return form

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        form = super().generate_inner(schema)
        own = schema.get("serialization", {})
        if own.get("type") not in _OWN or _is_of_pydantic(own.get("function")):
            return form
        return {"anyOf": [form, self.ser_schema(own) or {}]}

    def _inside(self, generate: Callable[[Any], JsonSchemaValue], schema: Any) -> JsonSchemaValue:
        configured = any(hasattr(schema.get("cls"), name) for name in ("model_config", "__pydantic_config__"))
        self._configured += configured
        try:
            form = generate(schema)
        finally:
            self._configured -= configured
        return _with_all_names(form, schema)


def _with_all_names(form: JsonSchemaValue, schema: Mapping[str, Any]) -> JsonSchemaValue:
    """Return the schema of an object with each key by which one of its fields is found."""
    config = schema.get("config") or {}
    found_by = {name: paths_read(name, field, config) for name, field in fields_of(schema).items()}
    several = {name: paths for name, paths in found_by.items() if len(paths) > 1 or len(paths[0]) > 1}
    if not several or "properties" not in form:
        return form
    form = _without(form, "additionalProperties") if form.get("additionalProperties") is False else dict(form)
    properties, required, one_of_each = dict(form["properties"]), list(form.get("required", ())), []
    for name, paths in several.items():
        told = next((path[0] for path in paths if len(path) == 1), name)  # pydantic's name for it
        if len(paths[0]) > 1:
            properties.pop(told, None)  # another path comes before this name
        if told in required:
            required.remove(told)
            one_of_each.append({"anyOf": [{"required": [key]} for key in dict.fromkeys(path[0] for path in paths)]})
    form = {**_without(form, "required"), "properties": properties}
    return {**form, **({"required": required} if required else {}), **({"allOf": one_of_each} if one_of_each else {})}


def _without(form: JsonSchemaValue, *keys: str) -> JsonSchemaValue:
    return {key: inside for key, inside in form.items() if key not in keys}


def _is_of_pydantic(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "pydantic"
