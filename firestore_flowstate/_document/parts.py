"""Parts: the bytes of values too large for the root, in immutable documents of a subcollection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from .._rpc.messages import Document
from ..errors import FlowStateDecodeError
from .log import PART_BYTES, Ref, Segment, Stored, new_id

COLLECTION: Final = "flowstate-parts"
DATA: Final = "data"
EXPIRY: Final = "expireAt"
INLINE_BYTES: Final = 64 * 1024  # larger values of an update go to parts at once
EXPIRY_MARGIN: Final = timedelta(days=7)  # parts outlive their root

_REF_BYTES: Final = 80  # about what a reference takes in the root


@dataclass
class Spill:
    """The values that leave a root for parts.

    Attributes:
        room: The bytes that values may take in the root.
        refs: What left, by the reference that stands in its place.
    """

    room: int
    refs: list[tuple[Ref, bytes]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many part documents there are."""
        return sum(ref.count for ref, _ in self.refs)

    def part_names(self) -> list[str]:
        """Return the ids of the part documents, in order."""
        return [name for ref, _ in self.refs for name in ref.part_names()]

    def move(self, stored: bytes) -> Ref:
        """Move the bytes out; return the reference to them."""
        ref = Ref(new_id().replace("-", "_"), -(-len(stored) // PART_BYTES), len(stored))
        self.refs.append((ref, stored))
        return ref

    def largest(self, values: Mapping[str, Stored], segment: Segment) -> tuple[dict[str, Stored], Segment]:
        """Return the values and the segment with the largest moved out, until the rest fits the room."""
        kept: dict[str, Stored] = dict(values)
        inside = segment.values()
        total = sum(len(stored) for stored in (*kept.values(), *inside.values()) if isinstance(stored, bytes))
        if total <= self.room:
            return kept, segment
        named = [(name, stored, None) for name, stored in kept.items()]
        of_log = [("", stored, name) for name, stored in inside.items()]
        candidates = [(len(s), top, s, name) for top, s, name in (*named, *of_log) if isinstance(s, bytes)]
        moved: dict[str, Ref] = {}
        for size, top, stored, name in sorted(candidates, key=lambda c: c[0], reverse=True):
            if total <= self.room or size <= _REF_BYTES:
                break
            ref = self.move(stored)
            total += _REF_BYTES - size
            if name is None:
                kept[top] = ref
            else:
                moved[name] = ref
        return kept, with_values(segment, moved)

    def large(self, stored: bytes) -> Stored:
        """Return the value, or a reference where it is too large for an update to leave in the root."""
        return self.move(stored) if len(stored) > INLINE_BYTES else stored


def with_values(segment: Segment, values: Mapping[str, Stored]) -> Segment:
    """Return the segment with some of its values replaced, by their names in the document."""
    fields: dict[str, Any] = {{"del": "delete"}.get(name, name): stored for name, stored in values.items()}
    return replace(segment, **fields) if fields else segment


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


def resolve(refs: Sequence[Ref], parts: Mapping[str, Document]) -> dict[str, bytes] | None:
    """Return the bytes of each reference by its name; None where a part is missing.

    Raises:
        FlowStateDecodeError: A part is damaged.
    """
    if any(name not in parts for ref in refs for name in ref.part_names()):
        return None
    return {ref.name: join(ref, parts) for ref in refs}


def join(ref: Ref, parts: Mapping[str, Document]) -> bytes:
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
    if len(data) != ref.size:
        raise FlowStateDecodeError(f"its parts {ref.name!r} have {len(data):,} bytes instead of {ref.size:,}")
    return data
