"""The JSON forms of Python values: what each type is stored as, whole, or an error with its path.

docs/values.md has the table. A model is taken apart field by field, since pydantic's own dump loses data: for a field
whose value is of a subclass it keeps only what the declared type has.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from inspect import Parameter, signature
from typing import Any, Final

from pydantic import (
    BaseModel,
    RootModel,
    WrapSerializer,
)
from pydantic_core import PydanticSerializationError, SchemaSerializer, core_schema

from .._error_texts import method_fails, shown_key
from ..errors import FlowStateEncodeError, shown
from ..models import WireModel
from .model_fields import (
    check_read,
    has_hidden,
    has_models,
    has_nulled,
    is_default,
    keys_read,
    left_out,
    put,
    read_by,
    serializers_inside,
    serializers_of,
    unstorable,
    when_used,
)
from .scalar_forms import WithoutFormError, bytes_form, firestore_form, integer_form, scalar_form, text_form
from .wire import to_wire

MAX_DEPTH: Final = 200  # containers, one inside another: pydantic_core goes no deeper

_ANYTHING: Final = SchemaSerializer(core_schema.any_schema())


def plain(value: Any, path: str, *, around: int = 0) -> Any:
    """Return the JSON form of the value in dicts, lists and scalars.

    The outermost levels, as many as `around` says, do not count towards the limit of 200.

    Raises:
        FlowStateEncodeError: It, or a value inside it, cannot be stored whole; `path` leads to it.
    """
    try:
        return _form(value, path, -around, None)
    except WithoutFormError as error:
        raise unstorable(
            error.path, f"of type {type(error.value).__qualname__}, which has no JSON form that keeps all of it"
        ) from None


def _form(value: Any, path: str, depth: int, config: Mapping[str, Any] | None) -> Any:
    """Return the JSON form of a value; `config` is that of the model it is in, None outside of models."""
    kind = type(value)
    if kind is bool or value is None or kind is float:
        return value
    try:
        if isinstance(value, enum.Enum):
            return _form(value.value, path, depth, config)
        if isinstance(value, str):
            return text_form(value, path)
        if isinstance(value, int):
            return integer_form(value, path)
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes_form(bytes(value), path, config)
        _check_depth(depth, path)
        if isinstance(value, WireModel):
            return _form(to_wire(value), path, depth, None)
        if isinstance(value, Mapping):
            return _object_form(value, path, depth, config)
        if isinstance(value, (list, tuple)):
            return [_form(member, f"{path}[{index}]", depth + 1, config) for index, member in enumerate(value)]
        if isinstance(value, BaseModel) or hasattr(kind, "__pydantic_fields__"):
            return _model_form(value, path, depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            config = getattr(kind, "__pydantic_config__", config)
            return {
                field.name: _form(attribute(value, field.name, path), f"{path}.{field.name}", depth + 1, config)
                for field in dataclasses.fields(value)
            }
        if config is not None and isinstance(value, (AbstractSet, deque)):
            # The type of the field reads a set back. Outside of a model nothing would, and a list claims an order.
            members = [_form(member, f"{path}[{index}]", depth + 1, config) for index, member in enumerate(value)]
            return sorted(members, key=json.dumps) if isinstance(value, AbstractSet) else members
        if (of_firestore := firestore_form(value)) is not None:
            return _form(of_firestore, path, depth, config)
        return scalar_form(value, path)
    except (FlowStateEncodeError, WithoutFormError):
        raise
    except Exception as error:  # of a method of the application's; RecursionError: the stack was deep before
        raise unstorable(path, method_fails(value, error)) from error


def _check_depth(depth: int, path: str) -> None:
    if depth >= MAX_DEPTH:
        raise unstorable(path, f"nested more than {MAX_DEPTH} deep, or inside itself")


def _object_form(value: Mapping[Any, Any], path: str, depth: int, config: Mapping[str, Any] | None) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key in value:
        member_path = f"{path}[{shown_key(key)}]"
        name = _key(key, member_path, config)
        if name in members:
            raise unstorable(member_path, f"under a key that is {shown(name)} in JSON, as another key is")
        members[name] = _form(value[key], member_path, depth + 1, config)
    return members


def _model_form(value: Any, path: str, depth: int) -> Any:
    """Return the JSON form of a pydantic model or dataclass: each field under the name that it is read by."""
    model = type(value)
    config = getattr(model, "model_config", None) or getattr(model, "__pydantic_config__", None) or {}
    fields, decorators = model.__pydantic_fields__, model.__pydantic_decorators__
    if own := list(decorators.model_serializers.values()):
        return _form(_dumped(value, own[-1].info.when_used, path), path, depth + 1, config)
    if isinstance(value, RootModel):
        return _field_form(value, "root", path, depth, config)
    form: dict[str, Any] = {}
    for name, field in fields.items():
        member_path = f"{path}.{name}"
        member = attribute(value, name, path)
        exclude_if = getattr(field, "exclude_if", None)
        excluded = field.exclude or (exclude_if is not None and exclude_if(member))
        if not excluded:
            keys = read_by(name, field, config, member_path)
            put(form, keys, _field_form(value, name, member_path, depth + len(keys) - 1, config), member_path)
        elif not is_default(member, field, {other: getattr(value, other, None) for other in fields}):
            raise unstorable(member_path, "a field that its model excludes from dumps, whose value would be lost")
    if decorators.computed_fields and config.get("extra", "ignore") == "ignore":  # others would keep it, or refuse it
        taken = keys_read(fields, config)
        for name, computed in decorators.computed_fields.items():
            if (key := computed.info.alias or name) not in taken:
                form[key] = _form(getattr(value, name), f"{path}.{name}", depth + 1, config)
    extra = getattr(value, "__pydantic_extra__", None) or {}
    for name in extra:
        if name in form:
            raise unstorable(f"{path}.{name}", "an unknown key with the name of a field")
    form.update(_object_form(extra, path, depth, config))
    check_read(form, fields, config, path)
    return form


def _field_form(value: Any, name: str, path: str, depth: int, config: Mapping[str, Any]) -> Any:
    """Return the JSON form of a field, by the serializer that the model has for it if it has one."""
    field, member = type(value).__pydantic_fields__[name], getattr(value, name)
    own = [
        (serializer.cls_var_name, serializer.info)
        for serializer in type(value).__pydantic_decorators__.field_serializers.values()
        if name in serializer.info.fields or "*" in serializer.info.fields
    ]
    if own:
        method, info = own[-1]
        if info.mode == "wrap" and has_models(member):
            wrap = WrapSerializer(getattr(value, method), when_used=info.when_used)
            return _form(_wrapped(member, wrap, path, depth, config, name=name), path, depth + 1, config)
        return _form(_dumped(value, info.when_used, path, name=name), path, depth + 1, config)
    if declared := serializers_of(field):
        if isinstance(declared[-1], WrapSerializer) and has_models(member):
            return _form(_wrapped(member, declared[-1], path, depth, config), path, depth + 1, config)
        dumped = _dumped(value, when_used(declared[-1]), path, name=name, as_any=False)
        return _form(dumped, path, depth + 1, config)
    model: Any = type(value)
    inside = serializers_inside(model, name)
    if inside and not any(when_used(serializer).startswith("json") for serializer in inside) and not has_models(member):
        try:
            dumped = _dumped(value, "always", path, name=name, as_any=False)
        except FlowStateEncodeError:  # a set cannot hold a list or a dict that the serializer of its members returns
            dumped = _dumped(value, "json", path, name=name, as_any=False)
        if lost := left_out(model, name, member, dumped, path):
            raise unstorable(lost, "under a key that its TypedDict does not declare, which pydantic would leave out")
        return _form(dumped, path, depth + 1, config)
    try:
        return _form(member, path, depth + 1, config)
    except WithoutFormError as error:  # the annotation of the field may have a serializer for it, such as list[Array]
        if isinstance(error.value, (re.Pattern, Iterator)):  # its flags would be lost, or it would be used up
            raise
        for as_any in (True,) if has_models(member) else (True, False):
            try:
                dumped = _dumped(value, "json", path, name=name, as_any=as_any)
                return _form(dumped, path, depth + 1, config)
            except (FlowStateEncodeError, WithoutFormError):
                continue
        raise


def _dumped(value: Any, used: str, path: str, *, name: str | None = None, as_any: bool = True) -> Any:
    """Return what a model's own serializer makes of the model, or of one field of it.

    With `as_any` pydantic goes by the types of the values. Otherwise it goes by the type that the field declares and
    the serializers in its annotation, but loses what a value of a subclass has beyond that type.
    """
    try:
        dumped = type(value).__pydantic_serializer__.to_python(
            value,
            mode="json" if used.startswith("json") else "python",
            by_alias=True,
            include=None if name is None or isinstance(value, RootModel) else {name},
            serialize_as_any=as_any,
            warnings=False,
        )
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise unstorable(path, f"its model's serializer fails ({shown(error, 200)})") from error
    found = dumped if name is None or isinstance(value, RootModel) else next(iter(dumped.values()))
    if used.startswith("json"):
        if has_hidden(found, value if name is None else getattr(value, name)):
            raise unstorable(path, "a secret, which its model's serializer hides: let it return what is to be stored")
        if has_nulled(found, value, name):
            raise unstorable(path, "a NaN or infinity, which its model's JSON has as null: see ser_json_inf_nan")
    return found


def _wrapped(
    value: Any, serializer: WrapSerializer, path: str, depth: int, config: Mapping[str, Any], *, name: str | None = None
) -> Any:
    """Return what a serializer around that of the type makes of a value with models, each of which is stored whole.

    It gets Python values, as pydantic would give it, if their JSON form is that of the models; otherwise that form.
    With `name` it is a method for the field of that name, which it may ask for.
    """
    failures: list[Exception] = []
    mode = "json" if serializer.when_used.startswith("json") else "python"

    def whole(member: Any) -> Any:
        try:
            form = _form(member, path, depth + 1, config)
        except (FlowStateEncodeError, WithoutFormError) as error:
            failures.append(error)
            raise
        try:
            dumped = _ANYTHING.to_python(member, mode=mode, by_alias=True, serialize_as_any=True, warnings=False)
            return dumped if form == _form(dumped, path, depth + 1, config) else form
        except Exception:  # noqa: BLE001  # of a model's own serializer: the form does without it
            return form

    def of_field(_: object, *given: Any) -> Any:
        return serializer.func(*given)

    arguments = signature(serializer.func).parameters.values()
    has_info = sum(argument.default is Parameter.empty for argument in arguments) > 2  # as pydantic counts them
    around = core_schema.wrap_serializer_function_ser_schema(
        serializer.func if name is None else of_field, is_field_serializer=name is not None, info_arg=has_info
    )
    inside = core_schema.any_schema(serialization=core_schema.plain_serializer_function_ser_schema(whole))
    # A nullable one keeps its serializer, which the one around it would replace.
    field = core_schema.typed_dict_field(core_schema.nullable_schema(inside, serialization=around))
    try:
        schema = core_schema.typed_dict_schema({name or "": field})
        serializer_of_it = SchemaSerializer(schema)
        dumped = serializer_of_it.to_python({name or "": value}, mode=mode, by_alias=True, warnings=False)
        return dumped[name or ""]
    except Exception as error:
        if failures:
            raise failures[-1] from None
        raise unstorable(path, f"its model's serializer fails ({shown(error, 200)})") from error


def attribute(value: Any, name: str, path: str) -> Any:
    """Return a field of a dataclass or model, or raise FlowStateEncodeError if it is missing."""
    try:
        return getattr(value, name)
    except AttributeError:
        raise unstorable(f"{path}.{name}", f"missing in the {type(value).__qualname__}") from None


def _key(key: Any, member_path: str, config: Mapping[str, Any] | None) -> str:
    """Return the key as a string. Inside a model other scalars are taken too, as pydantic writes and reads them."""
    if isinstance(key, str):
        return text_form(key, member_path)
    if config is None:
        raise unstorable(member_path, f"under a key of type {type(key).__qualname__}; JSON keys are strings")
    form = _form(key, member_path, 0, config)
    if form is None:
        raise unstorable(member_path, "under the key None, whose text no type of pydantic's reads back")
    if isinstance(form, str):
        return form
    if isinstance(form, (dict, list)):
        raise unstorable(member_path, f"under a key of type {type(key).__qualname__}, which is not a scalar")
    return str(form).lower() if isinstance(form, bool) else str(form)
