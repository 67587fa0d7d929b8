"""The head of a stored flow state: what an update must know of it, read without its steps and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from .._collection.collection import Collection, expire_after_in, expires_at, is_live
from .._commit.expectation import is_version
from .._document.expiry import EXPIRE_AFTER
from .._document.moment import moment_of
from .._document.native import owns_expiry
from .._document.parts import PartRef
from .._document.root import PAYLOAD, VALUES, check_layout, is_serialized, reference_fields, refs_in
from .._document.status_inputs import (
    NATIVE_STATUS_INPUTS,
    SERIALIZED_STATUS_INPUTS,
    native_status_inputs,
    serialized_status_inputs,
)
from .._document.version import Version
from .._rpc.deadline import Deadline
from ..errors import FlowStateDecodeError
from .reading import load_root, unreadable, version_of

_FIELDS: Final = [
    "expireAt",
    EXPIRE_AFTER,
    *(f"{PAYLOAD}.{name}" for name in ("weight", "parts", "created")),
    *SERIALIZED_STATUS_INPUTS,
    *NATIVE_STATUS_INPUTS,
    f"{PAYLOAD}.extra",
    *(field for name in VALUES if name not in ("executions", "extra") for field in reference_fields(name)),
]


class Head(NamedTuple):
    """A version, and the parts that an update of it may replace.

    Attributes:
        version: The version. Its revision is not known where only the head was read.
        replaceable: The references of its values; those of the log may not be known.
    """

    version: Version
    replaceable: Sequence[PartRef]


async def read_head(collection: Collection, id: str, deadline: Deadline) -> Head | None:
    """Return the head of what is stored; None where nothing is, or it has expired."""
    document = await collection.get(id, deadline, mask=_FIELDS)
    if document is None or not is_live(document):
        return None
    ours = is_serialized(document)
    expire_at = expires_at(document.fields)
    try:
        check_layout(document)
        status_inputs = (
            serialized_status_inputs(document, collection.context(id)) if ours else native_status_inputs(document)
        )
        replaceable = refs_in(document, VALUES) if ours else []
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error
    payload = document.fields[PAYLOAD].map_value.fields if ours else {}
    part_count = _count(payload, "parts")
    version = Version(
        updated=moment_of(document.update_time),
        revision="",
        layout="serialized" if ours else "native",
        status_inputs=status_inputs,
        weight=_count(payload, "weight"),
        part_count=part_count,
        created=payload["created"].string_value if "created" in payload else None,
        expires=None if expire_at is None else expire_at.timestamp(),
        owns_expiry=not ours and owns_expiry(document.fields),
        expire_after=expire_after_in(document.fields),
        has_extra="extra" in payload,
        part_refs=() if part_count <= 0 else None,
    )
    return Head(version, replaceable)


async def confirm(collection: Collection, id: str, base: Version, deadline: Deadline) -> Head:
    """Return a version that a text told of, as the document has it.

    Where another version is stored it has no parts: a write on top of it cannot be stored.
    """
    head = await read_head(collection, id, deadline)
    if head is not None and head.version.updated == base.updated:
        return head._replace(version=replace(head.version, revision=base.revision))
    version = await confirm_whole(collection, id, base, deadline)  # maintenance may have been there
    return Head(version, version.part_refs or ())


async def confirm_whole(collection: Collection, id: str, base: Version, deadline: Deadline) -> Version:
    """Return a version as the document has it, with all its parts, which no mask can select out of the log.

    Where another version is stored it has no parts: a write on top of it cannot be stored.
    """
    document = await collection.get(id, deadline)
    root = None if document is None else load_root(document)
    if document is None or root is None or not is_version(document, base):
        return replace(base, part_refs=())
    try:
        status_inputs = serialized_status_inputs(document, collection.context(id))
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error
    return version_of(document, root, status_inputs)


def _count(payload: Any, name: str) -> int:
    return payload[name].integer_value if name in payload else 0
