"""A flow state as encoded JSON, not as one text: each step, each event and every other field by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .._limits import in_cache, in_events
from ..models import FlowState, WireModel
from .json_text import decode, encode
from .wire import executions_to_wire, state_from_wire, to_wire, unknown_of

_BY_STEP: Final = ("cache", "events_triggered")


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedState:
    """The JSON of each field, step and event of a flow state.

    Attributes:
        fields: Every present field by its wire name, unknown keys likewise, but cache and events.
        cache: The entry of each step, in their order.
        events: The payload of each event, in their order.
    """

    fields: Mapping[str, bytes]
    cache: Mapping[str, bytes]
    events: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """About how many bytes of JSON the flow state has."""
        parts = (self.fields, self.cache, self.events)
        return sum(len(name) + len(text) for part in parts for name, text in part.items())

    def without_steps(self) -> EncodedState:
        """Return the fields alone, which cost the same to decode however many steps there are."""
        return EncodedState(fields=self.fields, cache={}, events={})


def encode_state(state: FlowState) -> EncodedState:
    """Encode the state.

    Raises:
        FlowStateEncodeError: A value cannot be stored without loss; says where.
    """
    fields = {
        wire_name: encode_field(name, getattr(state, name))
        for name, wire_name in state.wire_names.items()
        if name not in _BY_STEP and state.has(name)
    }
    for key, value in unknown_of(state).items():
        fields[key] = encode(value, key)
    return EncodedState(fields=fields, cache=encode_cache(state.cache), events=encode_events(state.events_triggered))


def decode_state(encoded: EncodedState, *, flow_id: str) -> FlowState:
    """Decode the state that is stored under the id."""
    wire = {name: decode(text) for name, text in encoded.fields.items()}
    wire["cache"] = {step: decode(text) for step, text in encoded.cache.items()}
    wire["eventsTriggered"] = {step: decode(text) for step, text in encoded.events.items()}
    return state_from_wire(wire, flow_id=flow_id)


def encode_field(name: str, value: Any) -> bytes:
    """Return the JSON of a field by its Python name; not for cache and events."""
    if name == "executions":
        value = executions_to_wire(value)
    elif isinstance(value, WireModel):
        value = to_wire(value)
    return encode(value, name)


def encode_cache(cache: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the JSON of each entry by its step."""
    encoded = {}
    for step, entry in cache.items():
        path = in_cache(step)
        encoded[_name(step, "cache")] = encode(to_wire(entry), path)
    return encoded


def encode_events(events: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the JSON of each payload by its step."""
    return {_name(step, "events_triggered"): encode(event, in_events(step)) for step, event in events.items()}


def _name(name: Any, container: str) -> str:
    """Return the name if JSON can have it as a key, else raise FlowStateEncodeError."""
    if type(name) is not str or not name.isascii():
        encode({name: 0}, container)
    return str(name)
