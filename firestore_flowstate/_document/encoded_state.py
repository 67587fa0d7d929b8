"""A flow state apart from its objects: as encoded JSON, each step, event and other field by itself; or as a copy."""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from .._error_texts import in_cache, in_events
from ..errors import FlowStateDecodeError, FlowStateEncodeError
from ..models import FlowState, WireModel
from .json_forms import MAX_DEPTH, plain
from .json_text import AROUND, decode, encode
from .model_fields import is_of_pydantic
from .scalar_forms import firestore_form
from .wire import executions_to_wire, to_wire, unknown_of, values_by_path

_BY_STEP: Final = ("cache", "events_triggered")

_Value = TypeVar("_Value")
_IMMUTABLE: Final = frozenset({str, int, float, bool, bytes, type(None)})


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedState:
    """The JSON of each field, step and event of a flow state.

    Attributes:
        fields: Every present field but cache and events, by its wire name, and every unknown key.
        cache: The entry of each step, in their order.
        events: The payload of each event, in their order.
    """

    fields: Mapping[str, bytes]
    cache: Mapping[str, bytes]
    events: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """How many bytes the flow state has as one JSON object, which is what a summary tells."""
        sizes = {name: len(text) for name, text in self.fields.items()}
        for name, members in (("cache", self.cache), ("eventsTriggered", self.events)):
            sizes[name] = object_size({key: len(text) for key, text in members.items()})
        return object_size(sizes)

    def without_steps(self) -> EncodedState:
        """Return the fields alone. To decode them costs the same however many steps there are."""
        return EncodedState(fields=self.fields, cache={}, events={})


def object_size(sizes: Mapping[str, int]) -> int:
    """Return how many bytes a JSON object has, given the bytes of its members' values by their names."""
    return (
        len(encode(list(sizes), "")) + len(sizes) + sum(sizes.values())
    )  # the list has the commas, and all but colons


def encode_state(state: FlowState) -> EncodedState:
    """Encode the state.

    Raises:
        FlowStateEncodeError: A value cannot be stored without loss; `path` names it.
    """
    try:
        fields = {
            wire_name: encode_field(name, getattr(state, name))
            for name, wire_name in state.wire_names.items()
            if name not in _BY_STEP and state.has(name)
        }
        for key, value in unknown_of(state).items():
            fields[key] = encode(value, key)
        cache, events = encode_cache(state.cache), encode_events(state.events_triggered)
    except FlowStateEncodeError:
        check_storable(values_by_path(state))
        raise
    return EncodedState(fields=fields, cache=cache, events=events)


def decode_state(encoded: EncodedState, *, flow_id: str) -> FlowState:
    """Decode the state that is stored under the id."""
    wire = {name: decode(text) for name, text in encoded.fields.items()}
    wire["cache"] = {step: decode(text) for step, text in encoded.cache.items()}
    wire["eventsTriggered"] = {step: decode(text) for step, text in encoded.events.items()}
    return state_from_wire(wire, flow_id=flow_id)


def check_storable(values: Iterable[tuple[str, Any]]) -> None:
    """Encode the values, so that an error has the path that comes with the value: the one an application would write.

    Called after a failure, since the paths within the wire form have other names.
    """
    for path, value in values:
        encode(value, path)


def encode_field(name: str, value: Any) -> bytes:
    """Return the JSON of a field by its Python name; not for cache and events."""
    if name == "executions":
        return encode(executions_to_wire(value), name, around=AROUND)
    return encode(to_wire(value), name, around=AROUND) if isinstance(value, WireModel) else encode(value, name)


def encode_cache(cache: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the JSON of each entry by its step."""
    encoded = {}
    for step, entry in cache.items():
        path = in_cache(step)
        encoded[_name(step, "cache")] = encode(to_wire(entry), path, around=1)
    return encoded


def encode_events(events: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the JSON of each payload by its step."""
    return {_name(step, "events_triggered"): encode(event, in_events(step)) for step, event in events.items()}


def _name(name: Any, container: str) -> str:
    """Return the name as text if JSON can have it as a key, else raise FlowStateEncodeError."""
    if type(name) is not str or not name.isascii():
        encode({name: 0}, container)
    return str(name)


def state_from_wire(wire: Mapping[str, Any], *, flow_id: str) -> FlowState:
    """Return the flow state of a wire form that was stored under the id.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema; the text names the first place that does not.
    """
    if (path := _wrong_member(wire)) is not None:
        raise _unreadable(flow_id, f"{path}: not of the type that belongs there")
    try:
        # The keys are wire names. A key that is the Python name of a field is an unknown key, and stays one.
        return FlowState.model_validate(wire, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"])) or "the document"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise _unreadable(flow_id, f"{path:.200}: {first['msg']}{more}") from error


def _wrong_member(wire: Mapping[str, Any]) -> str | None:
    """Return the path of the first member of a list or map that is of a wrong type.

    Called before pydantic validates. Validation makes an error for each wrong member, which takes hundreds of times the
    bytes that the member takes in a document.
    """
    cache, executions = wire.get("cache"), wire.get("executions")
    if isinstance(cache, dict):
        for step, entry in cache.items():
            if not isinstance(entry, dict):
                return f"cache.{step:.100}"
    if isinstance(executions, list):
        for index, execution in enumerate(executions):
            if not isinstance(execution, dict):
                return f"executions.{index}"
            trace_ids = execution.get("traceIds")
            if isinstance(trace_ids, list) and not all(isinstance(trace_id, str) for trace_id in trace_ids):
                return f"executions.{index}.traceIds"
    return None


def _unreadable(flow_id: str, why: str) -> FlowStateDecodeError:
    return FlowStateDecodeError(f"The flow state {flow_id!r} cannot be read: {why}", flow_id=flow_id)


def detached(value: _Value) -> _Value:
    """Return a copy of the value that shares nothing with it that can be changed, down to the depth that can be stored.

    Dicts, lists and models are copied by hand, twice as fast as by copy.deepcopy. So are dataclasses, since what that
    makes of a value in them may be stored as another value.
    """
    copied: _Value = _detached(value, 0)
    return copied


def _detached(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _IMMUTABLE or depth > MAX_DEPTH + 10:  # deeper ones are refused in any case when they are encoded
        return value
    if kind is dict:
        return {key: _detached(member, depth + 1) for key, member in value.items()}
    if kind is list:
        return [_detached(member, depth + 1) for member in value]
    if isinstance(value, WireModel):
        copied = value.model_copy()
        for name, member in value.__dict__.items():
            copied.__dict__[name] = _detached(member, depth + 1)
        if copied.__pydantic_extra__:
            copied.__pydantic_extra__.update(
                {name: _detached(member, depth + 1) for name, member in copied.__pydantic_extra__.items()}
            )
        return copied
    if isinstance(value, (datetime, enum.Enum)):  # a copy of Google's datetime lacks its nanoseconds
        return value
    if kind is tuple:
        return tuple([_detached(member, depth + 1) for member in value])
    try:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        return _with_copied_fields(value, depth) if _is_plain_dataclass(value) else copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # by a method of the application's, or of what it holds, such as a lock
        return _taken_apart(value, depth)


def _is_plain_dataclass(value: Any) -> bool:
    """Return whether layouts store the value as the fields of a dataclass, and not as another type that it is too."""
    return (
        dataclasses.is_dataclass(value)
        and not is_of_pydantic(value)
        and not isinstance(value, (type, str, int, float, Mapping, list, tuple))
    )


def _with_copied_fields(value: Any, depth: int) -> Any:
    """Return a copy of a dataclass, made without its methods. What is no field of it is shared, and is not stored."""
    copied = object.__new__(type(value))
    if hasattr(value, "__dict__"):
        copied.__dict__.update(value.__dict__)
    for field in dataclasses.fields(value):
        if hasattr(value, field.name):  # otherwise it is refused when it is encoded
            object.__setattr__(copied, field.name, _detached(getattr(value, field.name), depth + 1))
    return copied


def _taken_apart(value: Any, depth: int) -> Any:
    """Return a copy of what Python cannot copy: of another type, which each layout stores as the same."""
    try:
        if isinstance(value, Mapping):
            return {key: _detached(value[key], depth + 1) for key in value}
        if isinstance(value, (list, tuple)):
            return [_detached(member, depth + 1) for member in value]
        if _is_plain_dataclass(value):
            return {field.name: _detached(getattr(value, field.name), depth + 1) for field in dataclasses.fields(value)}
        if firestore_form(value) is not None:
            return value  # its JSON form is of another type in the native layout
        return plain(value, "")
    except Exception:  # noqa: BLE001  # what cannot be stored is refused when it is encoded, with its path
        return value
