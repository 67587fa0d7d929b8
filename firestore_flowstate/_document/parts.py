"""Parts: the bytes of values too large for the root, in immutable documents of a subcollection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

from .._rpc.messages import Document
from ..errors import FlowStateDecodeError
from .head import EXPIRY
from .stored_values import PART_BYTES, PartRef, part_ids

COLLECTION: Final = "flowstate-parts"
DATA: Final = "data"
MAX_STATE_PARTS: Final = 20_000  # of one state; a root of nothing but references has room for about 16,000
EXPIRY_MARGIN: Final = timedelta(days=7)  # parts outlive their root


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
