"""The head of a stored flow state: what an update must know of it, read without its steps and values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from .._collection.collection import Collection
from .._document.error_texts import unreadable
from .._document.parts import PartRef
from .._document.stored_document import HEAD, StoredDocument
from .._document.version import Version
from .._rpc.deadline import Deadline
from ..errors import FlowStateDecodeError


class Head(NamedTuple):
    """A version, and the parts that an update of it may replace.

    Attributes:
        version: The version. Its revision is not known if only the head was read.
        replaceable: The references of its values; those of the log may not be known.
    """

    version: Version
    replaceable: Sequence[PartRef]


async def read_head(collection: Collection, id: str, deadline: Deadline) -> Head | None:
    """Return the head of what is stored; None if nothing is, or it has expired."""
    document = await collection.get(id, deadline, mask=HEAD)
    if document is None or not document.is_live():
        return None
    try:
        document.check_layout()
        return Head(_version(collection, document), document.replaceable())
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error


async def confirm(collection: Collection, id: str, base: Version, deadline: Deadline) -> Head:
    """Return a version that a text told of, as the document has it.

    If another version is stored it has no parts: a write on top of it cannot be stored.
    """
    head = await read_head(collection, id, deadline)
    if head is not None and head.version.updated == base.updated:
        return head._replace(version=replace(head.version, revision=base.revision))
    version = await confirm_whole(collection, id, base, deadline)  # maintenance may have been there
    return Head(version, version.part_refs or ())


async def confirm_whole(collection: Collection, id: str, base: Version, deadline: Deadline) -> Version:
    """Return a version as the document has it, with all its parts, which no mask can select out of the log.

    If another version is stored it has no parts: a write on top of it cannot be stored.
    """
    document = await collection.get(id, deadline)
    if document is None or document.root is None or not base.is_of(document):
        return replace(base, part_refs=())
    try:
        return _version(collection, document)
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error


def _version(collection: Collection, document: StoredDocument) -> Version:
    return Version.of_document(document, document.status_inputs(collection.context(document.id)))
