"""Judging from what is stored what became of the write of a state: the rows for saves, creates and updates.

A write carries the id of the revision it makes, so that after a lost reply the root itself tells whether the write
was stored, also if others have written on top of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from .._collection.collection import Collection
from .._document.error_texts import conflict, exists, not_found
from .._document.stored_document import EXPIRY_ALONE, StoredDocument
from .._document.version import Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Precondition
from ..errors import FlowStateConflictError, FlowStateDecodeError
from .commit import Attempts, Conflict, commit_or_withdraw
from .history import History, HistoryEnded, history_since
from .pending_write import Absent, Anything, CommitResult, Exactly, PendingWrite, if_updated_at, part_names_of


async def commit_write(
    collection: Collection, pending: PendingWrite, deadline: Deadline, *, attempts: Attempts | None = None
) -> CommitResult:
    """Send the write of a state until it is known to be stored or not.

    Args:
        collection: Where.
        pending: What to send.
        deadline: When to give up; it is extended by a second for each MiB beyond the first.
        attempts: What is known of a write that was sent before; None: it was not.

    Raises:
        Conflict: Another writer was first: conflict, exists or not found.
        Refused: Firestore did not take it, for a reason that has nothing to do with other writers.
        StoreUnavailableError: The deadline passed, or the outcome cannot be known.
        BackendError: As Refused, if nothing can be done about it.
    """
    if (size := pending.size()) > 2**20:
        deadline = deadline.plus(size / 2**20 - 1)
    judge = StateJudge(collection, pending, deadline)
    if isinstance(pending.expected, Exactly) and pending.expected.version.has_expired():
        stored = await collection.get(pending.id, deadline)
        raise judge.conflicting(stored, pending.expected.version)  # rows 7, 8
    return await commit_or_withdraw(collection, pending, judge, attempts=attempts)


class StateJudge:
    """Judges the write of a state."""

    mask: Final = None
    is_maintenance: Final = False

    def __init__(self, collection: Collection, pending: PendingWrite, deadline: Deadline) -> None:
        self.deadline = deadline
        self._collection = collection
        self._pending = pending

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | CommitResult:
        """Return how it ended, or what to send again."""
        expected = self._pending.expected
        if stored is not None and self._remembers_ours(stored):
            return self._result(stored)  # row 1
        if isinstance(expected, Exactly):
            return await self._judge_version(stored, expected.version, attempts)
        if attempts.lost is not None and (ours := await self._find_ours(stored, attempts)) is not None:
            return self._result(ours)  # rows 11, 13, 14
        if isinstance(expected, Absent):
            if stored is None:
                return self._again(Precondition(exists=False))  # row 12
            if stored.is_live():
                found = found_version(self._collection, stored)
                raise Conflict(exists(self._pending.id), stored, found)  # row 9
            return self._on_top_of(stored)  # row 10
        if stored is None or attempts.lost is None:
            return self._again(None)  # rows 14, 15: nothing else can have been in the way of a blind write
        return self._on_top_of(stored)  # row 13

    def conflicting(self, stored: StoredDocument | None, version: Version) -> Conflict:
        """Return the conflict: another version is stored, or none is, or one that has expired."""
        if not self._pending.replaces and (stored is None or not stored.is_live()):
            return Conflict(not_found(self._pending.id), stored)  # row 7
        return Conflict(conflict_with(self._collection, self._pending.id, version, stored), stored)

    async def _judge_version(
        self, stored: StoredDocument | None, version: Version, attempts: Attempts
    ) -> PendingWrite | CommitResult:
        if stored is not None and version.is_of(stored):
            if not stored.is_live():
                raise self.conflicting(stored, version)  # rows 7, 8
            pending = self._on_top_of(stored)  # row 2
            if pending.stay and attempts.refusal is not None and attempts.refusal.code == "NOT_FOUND":
                pending = self._pending = replace(pending, stay=await self._found(pending.stay))
            return pending
        descends = stored is not None and version.revision in stored.revisions  # row 3: it would remember ours as well
        if attempts.lost is not None and not descends:
            ours = await self._find_ours_on(version, stored, attempts)  # row 4
            if ours is not None:
                return self._result(ours)
        raise self.conflicting(stored, version)  # rows 3, 4, 5, 6, 7

    async def _find_ours(self, present: StoredDocument | None, attempts: Attempts) -> StoredDocument | None:
        """Return the document that our write, whatever it replaced, has left; None if the write was never stored."""

        def is_ours(stored: StoredDocument) -> bool:
            return self._remembers_ours(stored) or self._pending.makes(stored, None)

        if isinstance(self._pending.expected, Anything) and present is not None and self._pending.makes(present, None):
            return present  # it is what was to be stored, whoever did it
        return await (await self._history(attempts)).last_of(is_ours, present)

    async def _find_ours_on(
        self, version: Version, present: StoredDocument | None, attempts: Attempts
    ) -> StoredDocument | None:
        """Return our write, which could only be stored directly on top of the version; None if another's was."""
        history = await self._history(attempts)
        successor = await history.successor(lambda stored: version.is_of(stored), version.updated, present)
        if successor is None or successor.document is None:
            return None
        if self._pending.makes(successor.version, successor.version):
            raise HistoryEnded  # it changes nothing, so nothing tells whether it came before what is there now
        following = successor.document
        is_ours = self._remembers_ours(following) or self._pending.makes(following, successor.version)
        return following if is_ours else None

    async def _history(self, attempts: Attempts) -> History:
        return await history_since(self._collection, self._pending.id, attempts.began, self.deadline)

    def _remembers_ours(self, stored: StoredDocument) -> bool:
        return stored.has_seen(self._pending.revision)

    def _result(self, stored: StoredDocument) -> CommitResult:
        """Return our write as a document has it, or what others have made of it since."""
        root = stored.root
        updated = stored.updated
        if root is None:
            return CommitResult(updated=updated)
        if root.revision != self._pending.revision:
            return CommitResult(updated=updated.just_before())  # a time before theirs, and no version that is stored
        return CommitResult(updated=updated, root=root)

    def _again(self, precondition: Precondition | None) -> PendingWrite:
        self._pending = self._pending.under(precondition)
        return self._pending

    def _on_top_of(self, stored: StoredDocument) -> PendingWrite:
        """Return the write for another try on the document, whose parts may be others than before."""
        root = stored.root
        pending = self._pending
        if root is not None and pending.fit is not None:
            pending = pending.fit(root)
        elif root is not None and pending.replaces:
            pending = replace(pending, gone=part_names_of(self._collection, pending.id, root.refs))
        self._pending = replace(pending, onto=root).under(if_updated_at(stored.updated))
        return self._pending

    async def _found(self, parts: Sequence[str]) -> list[str]:
        """Return those of the parts that are there: of a damaged state some may be missing, and need not stay."""
        found = await self._collection.connection.batch_get(parts, deadline=self.deadline, mask=EXPIRY_ALONE)
        return [part for part in parts if part in found]


def conflict_with(
    collection: Collection, id: str, version: Version, stored: StoredDocument | None
) -> FlowStateConflictError:
    """Return the error of a write that expected a version in place of what is stored."""
    found = None if stored is None else found_version(collection, stored)
    return conflict(id, expected=version.to_text(collection.path_of(id)), found=found)


def found_version(collection: Collection, document: StoredDocument) -> str | None:
    """Return the version of a document for an error; None if it has expired or cannot be read."""
    if not document.is_live():
        return None
    context = collection.context(document.id)
    try:
        document.read_refs()
        return Version.of_document(document, document.status_inputs(context)).to_text(context.path)
    except FlowStateDecodeError:
        return None
