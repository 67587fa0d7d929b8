"""The log: the cache and the events of a flow state as segments, in the order they were committed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

MAX_IDS: Final = 64  # how many covered revisions a segment remembers
SEGMENT_WEIGHT: Final = 1000  # what reading one more segment costs, in bytes
MAX_PARTS: Final = 1000  # of one value; what a value may have fills about 540
MAX_STATE_PARTS: Final = 20_000  # of one state; a root of nothing but references has room for about 16,000
PART_BYTES: Final = 1_000_000
_REFERENCE_WEIGHT: Final = 100
_PART_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Ref:
    """Stands where a value was too large for the root: its bytes are in parts.

    Attributes:
        name: The name its parts share; part i is called ``name-i``.
        count: How many parts there are.
        size: The bytes of all of them together.
    """

    name: str
    count: int
    size: int

    def part_names(self) -> list[str]:
        """Return the ids of the part documents, in order."""
        return [f"{self.name}-{index}" for index in range(self.count)]

    def is_sound(self) -> bool:
        """Return whether documents can have such names, and hold as many bytes."""
        if not _PART_NAME.fullmatch(self.name):
            return False
        return 0 < self.count <= MAX_PARTS and 0 <= self.size <= self.count * PART_BYTES


Stored: TypeAlias = bytes | Ref
"""A packed payload value, or where its bytes are."""


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


def new_id() -> str:
    """Return a random id: 64 bits, as 11 characters."""
    return secrets.token_urlsafe(8)


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
