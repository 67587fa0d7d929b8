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
    """A segment unpacked, or several merged.

    Attributes:
        set: The entry of each step that is set.
        delete: The names of the steps that are removed before these are set.
        events: The payload of each event.
    """

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
    """Return the segments merged, each on top of those before it.

    Args:
        log: The segments, without late duplicates.
        resolved: The bytes of each reference, by its name.
        context: The context of the document.

    Raises:
        FlowStateDecodeError: A value cannot be read; the text says which.
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
    """Return the segments merged, given their unpacked values in the order of `packed_values`.

    Raises:
        FlowStateDecodeError: A value is not of the type it should be; the text says which.
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
        raise FlowStateDecodeError(f"log.{segment.id}.{name} is not {'an array' if kind is list else 'an object'}")
    return value


def distinct(log: Sequence[Segment]) -> list[Segment]:
    """Return the segments without late duplicates: without those whose id an earlier segment has or remembers.

    A network may deliver a commit twice, so that its segment is appended again. A segment that remembers other ids is
    never left out: a compaction or a save of the whole state has put it in the place of others.
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
    """Return every revision that a log without late duplicates has or remembers, oldest first.

    The last of them is the revision of the state.
    """
    ids: dict[str, None] = {}
    for segment in log:
        for id in segment.ids:
            ids.setdefault(id)
        ids.setdefault(segment.id)
    return list(ids)
