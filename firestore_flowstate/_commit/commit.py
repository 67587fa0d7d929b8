"""The loop that commits: send a write once, and if its outcome is ambiguous find out from what is stored.

Saves, updates, deletions, rewraps and compactions all go through `commit`; each has a judge that knows its rows of the
table in docs/architecture.md ("Committing a write"). A comment with the number of a row stands where it is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .._collection.collection import Collection
from .._document.error_texts import outcome_unknown
from .._document.stored_document import StoredDocument
from .._rpc.deadline import Backoff, Deadline, monotonic
from .._rpc.outcome import Ambiguous, Meaning, Refused, means
from ..errors import BackendError, FlowStateError, StoreUnavailableError
from ..unset import UNSET
from .history import HistoryEnded
from .pending_write import CommitResult, PendingWrite, send
from .withdrawal import withdraw


class Conflict(Exception):  # noqa: N818  # an outcome; the caller decides whether to try on top
    """Another writer was first. Carries the document that is stored now, or None, for another try on top of it."""

    def __init__(self, error: FlowStateError, document: StoredDocument | None, found: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.document = document
        self.found = found


@dataclass(kw_only=True)
class Attempts:
    """What is known of the attempts to send one write.

    Attributes:
        began: When the first of them was sent, on the monotonic clock.
        lost: How a reply was lost, which makes the outcome ambiguous; None: each attempt was answered.
        refusal: What the last refusal was, if there was one.
    """

    began: float = field(default_factory=monotonic)
    lost: Ambiguous | None = None
    refusal: Refused | None = None


class Judge(Protocol):
    """Tells from what is stored what became of a write, and what to send next."""

    @property
    def deadline(self) -> Deadline:
        """When to give up; asked before each call."""

    @property
    def mask(self) -> Sequence[str] | None:
        """The fields of the root that it judges by; None: all."""

    @property
    def is_maintenance(self) -> bool:
        """Whether it makes each write anew of what is stored: then nobody asks whether one of them was stored."""

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | CommitResult | None:
        """Return what to send on top of what is stored, or how it ended; None: there is nothing to write (any more).

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
        collection: Where.
        id: The flow state.
        judge: Looks at what is stored.
        first: What to send first; None: what the judge makes of what is stored.
        attempts: What is known already; None: nothing was sent before.

    Raises:
        Conflict: Another writer was first.
        Refused: Firestore did not take it, for a reason that has nothing to do with other writers.
        StoreUnavailableError: The deadline passed, or the outcome cannot be known.
        BackendError: As Refused, if nothing can be done about it.
    """
    attempts = attempts or Attempts()
    backoff = Backoff(judge.deadline, at_once=1)
    pending = first
    refused: Refused | None = None
    while True:
        try:
            if pending is not None:
                outcome = await _send(collection, pending, judge)
                if isinstance(outcome, CommitResult):
                    return outcome
                refused = outcome if isinstance(outcome, Refused) else None
                attempts.refusal = refused or attempts.refusal
                attempts.lost = outcome if isinstance(outcome, Ambiguous) else attempts.lost
                await backoff.pause()
            stored = await collection.get(id, judge.deadline, mask=judge.mask)
            if refused is not None and _is_about_the_write(refused, pending, stored):
                raise refused
            decision = await judge.judge(stored, attempts)
        except (BackendError, HistoryEnded) as error:  # row 16
            error.__cause__ = error.__cause__ or attempts.lost or attempts.refusal  # what took the time
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

    The parts are the same on every attempt.

    Args:
        collection: Where.
        pending: The write.
        judge: Looks at what is stored; never says that there is nothing to write.
        attempts: What is known of a write that was sent before: what is stored is then looked at first. None: not sent.
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


async def _send(collection: Collection, pending: PendingWrite, judge: Judge) -> CommitResult | Ambiguous | Refused:
    """Send the write once; return what became of it, unless it was refused for what no look at the root can explain."""
    try:
        return await send(collection, pending, judge.deadline)
    except Ambiguous as lost:
        return lost
    except Refused as refusal:
        if judge.is_maintenance and pending.parts:
            await withdraw(collection, pending, judge.deadline)  # the next write of it has parts of its own
        if not _may_be_of_others(refusal, pending):
            raise
        return refusal


def _may_be_of_others(refusal: Refused, pending: PendingWrite) -> bool:
    """Return whether a write may have been refused for what others have written, or for its own success before."""
    condition = pending.root.current_document.WhichOneof("condition_type")
    if means(refusal.code, Meaning.PRECONDITION):
        return condition is not None or bool(pending.parts)  # else it asked for nothing that others could change
    # A version later than what is stored is an invalid argument to Firestore: of a document deleted and restored.
    return refusal.code == "INVALID_ARGUMENT" and condition == "update_time"


def _is_about_the_write(refusal: Refused, pending: PendingWrite | None, stored: StoredDocument | None) -> bool:
    """Return whether an argument was invalid although the document is as the write expects: not for its time."""
    if refusal.code != "INVALID_ARGUMENT" or pending is None or stored is None:
        return False
    return bool(pending.root.current_document.update_time == stored.message.update_time)
