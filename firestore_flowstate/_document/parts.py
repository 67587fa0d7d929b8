"""Parts: the bytes of values too large for the root, in immutable documents of a subcollection."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final, TypeAlias

from .._limits import new_id
from .._rpc.messages import Document
from ..errors import FlowStateDecodeError

COLLECTION: Final = "flowstate-parts"
DATA: Final = "data"
EXPIRY: Final = "expireAt"
MAX_PARTS: Final = 1000  # of one value; what a value may have fills about 540
MAX_STATE_PARTS: Final = 20_000  # of one state; a root of nothing but references has room for about 16,000
PART_BYTES: Final = 1_000_000
INLINE_BYTES: Final = 64 * 1024  # larger values of an update go to parts at once
EXPIRY_MARGIN: Final = timedelta(days=7)  # parts outlive their root

_PART_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_REF_BYTES: Final = 80  # about what a reference takes in the root


@dataclass(frozen=True)
class PartRef:
    """Stands in a root in the place of a value that is too large for it, and whose bytes are in parts.

    Attributes:
        field: The payload value that it stands for; "log" for a value of a segment.
        name: The name that its parts share; part i is called ``name-i``.
        count: How many parts there are.
        bytes: The bytes of all of them together.
    """

    field: str
    name: str
    count: int
    bytes: int

    def part_names(self) -> list[str]:
        """Return the ids of the part documents, in order."""
        return [f"{self.name}-{index}" for index in range(self.count)]

    def is_sound(self) -> bool:
        """Return whether documents can have such names, and hold as many bytes."""
        if not _PART_NAME.fullmatch(self.name):
            return False
        return 0 < self.count <= MAX_PARTS and 0 <= self.bytes <= self.count * PART_BYTES


Stored: TypeAlias = bytes | PartRef
"""A packed payload value, or where its bytes are."""


@dataclass
class Spill:
    """The values that leave a root for parts.

    Attributes:
        room: The bytes that values may take in the root.
        moved: What left, by the reference that stands in its place.
    """

    room: int
    moved: list[tuple[PartRef, bytes]] = field(default_factory=list)

    @property
    def refs(self) -> tuple[PartRef, ...]:
        """The references to what left."""
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
        """Return the values with the largest moved out, until the rest fits the room.

        Args:
            values: The values by their field; those of a segment as ``log.set`` and so on.
        """
        kept = dict(values)
        inside = {name: stored for name, stored in values.items() if isinstance(stored, bytes)}
        total = sum(map(len, inside.values()))
        for name, stored in sorted(inside.items(), key=lambda item: len(item[1]), reverse=True):
            if total <= self.room or len(stored) <= _REF_BYTES:
                break
            kept[name] = self.move(name.partition(".")[0], stored)
            total += _REF_BYTES - len(stored)
        return kept

    def move_if_large(self, field: str, stored: bytes) -> Stored:
        """Return the value, or a reference if it is too large for an update to leave in the root."""
        return self.move(field, stored) if len(stored) > INLINE_BYTES else stored


def part_count(refs: Iterable[PartRef]) -> int:
    """Return how many part documents references stand for."""
    return sum(ref.count for ref in refs)


def part_ids(refs: Iterable[PartRef]) -> list[str]:
    """Return the ids of the part documents that references stand for, each once: a late duplicate repeats its own."""
    return list(dict.fromkeys(name for ref in refs for name in ref.part_names()))


def write_part(document: Document, data: bytes, index: int) -> None:
    """Fill the document of one part, which does not expire until its root is written."""
    document.fields[DATA].bytes_value = data[index * PART_BYTES : (index + 1) * PART_BYTES]


def write_part_expiry(document: Document, expire_at: datetime | None) -> None:
    """Let a part expire some days after its root, or stay as its root does.

    Args:
        document: The document of the part.
        expire_at: When the root expires; None: it does not.
    """
    if expire_at is None:
        document.fields.pop(EXPIRY, None)
    else:
        document.fields[EXPIRY].timestamp_value.FromDatetime(outlived(expire_at))


def outlived(expire_at: datetime) -> datetime:
    """Return when the parts of a root expire that expires then."""
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
        parts: The part documents by their ids; all of them.

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
