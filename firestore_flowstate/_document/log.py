"""The log: the cache and the events of a flow state as segments in the order of their commits, and their merging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..errors import FlowStateDecodeError
from .parts import PartRef, Stored
from .payload import DocumentContext

MAX_IDS: Final = 64  # how many covered revisions a segment remembers
SEGMENT_WEIGHT: Final = 1000  # what reading one more segment costs, in bytes
_REFERENCE_WEIGHT: Final = 100


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One write to cache and events: removes steps, then sets steps and events.

    Attributes:
        id: Random; the revision that the write made.
        set: Packed JSON of the steps set, ``{step: entry}``.
        delete: Packed JSON of the steps removed before, ``[step]``.
        events: Packed JSON of the events set, ``{step: payload}``.
        ids: Earlier revisions that it covers, oldest first; at most 64.
    """

    id: str
    set: Stored | None = None
    delete: Stored | None = None
    events: Stored | None = None
    ids: tuple[str, ...] = ()

    def values(self) -> dict[str, Stored]:
        """Return the packed values by the name they have in the document."""
        values: dict[str, Stored] = {}
        if self.set is not None:
            values["set"] = self.set
        if self.delete is not None:
            values["del"] = self.delete
        if self.events is not None:
            values["events"] = self.events
        return values

    def weight(self) -> int:
        """Return what the segment weighs inside a root. One that is all in parts cannot be compacted any further."""
        values = (self.set, self.delete, self.events)
        inside = [value for value in values if isinstance(value, bytes)]
        if inside or values == (None, None, None):
            return SEGMENT_WEIGHT + sum(map(len, inside))
        return _REFERENCE_WEIGHT


def with_values(segment: Segment, values: Mapping[str, Stored]) -> Segment:
    """Return the segment with some of its values replaced, by their names in the document."""
    fields: dict[str, Any] = {{"del": "delete"}.get(name, name): stored for name, stored in values.items()}
    return replace(segment, **fields) if fields else segment


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


def merge(log: Sequence[Segment], resolved: Mapping[str, bytes], context: DocumentContext) -> Entries:
    """Return what the segments come to, one on top of the other.

    Args:
        log: The segments, without late duplicates.
        resolved: The bytes of each reference, by its name.
        context: Where they are kept.

    Raises:
        FlowStateDecodeError: A value cannot be read; says which.
    """
    stored: list[tuple[str, bytes]] = []
    for segment in log:
        for name, value in (("set", segment.set), ("del", segment.delete), ("events", segment.events)):
            if value is not None:
                stored.append((f"log.{segment.id}.{name}", bytes_of(value, resolved)))
    values = context.unpack_each(stored)
    merged = Entries()
    for segment in log:
        steps = {} if segment.set is None else _checked(next(values), dict, segment, "set")
        removed = [] if segment.delete is None else _checked(next(values), list, segment, "del")
        events = {} if segment.events is None else _checked(next(values), dict, segment, "events")
        if not all(isinstance(step, str) for step in removed):
            raise FlowStateDecodeError(f"log.{segment.id}.del does not name steps")
        merged.add(steps, removed, events)
    return merged


def bytes_of(stored: Stored, resolved: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a packed value, those of a reference from what it was resolved to."""
    return resolved[stored.name] if isinstance(stored, PartRef) else stored


def _checked(value: Any, kind: type, segment: Segment, name: str) -> Any:
    if type(value) is not kind:
        raise FlowStateDecodeError(f"log.{segment.id}.{name} is not what it should be")
    return value
