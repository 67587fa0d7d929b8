"""Stored values: packed bytes in a root, or a reference to the parts that have them; and the segments made of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeAlias

from .._limits import new_id
from .._rpc.messages import Document, Value
from ..errors import FlowStateDecodeError, FlowStateTooLargeError
from .head import EXPIRY

MAX_PARTS: Final = 1000  # of one value, which fills about 540 at most: MAX_VALUE_BYTES is 512 MiB
PART_BYTES: Final = 1_000_000  # of one part: with its name it is below the 1 MiB of a document
ROOT_BYTES: Final = 512 * 1024  # what a saved root may have: the rest up to 1 MiB is room for steps of updates
INLINE_BYTES: Final = 64 * 1024  # larger values of an update go to parts at once
_PART_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_REF_BYTES: Final = 80  # about what a reference takes in the root
MAX_IDS: Final = 64  # earlier revisions that a segment remembers at most
SEGMENT_WEIGHT: Final = 1000  # bytes that take as long to read as the segment around them
_REFERENCE_WEIGHT: Final = 100  # of a segment whose values are all in parts, in bytes

_PATHS: Final = {"log": "cache", "blockedOnStep": "blocked_on_step", "traceContext": "trace_context"}

PARTS: Final = "flowstate-parts"
DATA: Final = "data"
MAX_STATE_PARTS: Final = 20_000  # of one state: a root has room for about 16,000 references of one part each
EXPIRY_MARGIN: Final = timedelta(days=7)  # by which parts outlive their root, so that TTL never takes them first


@dataclass(frozen=True)
class PartRef:
    """Stands in a root in the place of a value that is too large for it, and whose bytes are in parts.

    Attributes:
        field: The payload value that it stands for; "log" for a value of a segment.
        name: The name that its parts share: part i has the id ``name-i``.
        count: How many parts there are.
        bytes: How many bytes they have together.
    """

    field: str
    name: str
    count: int
    bytes: int

    def part_names(self) -> list[str]:
        """Return the ids of the part documents, in order."""
        return [f"{self.name}-{index}" for index in range(self.count)]

    def is_sound(self) -> bool:
        """Return whether part documents can have such ids, and can hold as many bytes."""
        if not _PART_NAME.fullmatch(self.name):
            return False
        return 0 < self.count <= MAX_PARTS and 0 <= self.bytes <= self.count * PART_BYTES


Stored: TypeAlias = bytes | PartRef
"""A packed payload value: its bytes, or the reference to the parts that have them."""


@dataclass
class Spill:
    """The values that leave a root for parts.

    Attributes:
        room: How many bytes values may take in the root.
        moved: The references to the values that have left, each with the bytes of its value.
    """

    room: int
    moved: list[tuple[PartRef, bytes]] = field(default_factory=list)

    @property
    def refs(self) -> tuple[PartRef, ...]:
        """The references to the values that have left."""
        return tuple(ref for ref, _ in self.moved)

    @property
    def count(self) -> int:
        """How many part documents there are."""
        return part_count(self.refs)

    def move(self, field: str, stored: bytes) -> PartRef:
        """Move the bytes of a value of this field out; return the reference to them."""
        ref = PartRef(field, new_id().replace("-", "_"), -(-len(stored) // PART_BYTES), len(stored))
        self.moved.append((ref, stored))
        return ref

    def move_largest(self, values: Mapping[str, Stored]) -> dict[str, Stored]:
        """Move the largest values out until the rest fits the room; return all values, references among them.

        Args:
            values: The values by their field; those of a segment as ``log.set`` and so on.
        """
        kept = dict(values)
        inside = {name: stored for name, stored in values.items() if isinstance(stored, bytes)}
        total = sum(map(len, inside.values()))
        if total <= self.room:
            return kept
        for name, stored in sorted(inside.items(), key=lambda item: len(item[1]), reverse=True):
            if total <= self.room or len(stored) <= _REF_BYTES:
                break
            kept[name] = self.move(name.partition(".")[0], stored)
            total += _REF_BYTES - len(stored)
        return kept

    def move_if_large(self, field: str, stored: bytes) -> Stored:
        """Move the value out if it has more than 64 KiB, the most that an update leaves inline; return what stays."""
        return self.move(field, stored) if len(stored) > INLINE_BYTES else stored


def part_count(refs: Iterable[PartRef]) -> int:
    """Return how many part documents references stand for."""
    return sum(ref.count for ref in refs)


def largest_field(refs: Iterable[PartRef]) -> str:
    """Return the path of the payload value, as an application writes it, that the largest of references stands for."""
    largest = max(refs, key=lambda ref: ref.bytes).field
    return _PATHS.get(largest, largest)


def too_many_parts(count: int, *, most: int, path: str) -> FlowStateTooLargeError:
    """Return the error of a write that would let a root refer to more parts than it may.

    Args:
        count: How many parts it would refer to.
        most: How many it may refer to.
        path: The path of the largest value that is to be in parts.
    """
    return FlowStateTooLargeError(
        f"The flow state would be in {count:,} parts of up to 1,000,000 bytes, and may be in {most:,}; the largest "
        f"value is {path}. Make it smaller. If large steps were set again, load the state and save it, which leaves "
        "their old values out.",
        path=path,
        size=count,
        limit=most,
    )


def part_ids(refs: Iterable[PartRef]) -> list[str]:
    """Return the ids of the part documents of references, each once: a late duplicate of a segment has them too."""
    return list(dict.fromkeys(name for ref in refs for name in ref.part_names()))


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One write to cache and events: removes steps, then sets steps and events.

    Attributes:
        id: A random id: the revision that the write made.
        set: Packed JSON of the steps that it sets, ``{step: entry}``.
        delete: Packed JSON of the names of steps that it removes before, ``[step]``.
        events: Packed JSON of the events that it sets, ``{step: payload}``.
        ids: Earlier revisions that it stands for, oldest first; at most 64.
    """

    id: str
    set: Stored | None = None
    delete: Stored | None = None
    events: Stored | None = None
    ids: tuple[str, ...] = ()

    def values(self) -> dict[str, Stored]:
        """Return the packed values by the names that they have in the document."""
        values: dict[str, Stored] = {}
        if self.set is not None:
            values["set"] = self.set
        if self.delete is not None:
            values["del"] = self.delete
        if self.events is not None:
            values["events"] = self.events
        return values

    def weight(self) -> int:
        """Return the weight of the segment in a root. It is low if all values are in parts, which compaction leaves."""
        values = (self.set, self.delete, self.events)
        inside = [len(value) for value in values if isinstance(value, bytes)]
        if inside or values == (None, None, None):
            return SEGMENT_WEIGHT + sum(inside)
        return _REFERENCE_WEIGHT


def with_values(segment: Segment, values: Mapping[str, Stored]) -> Segment:
    """Return the segment with some of its values replaced; these are given by their names in the document."""
    fields: dict[str, Any] = {{"del": "delete"}.get(name, name): stored for name, stored in values.items()}
    return replace(segment, **fields) if fields else segment


def bytes_of(stored: Stored, resolved: Mapping[str, bytes]) -> bytes:
    """Return the bytes of a packed value; `resolved` has those of references by their names."""
    return resolved[stored.name] if isinstance(stored, PartRef) else stored


def write_stored(value: Value, stored: Stored) -> None:
    """Fill a protobuf value with a packed payload value or a reference."""
    if isinstance(stored, PartRef):
        fields = value.map_value.fields
        fields["part"].string_value = stored.name
        fields["count"].integer_value = stored.count
        fields["bytes"].integer_value = stored.bytes
    elif stored[:1] == b"\xf5":
        value.bytes_value = stored
    else:
        value.string_value = stored  # JSON text; protobuf takes UTF-8 as it is


def write_segment(value: Value, segment: Segment) -> None:
    """Fill a protobuf value with a segment."""
    fields = value.map_value.fields
    fields["id"].string_value = segment.id
    for name, stored in (("set", segment.set), ("del", segment.delete), ("events", segment.events)):
        if stored is not None:
            write_stored(fields[name], stored)
    if segment.ids:
        ids = fields["ids"].array_value.values
        for id in segment.ids:
            ids.add().string_value = id


def write_log(fields: Any, log: Sequence[Segment]) -> None:
    """Fill the fields of the payload map for the log: the segments and their weight."""
    segments = fields["log"].array_value
    segments.SetInParent()
    for segment in log:
        write_segment(segments.values.add(), segment)
    fields["weight"].integer_value = sum(segment.weight() for segment in log)


def write_part(document: Document, data: bytes, index: int) -> None:
    """Fill the document of one part with its share of the bytes of a value."""
    document.fields[DATA].bytes_value = data[index * PART_BYTES : (index + 1) * PART_BYTES]


def data_of(part: Document | None) -> bytes:
    """Return the bytes of a part; none if it is gone, or has something else in their place."""
    return b"" if part is None else part.fields[DATA].bytes_value


def write_part_expiry(document: Document, expire_at: datetime | None) -> None:
    """Let a part expire seven days after its root, or never if its root does not expire.

    Args:
        document: The document of the part.
        expire_at: When the root expires; None: it does not.
    """
    if expire_at is None:
        document.fields.pop(EXPIRY, None)
    else:
        document.fields[EXPIRY].timestamp_value.FromDatetime(outlived(expire_at))


def outlived(expire_at: datetime) -> datetime:
    """Return when the parts of a root expire, given when the root does."""
    try:
        return expire_at + EXPIRY_MARGIN
    except OverflowError:  # after the year 9999, which neither datetime nor Firestore can hold
        return datetime.max.replace(tzinfo=timezone.utc)


def resolve(refs: Sequence[PartRef], parts: Mapping[str, Document]) -> dict[str, bytes] | None:
    """Return the bytes of each reference by its name; None if a part is missing.

    Raises:
        FlowStateDecodeError: A part is damaged.
    """
    if any(name not in parts for name in part_ids(refs)):
        return None
    return {ref.name: join(ref, parts) for ref in refs}


def join(ref: PartRef, parts: Mapping[str, Document]) -> bytes:
    """Return the bytes of a reference.

    Args:
        ref: The reference.
        parts: The part documents by their ids, with all of this reference.

    Raises:
        FlowStateDecodeError: A part is damaged.
    """
    chunks = []
    for name in ref.part_names():
        fields = parts[name].fields
        if DATA not in fields or fields[DATA].WhichOneof("value_type") != "bytes_value":
            raise FlowStateDecodeError(f"its part {name!r} has no data")
        chunks.append(fields[DATA].bytes_value)
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if len(data) != ref.bytes:
        raise FlowStateDecodeError(f"its parts {ref.name!r} have {len(data):,} bytes instead of {ref.bytes:,}")
    return data
