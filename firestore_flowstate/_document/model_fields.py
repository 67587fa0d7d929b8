"""The fields of pydantic models and dataclasses: by which keys validation finds one, and who serializes it."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from math import isfinite
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    EncodedBytes,
    EncodedStr,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    WrapSerializer,
)
from pydantic_core import PydanticUndefined, to_json
from typing_extensions import NotRequired, ReadOnly, Required, is_typeddict

from .._error_texts import shown_key, shown_path
from ..errors import FlowStateEncodeError

_SERIALIZERS: Final = (PlainSerializer, WrapSerializer, EncodedBytes, EncodedStr)


def unstorable(path: str, what: str) -> FlowStateEncodeError:
    """Return the error of a value that cannot be stored; `what` says what it is."""
    return FlowStateEncodeError(f"Cannot store {shown_path(path)}: {what}.", path=path)


def is_of_pydantic(value: Any) -> bool:
    """Return whether a dataclass is one of pydantic's, or has a configuration for it: it is stored as models are."""
    return hasattr(value, "__pydantic_fields__") or hasattr(value, "__pydantic_config__")


def serializers_of(field: Any) -> list[Any]:
    """Return the serializers that the annotation of a field has for the whole field, innermost first."""
    return [serializer for serializer in field.metadata if isinstance(serializer, _SERIALIZERS)]


@lru_cache(maxsize=1024)  # fields: a list of models asks for the same ones again and again
def serializers_inside(model: type[Any], name: str) -> tuple[Any, ...]:
    """Return the serializers inside of the annotation of a model's field, such as that in ``list[Base64Bytes]``."""
    return tuple(_serializers_in(model.__pydantic_fields__[name].annotation))


def _serializers_in(annotation: Any) -> Iterator[Any]:
    opened: list[Any] = []  # so that none is opened twice: they may have each other, or themselves, inside
    left = [annotation]
    while left:
        part = left.pop()
        yield from (found for found in getattr(part, "__metadata__", ()) if isinstance(found, _SERIALIZERS))
        left.extend(get_args(part))
        if part not in opened and (hints := tuple(_hints(part))):
            opened.append(part)
            left.extend(hints)


def _hints(annotation: Any) -> Iterable[Any]:
    """Return what an alias or a NewType stands for, or the types of the members of a TypedDict or NamedTuple.

    Pydantic before 2.14 does not go by the types of the members of a NamedTuple when it serializes one.
    """
    return _stands_for(annotation) or _types_of_members(annotation).values()


def _stands_for(annotation: Any) -> tuple[Any, ...]:
    """Return what a type alias or a NewType stands for, as one member; empty: it is neither."""
    attributes = ("__value__", "__supertype__")
    found = [getattr(annotation, attribute) for attribute in attributes if hasattr(annotation, attribute)]
    return tuple(_resolved(kind, annotation.__module__) for kind in found[:1])


def _resolved(kind: Any, module: str) -> Any:
    """Return a type whose names in texts, as in ``list["Plan"]``, are taken from the module, as pydantic does."""
    holder = SimpleNamespace(__annotations__={"kind": kind})
    try:
        return get_type_hints(holder, vars(sys.modules[module]), include_extras=True)["kind"]
    except (KeyError, NameError, TypeError, AttributeError):  # names of a function, or of a module that is gone
        return kind


def _types_of_members(annotation: Any) -> Mapping[str, Any]:
    """Return the types of the members of a TypedDict or NamedTuple, by their names; empty: it is neither."""
    kind = get_origin(annotation) or annotation
    if not (is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"))):
        return {}
    try:
        return get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):  # names of a function, which pydantic finds in the stack
        own: Mapping[str, Any] = getattr(kind, "__annotations__", {})
        return own


def left_out(model: type[Any], name: str, value: Any, dumped: Any, path: str) -> str | None:
    """Return the path of a key that pydantic has left out, since the TypedDict that it is in does not declare it.

    Args:
        model: The model.
        name: The field.
        value: Its value, without models.
        dumped: What pydantic has made of the value, by the type that the field declares.
        path: The path of the value.

    Returns:
        None if nothing was left out.
    """
    return _left_out([model.__pydantic_fields__[name].annotation], value, dumped, path)


def _left_out(annotations: Sequence[Any], value: Any, dumped: Any, path: str) -> str | None:
    """Do what `left_out` does; the value is of one of the annotations."""
    kinds = _kinds(annotations)
    inside: list[tuple[Sequence[Any], Any, Any, str]] = []
    if isinstance(value, Mapping) and isinstance(dumped, dict):
        typed = [_types_of_members(kind) for kind in kinds if is_typeddict(get_origin(kind) or kind)]
        if typed and len(dumped) < len(value):
            return f"{path}[{shown_key(next((key for key in value if key not in dumped), None))}]"
        others = [get_args(kind)[1] for kind in kinds if _is_of(kind, Mapping) and len(get_args(kind)) == 2]
        for key in value.keys() & dumped.keys():
            types = [*(types[key] for types in typed if key in types), *others]
            inside.append((types, value[key], dumped[key], f"{path}[{shown_key(key)}]"))
    elif isinstance(value, (list, tuple, deque)) and isinstance(dumped, (list, tuple, deque)):
        for index, (one, dumped_one) in enumerate(zip(value, dumped, strict=False)):
            types = [kind for kind in map(partial(_type_at, index), kinds) if kind is not None]
            inside.append((types, one, dumped_one, f"{path}[{index}]"))
    found = (_left_out(*one) for one in inside if one[0])
    return next((path for path in found if path is not None), None)


def _kinds(annotations: Sequence[Any]) -> list[Any]:
    """Return the types that the annotations stand for, without those that have a serializer for the whole of them."""
    kinds: list[Any] = []
    left = list(annotations)
    while left:
        part = left.pop()
        if any(isinstance(found, _SERIALIZERS) for found in getattr(part, "__metadata__", ())) or part in kinds:
            continue
        if stands_for := _stands_for(part):
            left.extend(stands_for)
        elif get_origin(part) in (Union, UnionType):
            left.extend(get_args(part))
        elif get_origin(part) in (Annotated, Required, NotRequired, ReadOnly):
            left.append(get_args(part)[0])
        else:
            kinds.append(part)
    return kinds


def _type_at(index: int, kind: Any) -> Any:
    """Return the type of the member at that index of a sequence; None: the kind does not tell, or is not a sequence."""
    types = tuple(_types_of_members(kind).values()) or get_args(kind)
    if not _is_of(kind, tuple):
        return types[0] if types and _is_of(kind, Collection) and not _is_of(kind, Mapping) else None
    if len(types) == 2 and types[1] is Ellipsis:
        return types[0]
    return types[index] if index < len(types) else None


def _is_of(kind: Any, base: type[Any]) -> bool:
    kind = get_origin(kind) or kind
    return isinstance(kind, type) and issubclass(kind, base)


def when_used(serializer: Any) -> str:
    """Return when a serializer is used, "always" or for JSON alone, in pydantic's words."""
    return str(getattr(serializer, "when_used", "always"))


def is_default(value: Any, field: Any, others: Mapping[str, Any]) -> bool:
    """Return whether a field has its default; `others` are the model's fields, for a factory that asks for them."""
    default = field.get_default(call_default_factory=True, validated_data=dict(others))
    if value is default or type(value) is type(default):
        return value is default or bool(value == default)
    # Pydantic does not validate a default, so that 0 may be that of a float. A field of any type keeps them apart.
    is_one_kind = field.annotation is not Any and isinstance(value, bool) == isinstance(default, bool)
    return is_one_kind and bool(value == default)


def has_models(value: Any) -> bool:
    """Return whether a value is a model or dataclass, or has one inside: the type of a field may declare less of it."""
    return any(isinstance(part, BaseModel) or dataclasses.is_dataclass(part) for part in _parts(value))


def has_hidden(dumped: Any, value: Any) -> bool:
    """Return whether a text in what a serializer returned stands for a secret of the value, and is not the secret."""
    secrets = [part for part in _parts(value, of_models=True) if isinstance(part, (Secret, SecretStr, SecretBytes))]
    hidden = {str(secret) for secret in secrets if str(secret) not in ("", secret.get_secret_value())}
    return any(isinstance(part, str) and part in hidden for part in _parts(dumped))


def has_nulled(dumped: Any, model: Any, name: str | None) -> bool:
    """Return whether a serializer has put null for a NaN or infinity, as pydantic does in JSON, which is not read back.

    Args:
        dumped: What the serializer returned.
        model: The model.
        name: The field that it serialized; None: the whole model.
    """
    value = model if name is None else getattr(model, name)
    (nulls, numbers), (nulls_before, numbers_before) = _lacking_in_json(dumped), _lacking_in_json(value)
    if numbers >= numbers_before or nulls <= nulls_before:
        return False
    try:
        read = _read(dumped, model, name)
    except Exception:  # noqa: BLE001  # of pydantic's or of a validator of the application's
        return True
    return _lacking_in_json(read) != (nulls_before, numbers_before)


def _read(dumped: Any, model: Any, name: str | None) -> Any:
    """Return what a model, or a field of one, is read as, which also a strict one reads out of the forms of JSON."""
    validator, fields = type(model).__pydantic_validator__, type(model).__pydantic_fields__
    if name is None:
        return validator.validate_json(to_json(dumped, inf_nan_mode="constants"))
    if not fields[name].frozen:
        return getattr(validator.validate_assignment(copy.copy(model), name, dumped, strict=False), name)
    values = {**{other: getattr(model, other) for other in fields}, name: dumped}
    return getattr(validator.validate_python(values, strict=False, by_alias=False, by_name=True), name)


def _lacking_in_json(value: Any) -> tuple[int, int]:
    """Return how many nulls a value has inside, and how many NaN and infinities, of which JSON makes nulls."""
    parts = list(_parts(value, of_models=True))
    return sum(part is None for part in parts), sum(isinstance(part, float) and not isfinite(part) for part in parts)


def _parts(value: Any, *, of_models: bool = False) -> Iterator[Any]:
    """Yield a value and what its containers hold, and with `of_models` its models; nothing twice, and no cycle."""
    seen: dict[int, Any] = {}  # the values too, so that no other comes to have the id of one
    left = [value]
    while left:
        part = left.pop()
        yield part
        if isinstance(part, (str, bytes, int, float)) or part is None or id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, Mapping):
            left.extend(part.values())
        elif isinstance(part, (list, tuple, AbstractSet, deque)):
            left.extend(part)
        elif of_models and (isinstance(part, BaseModel) or dataclasses.is_dataclass(part)):
            own = getattr(part, "__dict__", {})
            left.extend(own.values())
            if dataclasses.is_dataclass(part):  # a field may be a slot
                slots = {field.name for field in dataclasses.fields(part)} - own.keys()
                left.extend(getattr(part, name) for name in slots if hasattr(part, name))
            left.extend((getattr(part, "__pydantic_extra__", None) or {}).values())


def read_by(name: str, field: Any, config: Mapping[str, Any], path: str) -> Sequence[str]:
    """Return the keys under which validation finds a field: several for an AliasPath, one inside the other."""
    choices = _choices(field, config)
    alias = next((choice for choice in choices if isinstance(choice, str)), choices[0] if choices else None)
    if isinstance(alias, str):
        return (alias,)
    if alias is None or _is_read_by_name(config):
        return (name,)
    if not all(isinstance(key, str) for key in alias.path):
        raise unstorable(path, "a field that its model reads out of a list, by an AliasPath with an index")
    return tuple(map(str, alias.path))


def keys_read(fields: Mapping[str, Any], config: Mapping[str, Any]) -> set[str]:
    """Return the keys of an object that validation looks at for any field."""
    keys: set[str] = set()
    for name, field in fields.items():
        choices = _choices(field, config)
        keys.update(choice if isinstance(choice, str) else str(choice.path[0]) for choice in choices)
        if not choices or _is_read_by_name(config):
            keys.add(name)
    return keys


def check_read(form: dict[str, Any], fields: Mapping[str, Any], config: Mapping[str, Any], path: str) -> None:
    """Raise FlowStateEncodeError if validation would find another value for a field in the form, by an AliasPath."""
    for name, field in fields.items():
        choices = _choices(field, config)
        texts = [index for index, choice in enumerate(choices) if isinstance(choice, str)]
        first = texts[0] if texts else len(choices) if _is_read_by_name(config) else 0  # what the field is stored under
        stored = form.get(str(choices[first]) if texts else name, PydanticUndefined)
        for choice in choices[:first]:
            if isinstance(choice, AliasPath):
                found = choice.search_dict_for_path(form)
                if found is not PydanticUndefined and repr(found) != repr(stored):
                    raise unstorable(
                        f"{path}.{name}", "a field that its model would read out of another, by an AliasPath"
                    )


def _choices(field: Any, config: Mapping[str, Any]) -> list[str | AliasPath]:
    """Return the aliases that validation tries, in their order."""
    alias = None if config.get("validate_by_alias") is False else field.validation_alias
    if isinstance(alias, AliasChoices):
        return list(alias.choices)
    return [] if alias is None else [alias]


def _is_read_by_name(config: Mapping[str, Any]) -> bool:
    return bool(config.get("validate_by_name") or config.get("populate_by_name"))


def put(form: dict[str, Any], keys: Sequence[str], value: Any, path: str) -> None:
    """Put a value under the keys, one inside the other."""
    for key in keys[:-1]:
        form = form.setdefault(key, {})
        if not isinstance(form, dict):
            raise unstorable(path, f"under a key in {key!r}, which another field of its model is stored under")
    if keys[-1] in form and form[keys[-1]] != value:
        raise unstorable(path, f"under the key {keys[-1]!r}, which another field of its model is stored under")
    form[keys[-1]] = value
