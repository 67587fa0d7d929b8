"""JSON Schemas of the types of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


def json_schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """Return the JSON Schema of an adapter's type, by alias.

    Raises:
        PydanticUserError: The type has none.
    """
    return adapter.json_schema(by_alias=True, schema_generator=_Schemas)


class _Schemas(GenerateJsonSchema):
    """Says that bytes are in base64, as `Values` has them, but for those of what has a configuration of its own.

    Pydantic before 2.14 leaves out the configuration of an adapter, and says of all bytes that they are UTF-8.
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

    def _inside(self, generate: Callable[[Any], JsonSchemaValue], schema: Any) -> JsonSchemaValue:
        configured = any(hasattr(schema.get("cls"), name) for name in ("model_config", "__pydantic_config__"))
        self._configured += configured
        try:
            return generate(schema)
        finally:
            self._configured -= configured
