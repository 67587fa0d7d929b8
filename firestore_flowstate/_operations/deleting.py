"""Deleting flow states with their parts."""

from __future__ import annotations

from typing import Final

from .._collection.collection import Collection
from .._commit.commit import Attempts, commit
from .._commit.conflict import Conflict, conflict_with
from .._commit.history import history_since
from .._commit.pending_write import (
    Anything,
    Exactly,
    Expectation,
    PendingWrite,
    expect,
    if_updated_at,
    part_names_of,
    send,
)
from .._document.parts import COLLECTION as PARTS
from .._document.stored_document import PART_COUNT, StoredDocument
from .._document.version import Version
from .._limits import Moment
from .._rpc.deadline import Deadline
from .._rpc.messages import StructuredQuery, Write
from .._rpc.outcome import Ambiguous, Refused


async def delete(
    collection: Collection,
    id: str,
    *,
    deadline: Deadline,
    sent_for: StoredDocument | None = None,
    lost: Ambiguous | None = None,
) -> None:
    """Delete what is stored under the id, if anything is.

    Args:
        collection: Where.
        id: The flow state.
        deadline: When to give up.
        sent_for: The document whose deletion was sent before, with an unknown outcome; None: it was not.
        lost: How the reply was lost then.

    Raises:
        StoreUnavailableError: Firestore could not be reached, or the outcome cannot be known.
    """
    created = None if sent_for is None else sent_for.created_at
    judge = _DeletionJudge(collection, id, deadline, created=created)
    try:
        await commit(collection, id, judge, attempts=Attempts(lost=lost))
    except Refused as refusal:
        raise collection.connection.refused_error(refusal, flow_id=id) from refusal


async def delete_version(collection: Collection, id: str, version: Version, *, deadline: Deadline) -> None:
    """Delete what is stored under the id if it is that version.

    Raises:
        FlowStateConflictError: It is another, or there is nothing.
        StoreUnavailableError: Firestore could not be reached, or the outcome cannot be known.
    """
    if version.has_expired():
        raise conflict_with(collection, id, version, await collection.get(id, deadline))  # row 21
    first = _deletion(collection, id, await _parts(collection, id, deadline, version.part_count), Exactly(version))
    try:
        await commit(collection, id, _VersionDeletionJudge(collection, id, version, deadline), first=first)
    except Conflict as conflicting:
        raise conflicting.error from None
    except Refused as refusal:
        raise collection.connection.refused_error(refusal, flow_id=id) from refusal


class _DeletionJudge:
    """Judges the deletion of whatever there is."""

    mask: Final = PART_COUNT
    is_maintenance: Final = False

    def __init__(self, collection: Collection, id: str, deadline: Deadline, *, created: Moment | None) -> None:
        self.deadline = deadline
        self._collection = collection
        self._id = id
        self._created = created  # when the document was created whose deletion was sent last

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | None:
        """Return the deletion of what is stored, unless it is another document than was to be deleted."""
        if stored is None:
            return None  # row 17
        created = stored.created_at
        if attempts.lost is not None and self._created is not None and created > self._created:
            return None  # row 17: gone, and there again since our deletion was sent
        self._created = created
        return await _deletion_of(self._collection, self._id, stored, self.deadline)  # row 18


class _VersionDeletionJudge:
    """Judges the deletion of a version."""

    mask: Final = None
    is_maintenance: Final = False

    def __init__(self, collection: Collection, id: str, version: Version, deadline: Deadline) -> None:
        self.deadline = deadline
        self._collection = collection
        self._id = id
        self._version = version

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | None:
        """Return the deletion of the version as it is stored now."""
        if stored is None or not self._version.is_of(stored):
            if attempts.lost is not None and await self._was_deleted(stored, attempts):
                return None  # row 20
            raise self._conflicting(stored)  # row 21
        if not stored.is_live():
            raise self._conflicting(stored)  # row 21
        parts = part_names_of(self._collection, self._id, stored.refs)
        precondition = if_updated_at(stored.updated)
        return _deletion(self._collection, self._id, parts, Exactly(self._version)).under(precondition)  # row 19

    async def _was_deleted(self, present: StoredDocument | None, attempts: Attempts) -> bool:
        """Return whether the version was deleted, by us or by another, which nothing tells apart."""
        if present is not None and self._version.revision in present.revisions:
            return False  # it goes on in what is there now
        history = await history_since(self._collection, self._id, attempts.began, self.deadline)
        successor = await history.successor(lambda stored: self._version.is_of(stored), self._version.updated, present)
        return successor is not None and successor.document is None

    def _conflicting(self, stored: StoredDocument | None) -> Conflict:
        return Conflict(conflict_with(self._collection, self._id, self._version, stored), stored)


async def delete_as_read(collection: Collection, id: str, document: StoredDocument, *, deadline: Deadline) -> None:
    """Delete a document as it was read, with its parts.

    Raises:
        Refused: It was written since.
        Ambiguous: The reply was lost.
    """
    await send(collection, await _deletion_of(collection, id, document, deadline), deadline)


async def part_names(collection: Collection, id: str, deadline: Deadline) -> list[str]:
    """Return the ids of every part below a flow state, named by its root or not."""
    query = StructuredQuery()
    query.from_.add().collection_id = PARTS
    query.select.fields.add().field_path = "__name__"
    documents = await collection.connection.run_query(collection.name(id), query, deadline=deadline)
    return [document.name.rpartition("/")[2] for document in documents]


async def _parts(collection: Collection, id: str, deadline: Deadline, count: int) -> list[str]:
    """Return the resource names of every part below a flow state, which are not asked for if it counts none."""
    names = await part_names(collection, id, deadline) if count > 0 else []
    return [collection.part_name(id, name) for name in names]


async def _deletion_of(collection: Collection, id: str, document: StoredDocument, deadline: Deadline) -> PendingWrite:
    """Return the deletion of a document as it was read, of which the head tells whether it has parts."""
    pending = _deletion(collection, id, await _parts(collection, id, deadline, document.part_count), Anything())
    return pending.under(if_updated_at(document.updated))


def _deletion(collection: Collection, id: str, parts: list[str], expected: Expectation) -> PendingWrite:
    root = expect(Write(delete=collection.name(id)), expected)
    return PendingWrite(id=id, root=root, expected=expected, revision="", replaces=True, gone=parts)
