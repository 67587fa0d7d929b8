"""What pydantic's dump of a value would lose: secrets, excluded fields, and what its model does not read back."""

from __future__ import annotations

import dataclasses
import marshal
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, NamedTuple

from pydantic import RootModel, Secret, SecretBytes, SecretStr

from firestore_flowstate import FlowState, FlowStateEncodeError
from firestore_flowstate._error_texts import shown_key

_SECRETS: Final = (Secret, SecretStr, SecretBytes)
_STARS: Final = "**********"
_UNKNOWN: Final = ("any", "is-instance", "is-subclass", "custom-error", "callable")
"""The types of pydantic's core schemas whose values may be of any class."""
_WITH_FIELDS: Final = ("model-fields", "dataclass-args", "typed-dict")


class Losses(NamedTuple):
    """What a dump of a type by pydantic may lose.

    Attributes:
        hides: Whether a value may have something inside that is hidden or left out, so that it has to be looked at.
        is_one_way: Whether a model writes a key that it does not read, or text of JSON as what it says. What pydantic
            calls a round trip mends that.
        is_renamed: Whether a field is written under a name by which it is not read, or left out of a plain dict or
            dataclass. The store's own form has it.
    """

    hides: bool = False
    is_one_way: bool = False
    is_renamed: bool = False

    def __or__(self, other: Losses) -> Losses:
        """Return what either of them may lose."""
        return Losses(*(one or another for one, another in zip(self, other, strict=True)))


class Inside(NamedTuple):
    """What a look at a value has found.

    Attributes:
        losses: What its models may lose.
        secrets: The secrets in it, by their paths.
    """

    losses: Losses
    secrets: Mapping[str, Any]


NOTHING: Final = Inside(Losses(), {})


class LossesOfModels:
    """Keeps what the classes of models may lose."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[type[Any], Losses] = weakref.WeakKeyDictionary()

    def of(self, model: type[Any]) -> Losses:
        """Return what a dump of the model, or of a pydantic dataclass, may lose."""
        known = self._known.get(model)
        if known is None:
            known = self._known[model] = losses_of(model.__pydantic_core_schema__)
        return known

    def look(self, value: Any, what: str) -> Inside:
        """Look through the value, and all that is inside of it.

        Args:
            value: The value, which may be inside itself.
            what: Whose value it is, for the error; paths begin with it.

        Raises:
            FlowStateEncodeError: A model in it has a field that is excluded from dumps, and not its default.
        """
        losses, secrets = Losses(), {}
        seen: dict[int, Any] = {}  # the values too, so that no other comes to have the id of one
        left = [(value, what)]
        while left:
            part, path = left.pop()
            if id(part) in seen:
                continue
            seen[id(part)] = part
            if isinstance(part, _SECRETS):
                secrets[path] = part
            elif isinstance(part, Mapping):
                left.extend((each, f"{path}[{shown_key(key)}]") for key, each in part.items() if not _is_scalar(each))
            elif isinstance(part, (list, tuple, AbstractSet, deque)):
                left.extend((each, f"{path}[{index}]") for index, each in enumerate(part) if not _is_scalar(each))
            elif hasattr(type(part), "__pydantic_fields__"):
                losses |= self.of(type(part))
                left.extend((each, place) for each, place in _members(part, path) if not is_plain(each))
            elif dataclasses.is_dataclass(part):
                names = [field.name for field in dataclasses.fields(part)]
                left.extend((getattr(part, name, None), f"{path}.{name}") for name in names)
        return Inside(losses, secrets) if secrets or any(losses) else NOTHING


def is_plain(value: Any) -> bool:
    """Return whether the value is of plain types alone, so that it has no models inside."""
    try:
        marshal.dumps(value, 4)  # thrown away, and never loaded; from version 3 on a cycle ends
    except ValueError:
        return False
    return True


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, bytes, int, float))


def _members(model: Any, path: str) -> Iterator[tuple[Any, str]]:
    """Yield the values of a model that are dumped, with their paths."""
    fields = type(model).__pydantic_fields__
    has_own_serializer = bool(type(model).__pydantic_decorators__.model_serializers)
    values = {name: getattr(model, name, None) for name in fields}
    for name, field in fields.items():
        place = path if isinstance(model, RootModel) else f"{path}.{name}"
        exclude_if = getattr(field, "exclude_if", None)  # of pydantic 2.12 and later
        is_excluded = field.exclude or (exclude_if is not None and exclude_if(values[name]))
        if not is_excluded or has_own_serializer:
            yield values[name], place
        elif not _is_default(values[name], field, values):
            raise FlowStateEncodeError(
                f"Cannot store {place}: a field that its model excludes from dumps, whose value would be lost.",
                path=place,
            )
    for name, member in (getattr(model, "__pydantic_extra__", None) or {}).items():
        yield member, f"{path}.{name}"


def _is_default(value: Any, field: Any, values: Mapping[str, Any]) -> bool:
    """Return whether a field has its default; the values are those of the model, for a factory that asks for them."""
    default = field.get_default(call_default_factory=True, validated_data=dict(values))
    return value is default or (isinstance(value, bool) == isinstance(default, bool) and bool(value == default))


def stored_form(value: Any, what: str) -> Any:
    """Return the JSON form that the store gives the value, in which each field has the name that it is read by.

    Raises:
        FlowStateEncodeError: The store has none.
    """
    try:
        return FlowState.start(input=value).input_value(as_=Any)
    except FlowStateEncodeError as error:
        reason = str(error).partition("Cannot store input")[2]
        path = what + str(error.path).removeprefix("input")
        raise FlowStateEncodeError(f"Cannot store {what}{reason}", path=path) from error.__cause__


def check_shown(form: Any, secrets: Mapping[str, Any]) -> None:
    """Refuse a JSON form that has stars in the place of a secret.

    Raises:
        FlowStateEncodeError: It has.
    """
    texts: set[str] = set()
    left = [form] if secrets else []
    while left:
        part = left.pop()
        if isinstance(part, str):
            texts.add(part)
        elif isinstance(part, dict):
            left.extend(part.values())
            texts.update(part)
        elif isinstance(part, list):
            left.extend(part)
    for path, secret in secrets.items():
        inside = secret.get_secret_value()
        if inside and texts & ({str(secret), _STARS} - {inside}):
            raise FlowStateEncodeError(
                f"Cannot store {path}: a secret, which its JSON form hides. Give what get_secret_value() returns.",
                path=path,
            )


def losses_of(schema: Any) -> Losses:
    """Return what a dump of the type of one of pydantic's core schemas may lose."""
    losses = Losses()
    left: list[tuple[Any, Mapping[str, Any]]] = [(schema, {})]
    while left:
        part, config = left.pop()
        if isinstance(part, (list, tuple)):
            left.extend((member, config) for member in part)
        if not isinstance(part, Mapping):  # that of a model which is built later builds it then
            continue
        kind = part.get("type")
        if kind in ("model", "dataclass", "typed-dict"):
            config = part.get("config") or {}
        if kind in _WITH_FIELDS:
            losses |= _of_fields(part, config)
        has_excluded = kind == "dataclass" and any(map(_is_excluded, fields_of(part).values()))
        if not hasattr(part.get("cls"), "__pydantic_fields__") and has_excluded:
            losses |= Losses(is_renamed=True)
        losses |= Losses(
            hides=kind in _UNKNOWN or kind in ("function-plain", "function-wrap") or _is_excluded(part),
            is_one_way=kind == "json",
        )
        left.extend((member, config) for key, member in part.items() if key != "metadata")
    return losses


def _of_fields(part: Mapping[str, Any], config: Mapping[str, Any]) -> Losses:
    fields = fields_of(part)
    read: set[str] = set()
    written: set[str] = set()
    is_renamed = part["type"] == "typed-dict" and any(map(_is_excluded, fields.values()))
    for name, field in fields.items():
        names = {path[0] for path in paths_read(name, field, config) if len(path) == 1}
        read |= names
        written.add(field.get("serialization_alias", name))
        is_renamed |= field.get("serialization_alias", name) not in names
    computed = {each.get("alias", each["property_name"]) for each in part.get("computed_fields", ())}
    behaviour = part.get("extra_behavior") or config.get("extra_fields_behavior") or "ignore"
    is_one_way = bool(computed) and (behaviour != "ignore" or bool(computed & (read | written)))
    return Losses(is_one_way=is_one_way, is_renamed=is_renamed)


def fields_of(schema: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the fields of the core schema of a model, dataclass or TypedDict, by name; those of another have none."""
    while isinstance(schema, Mapping) and schema.get("type") not in _WITH_FIELDS:
        schema = schema.get("schema")
    fields = schema.get("fields", ()) if isinstance(schema, Mapping) else ()
    return fields if isinstance(fields, Mapping) else {field["name"]: field for field in fields}


def paths_read(name: str, field: Mapping[str, Any], config: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    """Return the paths of keys by which validation finds a field; most are of one key.

    Args:
        name: The name of the field.
        field: Its core schema.
        config: The configuration of the core schema that it is a field of.
    """
    alias = field.get("validation_alias")
    if alias is None or config.get("validate_by_alias") is False:
        return [[name]]
    paths = [[alias]] if isinstance(alias, str) else alias if isinstance(alias[0], list) else [alias]
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    return [*paths, [name]] if by_name and [name] not in paths else paths


def _is_excluded(field: Mapping[str, Any]) -> bool:
    return bool(field.get("serialization_exclude")) or "serialization_exclude_if" in field
