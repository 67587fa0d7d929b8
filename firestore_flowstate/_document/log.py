"""The log read: its segments in the order of their commits, without late duplicates, and merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import FlowStateDecodeError
from .payload import DocumentContext
from .stored_values import Segment, bytes_of


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


def distinct(log: Sequence[Segment]) -> list[Segment]:
    """Return the segments without late duplicates: one that comes again under an id that is known.

    A compacted segment is never left out: it stands for others.
    """
    known: set[str] = set()
    kept = []
    for segment in log:
        if segment.ids or segment.id not in known:
            kept.append(segment)
            known.update(segment.ids)
            known.add(segment.id)
    return kept


def covered_by(log: Sequence[Segment]) -> list[str]:
    """Return every revision that a log without late duplicates knows of, oldest first; the last is the state's."""
    ids: dict[str, None] = {}
    for segment in log:
        for id in segment.ids:
            ids.setdefault(id)
        ids.setdefault(segment.id)
    return list(ids)
