"""The loop that commits: send a write once, and if its outcome is ambiguous find out from what is stored.

Saves, updates, deletions, rewraps and compactions all go through `commit`. Each has a judge that knows its rows of the
table in docs/architecture.md ("Committing a write"). A comment with its number marks the line that decides a row.

The judge of saves, creates and updates is here. Their write carries the id of the revision that it makes, so that after
a lost reply the root itself tells whether the write was stored, also if others have written on top of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from .._collection.collection import Collection
from .._document.stored_document import EXPIRY_ALONE, StoredDocument
from .._document.version import Absent, Anything, AsRead, Exactly, Expectation, Version
from .._error_texts import exists, not_found, outcome_unknown
from .._rpc.deadline import Backoff, Deadline, monotonic
from .._rpc.outcome import Ambiguous, Meaning, Refused, means
from ..errors import BackendError, FlowStateError, StoreUnavailableError
from ..unset import UNSET
from .conflict import Conflict, conflict_with, found_version, withdraw
from .history import History, HistoryEnded, history_since
from .pending_write import CommitResult, PendingWrite, commit_batches, expected_update_time, part_names_of


@dataclass(kw_only=True)
class Attempts:
    """What is known of the attempts to send one write.

    Attributes:
        began: When the first of them was sent, on the monotonic clock.
        lost: How the last lost reply was lost, which makes the outcome ambiguous; None: each attempt was answered.
        refusal: The last refusal, if there was one.
    """

    began: float = field(default_factory=monotonic)
    lost: Ambiguous | None = None
    refusal: Refused | None = None


class Judge(Protocol):
    """Decides from the stored document how a write ended, or what to send next."""

    @property
    def deadline(self) -> Deadline:
        """When to give up; asked before each call."""

    @property
    def mask(self) -> Sequence[str] | None:
        """The field paths of the root that it needs; None: all."""

    @property
    def is_maintenance(self) -> bool:
        """Whether it makes each write anew from the stored document, so that any of them may be the stored one."""

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | CommitResult | None:
        """Return the write to send next, or the result if a write was stored; None: there is nothing left to write.

        Args:
            stored: The root that is stored now; None: there is none.
            attempts: What is known of the attempts so far.

        Raises:
            Conflict: Another writer was first.
            HistoryEnded: Firestore's history ends too early to tell.
            BackendError: Firestore could not be asked.
        """


async def commit(
    collection: Collection,
    id: str,
    judge: Judge,
    *,
    first: PendingWrite | None = None,
    attempts: Attempts | None = None,
) -> CommitResult | None:
    """Send each write that the judge makes, until the judge says how it ended; return that.

    Args:
        collection: The collection.
        id: The flow state.
        judge: Decides after each attempt.
        first: What to send first; None: what the judge makes of what is stored.
        attempts: What is known of earlier attempts; None: nothing was sent before.

    Raises:
        Conflict: Another writer was first.
        Refused: Firestore did not apply the write, for a reason that has nothing to do with other writers. The caller
            may do something about it, such as make room in the root.
        StoreUnavailableError: The deadline passed, or the outcome cannot be known.
        BackendError: Firestore did not apply the write, for any other reason.
    """
    attempts = attempts or Attempts()
    backoff: Backoff | None = None
    pending = first
    refused: Refused | None = None
    while True:
        try:
            if pending is not None:
                outcome = await _attempt(collection, pending, judge)
                if isinstance(outcome, CommitResult):
                    return outcome
                refused = outcome if isinstance(outcome, Refused) else None
                attempts.refusal = refused or attempts.refusal
                attempts.lost = outcome if isinstance(outcome, Ambiguous) else attempts.lost
                backoff = backoff or Backoff(judge.deadline, at_once=1)
                await backoff.pause()
            stored = await collection.get(id, judge.deadline, mask=judge.mask)
            if refused is not None and _is_about_the_write(refused, pending, stored):
                raise refused
            decision = await judge.judge(stored, attempts)
        except (BackendError, HistoryEnded) as error:  # row 16
            error.__cause__ = error.__cause__ or attempts.lost or attempts.refusal  # these took the time
            if attempts.lost is None or judge.is_maintenance:
                raise
            raise outcome_unknown(id, error, lost=attempts.lost) from error
        if not isinstance(decision, PendingWrite):
            return decision
        pending = decision


async def commit_or_withdraw(
    collection: Collection, pending: PendingWrite, judge: Judge, *, attempts: Attempts | None = None
) -> CommitResult:
    """Commit a write; if it certainly was not stored, delete its parts. Raises what `commit` raises.

    Args:
        collection: The collection.
        pending: The write. Its parts are the same on every attempt.
        judge: Decides after each attempt. It never says that there is nothing to write.
        attempts: What is known of a write that was sent before, so that the judge is asked first; None: it was not.
    """
    try:
        result = await commit(
            collection, pending.id, judge, first=pending if attempts is None else None, attempts=attempts
        )
    except (Conflict, Refused, FlowStateError) as error:
        if pending.parts and not (isinstance(error, StoreUnavailableError) and error.outcome_unknown):
            stored = error.document if isinstance(error, Conflict) else UNSET
            await withdraw(collection, pending, judge.deadline, stored=stored)
        raise
    assert result is not None  # noqa: S101  # as the judge promises
    return result


async def commit_write(
    collection: Collection, pending: PendingWrite, deadline: Deadline, *, attempts: Attempts | None = None
) -> CommitResult:
    """Send the write of a state until it is known to be stored or not.

    Args:
        collection: The collection.
        pending: What to send.
        deadline: When to give up. The caller has extended it for what the write has in bytes.
        attempts: What is known of a write that was sent before; None: it was not sent.

    Raises:
        Conflict: Another writer was first. Its `error` says that there is a conflict, a state already, or none.
        Refused: As for `commit`.
        StoreUnavailableError: The deadline passed, or the outcome cannot be known.
        BackendError: Firestore did not apply the write, for any other reason.
    """
    judge = StateJudge(collection, pending, deadline)
    if isinstance(pending.expected, Exactly) and pending.expected.version.has_expired():
        stored = await collection.get(pending.id, deadline)
        raise judge.conflicting(stored, pending.expected.version)  # rows 7, 8
    return await commit_or_withdraw(collection, pending, judge, attempts=attempts)


class StateJudge:
    """Judges the write of a state: a save, a create or an update."""

    mask: Final = None
    is_maintenance: Final = False

    def __init__(self, collection: Collection, pending: PendingWrite, deadline: Deadline) -> None:
        self.deadline = deadline
        self._collection = collection
        self._pending = pending  # what was sent last: on a later attempt it expects the document that was found
        self._expected = pending.expected

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | CommitResult:
        """Return the result, or the write to send again."""
        expected = self._expected
        if stored is not None and self._remembers_ours(stored):
            return self._result(stored)  # row 1
        if isinstance(expected, Exactly):
            return await self._judge_version(stored, expected.version, attempts)
        if attempts.lost is not None and (ours := await self._find_ours(stored, attempts)) is not None:
            return self._result(ours)  # rows 11, 13, 14
        if isinstance(expected, Absent):
            if stored is None:
                return self._again(Absent())  # row 12
            if stored.is_live():
                found = found_version(self._collection, stored)
                raise Conflict(exists(self._pending.id), stored, found)  # row 9
            return self._on_top_of(stored)  # row 10
        if attempts.lost is None:
            return self._again(Anything())  # row 15: a blind write is refused only if its parts have vanished
        # What was sent before may still arrive, and others may write on top of that: this must not undo it.
        return self._again(Absent()) if stored is None else self._on_top_of(stored)  # rows 13, 14

    def conflicting(self, stored: StoredDocument | None, version: Version) -> Conflict:
        """Return the conflict of a write on a version: another one is stored, or none, or one that has expired."""
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
        # Row 3: a log that remembers the version has everything since, and would remember our write too.
        descends = stored is not None and version.revision in stored.revisions
        if attempts.lost is not None and not descends:
            ours = await self._find_ours_on(version, stored, attempts)  # row 4
            if ours is not None:
                return self._result(ours)
        raise self.conflicting(stored, version)  # rows 3, 4, 5, 6, 7

    async def _find_ours(self, present: StoredDocument | None, attempts: Attempts) -> StoredDocument | None:
        """Return the document that our write has made, whatever it replaced; None if the write was never stored."""

        def is_ours(stored: StoredDocument) -> bool:
            return self._remembers_ours(stored) or self._pending.makes(stored, None)

        if isinstance(self._expected, Anything) and present is not None and self._pending.makes(present, None):
            return present  # it is what was to be stored, whoever has stored it
        return await (await self._history(attempts)).last_of(is_ours, present)

    async def _find_ours_on(
        self, version: Version, present: StoredDocument | None, attempts: Attempts
    ) -> StoredDocument | None:
        """Return the document that our write has made directly on top of the version; None if another's came there."""
        history = await self._history(attempts)
        successor = await history.successor(lambda stored: version.is_of(stored), version.updated, present)
        if successor is None or successor.document is None:
            return None
        if self._pending.makes(successor.version, successor.version):
            raise HistoryEnded  # our write changes nothing, so that nobody can see whether it was stored
        following = successor.document
        is_ours = self._remembers_ours(following) or self._pending.makes(following, successor.version)
        return following if is_ours else None

    async def _history(self, attempts: Attempts) -> History:
        last_sent = None if attempts.lost is None else attempts.lost.sent_at
        return await history_since(
            self._collection, self._pending.id, attempts.began, self.deadline, last_sent=last_sent
        )

    def _remembers_ours(self, stored: StoredDocument) -> bool:
        return stored.has_seen(self._pending.revision)

    def _result(self, stored: StoredDocument) -> CommitResult:
        """Return the result of our write, given a document that it has made or that others have made on top of it."""
        root = stored.root
        updated = stored.updated
        if root is None:
            return CommitResult(updated=updated)
        if root.revision != self._pending.revision:
            # A time before theirs: a version of it conflicts with what they have written, as it should.
            return CommitResult(updated=updated.just_before())
        return CommitResult(updated=updated, root=root)

    def _again(self, expected: Expectation) -> PendingWrite:
        self._pending = replace(self._pending, expected=expected)
        return self._pending

    def _on_top_of(self, stored: StoredDocument) -> PendingWrite:
        """Return the write for another try on top of the document, made to fit its parts and its update_time."""
        root = stored.root
        pending = self._pending
        if root is not None and pending.fit is not None:
            pending = pending.fit(root)
        elif root is not None and pending.replaces:
            pending = replace(pending, gone=part_names_of(self._collection, pending.id, root.refs))
        self._pending = replace(pending, onto=root, expected=AsRead(stored.updated))
        return self._pending

    async def _found(self, parts: Sequence[str]) -> tuple[str, ...]:
        """Return those of the parts that are stored. Of a damaged state some may be missing, and cannot be kept."""
        found = await self._collection.connection.batch_get(
            parts, deadline=self.deadline, flow_id=self._pending.id, mask=EXPIRY_ALONE
        )
        return tuple(part for part in parts if part in found)


async def _attempt(collection: Collection, pending: PendingWrite, judge: Judge) -> CommitResult | Ambiguous | Refused:
    """Send the write once; return how that ended. Raise Refused if no other writer can be the reason of a refusal."""
    try:
        return await commit_batches(collection, pending, judge.deadline)
    except Ambiguous as lost:
        return lost
    except Refused as refusal:
        if judge.is_maintenance and pending.parts:
            await withdraw(collection, pending, judge.deadline)  # the next write of maintenance has parts of its own
        if not _may_be_of_others(refusal, pending):
            raise
        return refusal


def _may_be_of_others(refusal: Refused, pending: PendingWrite) -> bool:
    """Return whether other writers may be the reason of the refusal, or the write itself if it was stored before."""
    if means(refusal.code, Meaning.PRECONDITION):
        # A write that expects nothing and has no parts asks for nothing that others could change.
        return not isinstance(pending.expected, Anything) or bool(pending.parts)
    # Firestore calls a precondition invalid if its update_time is later than that of the document, as it is if the
    # document was deleted and restored.
    return refusal.code == "INVALID_ARGUMENT" and expected_update_time(pending.expected) is not None


def _is_about_the_write(refusal: Refused, pending: PendingWrite | None, stored: StoredDocument | None) -> bool:
    """Return whether the write is invalid in itself: it was refused, and the document has the expected update_time."""
    if refusal.code != "INVALID_ARGUMENT" or pending is None or stored is None:
        return False
    return expected_update_time(pending.expected) == stored.updated
