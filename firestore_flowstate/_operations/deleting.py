"""Deleting flow states with their parts: one, one version, several, and all that is old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Final, Protocol

from .._collection.collection import Collection
from .._commit.commit import Attempts, commit
from .._commit.conflict import Conflict, conflict_with
from .._commit.deleting_parts import if_updated_at
from .._commit.history import history_since
from .._commit.pending_write import CommitResult, PendingWrite, part_names_of
from .._document.stored_document import AGE, EXISTENCE, PART_COUNT, StoredDocument
from .._document.stored_values import PARTS
from .._document.version import AsRead, Exactly, Version
from .._rpc.concurrency import for_each
from .._rpc.deadline import Deadline
from .._rpc.messages import StructuredQuery, Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import FlowStateError, QuotaError, StoreUnavailableError
from ..query import FlowStateQuery, milliseconds
from ..reports import PurgeReport
from .listing import Pages

_PAGE: Final = 100  # documents
_AT_ONCE: Final = 4  # deletions of states with parts


async def delete(
    collection: Collection,
    id: str,
    *,
    deadline: Deadline,
    sent_for: StoredDocument | None = None,
    lost: Ambiguous | None = None,
) -> None:
    """Delete the document under the id, if there is one.

    Args:
        collection: The collection.
        id: The flow state.
        deadline: When to give up.
        sent_for: The document whose deletion was sent before, with an unknown outcome; None: none was sent.
        lost: How the reply to that was lost.

    Raises:
        StoreUnavailableError: Firestore could not be reached, or the outcome cannot be known.
    """
    judge = _DeletionJudge(collection, id, deadline, sent_for=sent_for)
    try:
        await commit(collection, id, judge, attempts=Attempts(lost=lost))
    except Refused as refusal:
        raise collection.connection.refused_error(refusal, flow_id=id) from refusal


async def delete_version(collection: Collection, id: str, version: Version, *, deadline: Deadline) -> None:
    """Delete the document under the id if it is that version.

    Raises:
        FlowStateConflictError: Another version is stored, or none.
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
    """Judges the deletion of whatever is stored."""

    mask: Final = PART_COUNT
    is_maintenance: Final = False

    def __init__(self, collection: Collection, id: str, deadline: Deadline, *, sent_for: StoredDocument | None) -> None:
        self.deadline = deadline
        self._collection = collection
        self._id = id
        self._sent_for = sent_for  # the document whose deletion was sent last

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | None:
        """Return the deletion of the stored document, unless that was created after a deletion that was sent."""
        if stored is None:
            return None  # row 17
        before = self._sent_for
        if attempts.lost is not None and before is not None and stored.created_at > before.created_at:
            history = await history_since(self._collection, self._id, attempts.began, self.deadline)
            await history.check_has(before)  # row 16
            return None  # row 17: the document was deleted, and created again since our deletion was sent
        self._sent_for = stored
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
        return _deletion(self._collection, self._id, parts, AsRead(stored.updated))  # row 19

    async def _was_deleted(self, present: StoredDocument | None, attempts: Attempts) -> bool:
        """Return whether the version was deleted, by us or by another writer: nothing tells which."""
        if present is not None and self._version.revision in present.revisions:
            return False  # what is stored now was written on top of the version
        history = await history_since(self._collection, self._id, attempts.began, self.deadline)
        successor = await history.successor(lambda stored: self._version.is_of(stored), self._version.updated, present)
        return successor is not None and successor.document is None

    def _conflicting(self, stored: StoredDocument | None) -> Conflict:
        return Conflict(conflict_with(self._collection, self._id, self._version, stored), stored)


class _PurgeJudge:
    """Judges the deletion of a document as it was read."""

    mask: Final = EXISTENCE
    is_maintenance: Final = False

    def __init__(self, first: PendingWrite, document: StoredDocument, deadline: Deadline) -> None:
        self.deadline = deadline
        self._first = first
        self._document = document

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | CommitResult | None:
        """Return the same deletion again, unless somebody has written or deleted the document since."""
        if stored is None:  # rows 25, 27
            return None if attempts.lost is None else CommitResult(updated=self._document.updated)
        return self._first if stored.updated == self._document.updated else None  # rows 26, 27


async def part_names(collection: Collection, id: str, deadline: Deadline) -> list[str]:
    """Return the ids of every part below a flow state, whether its root refers to it or not."""
    query = StructuredQuery()
    query.from_.add().collection_id = PARTS
    query.select.fields.add().field_path = "__name__"
    documents = await collection.connection.run_query(collection.name(id), query, deadline=deadline, flow_id=id)
    return [document.name.rpartition("/")[2] for document in documents]


async def _parts(collection: Collection, id: str, deadline: Deadline, count: int) -> tuple[str, ...]:
    """Return the resource names of every part below a flow state. If `count` is 0, no query is made."""
    names = await part_names(collection, id, deadline) if count > 0 else []
    return tuple(collection.part_name(id, name) for name in names)


async def _deletion_of(collection: Collection, id: str, document: StoredDocument, deadline: Deadline) -> PendingWrite:
    """Return the deletion of a document as it was read, with its parts if it counts any."""
    parts = await _parts(collection, id, deadline, document.part_count)
    return _deletion(collection, id, parts, AsRead(document.updated))


def _deletion(collection: Collection, id: str, parts: tuple[str, ...], expected: Exactly | AsRead) -> PendingWrite:
    write = Write(delete=collection.name(id)).SerializeToString()
    return PendingWrite(id=id, write=write, expected=expected, revision="", replaces=True, gone=parts)


class Deletion(Protocol):
    """Deletes one document. If its deletion was sent before, `lost` says how the reply was lost."""

    async def __call__(self, document: StoredDocument, *, lost: Ambiguous | None) -> None: ...


async def delete_documents(
    collection: Collection,
    documents: Sequence[StoredDocument],
    deadline: Deadline,
    one: Deletion,
) -> None:
    """Delete documents as they were read: those without parts in one commit, the others by `one`.

    If that commit fails, since a document has changed or for another reason, all are deleted by `one`.

    Raises:
        StoreUnavailableError: Firestore cannot be reached.
        QuotaError: A quota is used up.
    """
    simple = [document for document in documents if document.part_count <= 0]
    others = [document for document in documents if document.part_count > 0]
    lost: Ambiguous | None = None
    deletes = [Write(delete=d.name, current_document=if_updated_at(d.updated)) for d in simple]
    if deletes:
        try:
            await collection.connection.commit(deletes, deadline=deadline, flow_id=None)
        except (StoreUnavailableError, QuotaError):
            raise  # no time is left to try them one by one
        except (Ambiguous, Refused, FlowStateError) as failure:
            lost = failure if isinstance(failure, Ambiguous) else None
            others.extend(simple)

    async def each(document: StoredDocument) -> None:
        await one(document, lost=lost if document.part_count <= 0 else None)  # those with parts were not in the commit

    await for_each(others, each, at_once=_AT_ONCE)


async def purge(
    collection: Collection,
    query: FlowStateQuery,
    *,
    older_than: timedelta,
    dry_run: bool,
    progress: Callable[[int], None] | None,
) -> PurgeReport:
    """Delete the states that match and were neither started nor written within `older_than`.

    It goes in pages, newest first, and keeps nothing of its progress: after a crash another call deletes the rest.
    """
    horizon = _before_now(older_than)
    before = query.started_before
    if before is None or milliseconds(before) > milliseconds(horizon):
        query = replace(query, started_before=horizon)
    pages = Pages(collection=collection, query=query, fields=AGE, expired=True)
    done = unfinished = 0
    more = True
    while more:
        found, more = await pages.next(_PAGE, None)  # by status, native documents may take many requests for a page
        old = [one.document for one in found if one.document.updated.as_datetime() < horizon]
        if not dry_run:
            old = await _delete(collection, old)
        done += len(old)
        unfinished += sum(not document.has_ended for document in old)
        if progress is not None:
            progress(done)
    return PurgeReport(done, unfinished=unfinished)


def _before_now(age: timedelta) -> datetime:
    """Return the time that is so long ago, or the first moment of the calendar if that is later."""
    try:
        return datetime.now(timezone.utc) - age
    except OverflowError:
        return datetime.min.replace(tzinfo=timezone.utc)


async def _delete(collection: Collection, documents: list[StoredDocument]) -> list[StoredDocument]:
    """Delete documents as they were read; return those that were. A document that was written since stays."""
    stayed: set[str] = set()

    async def one(document: StoredDocument, *, lost: Ambiguous | None) -> None:
        id = document.id
        try:  # each request has the whole timeout: a page may have a hundred states with parts
            first = await _deletion_of(collection, id, document, collection.deadline(None))
            judge = _PurgeJudge(first, document, collection.deadline(None))
            deleted = await commit(collection, id, judge, first=first, attempts=Attempts(lost=lost))
        except Refused:
            deleted = None
        if deleted is None:
            stayed.add(id)

    await delete_documents(collection, documents, collection.deadline(None), one)
    return [document for document in documents if document.id not in stayed]
