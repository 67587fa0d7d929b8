"""The log read: its segments merged in the order of their commits, and with the values of the root to a state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import FlowStateDecodeError
from ..models import FlowState
from .encoded_state import state_from_wire
from .native_values import ReferenceOf, read_value
from .payload import DocumentContext
from .root import HEAD_FIELDS, NATIVE_FIELDS, Root
from .stored_values import Segment, bytes_of

_NOT_UNKNOWN: Final = frozenset(FlowState.wire_names.values()) - {"name"}  # a null name is kept in extra


def read_state(
    root: Root, resolved: Mapping[str, bytes], context: DocumentContext, *, flow_id: str, native: ReferenceOf
) -> FlowState:
    """Return the flow state of a root and its parts.

    Args:
        root: The root.
        resolved: The bytes of each reference, by its name.
        context: Where it is kept.
        flow_id: The id it is stored under.
        native: Makes references of values that others put into the head.

    Raises:
        FlowStateDecodeError: A value cannot be read; says which.
    """
    wire: dict[str, Any] = {
        name: read_value(value, native)
        for name, value in root.head.items()
        if name not in HEAD_FIELDS or name in ("flowId", "name", "startTime")
    }
    if clash := NATIVE_FIELDS & wire.keys():
        raise FlowStateDecodeError(f"it has both {', '.join(sorted(clash))} and _flowstate: two writers mixed layouts")
    packed = [(name, bytes_of(stored, resolved)) for name, stored in root.values.items()]
    unpacked = context.unpack_each(packed + packed_values(root.unique_log, resolved))
    values = {name: next(unpacked) for name in root.values}
    extra = values.pop("extra", {})
    if not isinstance(extra, dict):
        raise FlowStateDecodeError("extra is not an object")
    if taken := _NOT_UNKNOWN & extra.keys():
        raise FlowStateDecodeError(f"extra has {', '.join(sorted(taken))}, which have a place of their own")
    merged = merge_unpacked(root.unique_log, unpacked)
    # A partial write sets an unknown key in the head, whatever the payload has under that name.
    wire = {**extra, **wire, **values, "cache": merged.set, "eventsTriggered": merged.events}
    return state_from_wire(wire, flow_id=flow_id)


@dataclass(kw_only=True)
class Entries:
    """A segment unpacked, or several compacted into one."""

    set: dict[str, Any] = field(default_factory=dict)
    delete: dict[str, None] = field(default_factory=dict)
    events: dict[str, Any] = field(default_factory=dict)

    def add(self, set: Mapping[str, Any], delete: Iterable[str], events: Mapping[str, Any]) -> None:
        """Put a later segment on top. A step that is set again keeps its place unless it was removed."""
        for step in delete:
            self.set.pop(step, None)
            self.delete[step] = None
        self.set.update(set)
        self.events.update(events)


def merge(log: Sequence[Segment], resolved: Mapping[str, bytes], context: DocumentContext) -> Entries:
    """Return what the segments come to, one on top of the other.

    Args:
        log: The segments, without late duplicates.
        resolved: The bytes of each reference, by its name.
        context: Where they are kept.

    Raises:
        FlowStateDecodeError: A value cannot be read; says which.
    """
    return merge_unpacked(log, context.unpack_each(packed_values(log, resolved)))


def packed_values(log: Sequence[Segment], resolved: Mapping[str, bytes]) -> list[tuple[str, bytes]]:
    """Return the packed values of the segments, each with its logical name, in the order of `merge_unpacked`."""
    packed: list[tuple[str, bytes]] = []
    for segment in log:
        for name, value in (("set", segment.set), ("del", segment.delete), ("events", segment.events)):
            if value is not None:
                packed.append((f"log.{segment.id}.{name}", bytes_of(value, resolved)))
    return packed


def merge_unpacked(log: Sequence[Segment], values: Iterator[Any]) -> Entries:
    """Return what the segments come to, given what their packed values hold.

    Raises:
        FlowStateDecodeError: A value is not of the type it should be; says which.
    """
    merged = Entries()
    for segment in log:
        steps = {} if segment.set is None else _checked(next(values), dict, segment, "set")
        removed = [] if segment.delete is None else _checked(next(values), list, segment, "del")
        events = {} if segment.events is None else _checked(next(values), dict, segment, "events")
        if removed and not all(isinstance(step, str) for step in removed):
            raise FlowStateDecodeError(f"log.{segment.id}.del does not name steps")
        merged.add(steps, removed, events)
    return merged


def _checked(value: Any, kind: type, segment: Segment, name: str) -> Any:
    if type(value) is not kind:
        raise FlowStateDecodeError(f"log.{segment.id}.{name} is not what it should be")
    return value
