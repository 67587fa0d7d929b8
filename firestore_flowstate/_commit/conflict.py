"""A write that was not stored: the conflict with another writer, and the withdrawal of its parts."""

from __future__ import annotations

from .._collection.collection import Collection
from .._document.stored_document import StoredDocument
from .._document.stored_values import part_ids
from .._document.version import Version
from .._error_texts import conflict
from .._rpc.deadline import Deadline
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateConflictError, FlowStateDecodeError, FlowStateError
from ..unset import UNSET, Unset
from .deleting_parts import delete_parts, guard
from .pending_write import PendingWrite

_TRIES = 3  # to delete parts, while others write


class Conflict(Exception):  # noqa: N818  # an outcome; the caller decides whether to try on top
    """Another writer was first.

    Attributes:
        error: The public error, for callers that do not try again.
        document: The document that is stored now, for another try on top of it; None if there is none.
        found: The version of that document, if the write expected none to be there.
    """

    def __init__(self, error: FlowStateError, document: StoredDocument | None, found: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.document = document
        self.found = found


def conflict_with(
    collection: Collection, id: str, version: Version, stored: StoredDocument | None
) -> FlowStateConflictError:
    """Return the error of a write that expected a version in place of what is stored."""
    found = None if stored is None else found_version(collection, stored)
    return conflict(id, expected=version.to_text(collection.name(id)), found=found)


def found_version(collection: Collection, document: StoredDocument) -> str | None:
    """Return the version of a document for an error; None if it has expired or cannot be read."""
    if not document.is_live():
        return None
    context = collection.context(document.id)
    try:
        document.read_refs()
        version = Version.of_document(document, document.status_inputs(context))
        return version.to_text(collection.name(document.id))
    except FlowStateDecodeError:
        return None


async def withdraw(
    collection: Collection, pending: PendingWrite, deadline: Deadline, *, stored: StoredDocument | Unset | None = UNSET
) -> None:
    """Delete the parts of a write that was not stored. If that fails, `gc` finds them later.

    The commit that deletes them fails if the root is not as it was read. The write may still arrive, late, with a root
    that names its parts. Or it may have been refused because its own duplicate was faster.

    Args:
        collection: The collection.
        pending: The write.
        deadline: When to give up.
        stored: The root that is stored now and does not name the parts, or None; UNSET: to be read.
    """
    names = [part.name for part in pending.parts]
    for _ in range(_TRIES):
        try:
            if isinstance(stored, Unset):
                stored = await collection.get(pending.id, deadline)
                if stored is not None:
                    named = {collection.part_name(pending.id, part) for part in part_ids(stored.read_refs())}
                    if not named.isdisjoint(names):
                        return
            unchanged = guard(collection.name(pending.id), None if stored is None else stored.updated)
            async for _ in delete_parts(collection, pending.id, unchanged, names, deadline):
                pass
        except Refused:  # somebody has written meanwhile
            stored = UNSET
        except (Ambiguous, BackendError, FlowStateDecodeError):
            return
        else:
            return
