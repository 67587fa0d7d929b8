"""Committing a write: send it once, and where the outcome is in doubt find out from what is stored.

The table of cases is in docs/architecture.md. A write carries the id of the revision it makes, so that the root
itself tells after a lost reply whether it was stored, also when others wrote on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from .._collection.collection import Collection, expire_after_in, expires_at, is_live
from .._document.error_texts import conflict, exists, not_found, outcome_unknown
from .._document.native import owns_expiry
from .._document.parts import PartRef, part_ids
from .._document.root import Root, is_serialized, moment_of, read_root
from .._document.version import Moment, Version
from .._operations.reading import load_root, version_of
from .._operations.status_inputs import native_status_inputs, serialized_status_inputs
from .._rpc.clock import monotonic
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Precondition, Timestamp
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateConflictError, FlowStateDecodeError, FlowStateError, StoreUnavailableError
from ..unset import UNSET
from .backoff import Backoff
from .history import Forgotten, History, history_since
from .pending_write import CommitResult, PendingWrite, send, withdraw

PRECONDITION_CODES = frozenset({"FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND"})


class Conflict(Exception):  # noqa: N818  # an outcome; the caller decides whether to try on top
    """Another writer was first. Carries the document that is stored now, or None, for another try on top of it."""

    def __init__(self, error: FlowStateError, document: Document | None, found: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.document = document
        self.found = found


async def commit_write(
    collection: Collection,
    out: PendingWrite,
    *,
    base: Version | None,
    absent: bool,
    deadline: Deadline,
    sent_at: float | None = None,
    lost: Ambiguous | None = None,
) -> CommitResult:
    """Send a write until it is known to be stored or not.

    Args:
        collection: Where.
        out: What to send.
        base: The version it goes on top of; None: whatever is there.
        absent: Whether there must be nothing yet.
        deadline: When to give up; it is extended by a second for each MiB beyond the first.
        sent_at: When it was sent before with an unknown outcome, on the monotonic clock; None: it was not.
        lost: How it was lost then.

    Raises:
        Conflict: Another writer was first: conflict, exists or not found.
        Refused: Firestore did not take it, for a reason that has nothing to do with other writers.
        StoreUnavailableError: The deadline passed, or the outcome cannot be known.
        BackendError: As Refused, where nothing can be done about it.
    """
    if (size := out.size()) > 2**20:
        deadline = deadline.plus(size / 2**20 - 1)
    attempt = _Attempt(collection, out, base, absent, deadline, sent_at=sent_at, lost=lost)
    try:
        return await attempt.commit()
    except (Conflict, Refused, FlowStateError) as error:
        if out.parts and not (isinstance(error, StoreUnavailableError) and error.outcome_unknown):
            stored = error.document if isinstance(error, Conflict) else UNSET
            await withdraw(collection, out, deadline, stored=stored)
        raise


class _Attempt:
    """The state of committing one write."""

    def __init__(
        self,
        collection: Collection,
        out: PendingWrite,
        base: Version | None,
        absent: bool,
        deadline: Deadline,
        *,
        sent_at: float | None,
        lost: Ambiguous | None,
    ) -> None:
        self._collection = collection
        self._out = out
        self._base = base
        self._absent = absent
        self._deadline = deadline
        self._began = monotonic() if sent_at is None else sent_at
        self._doubt = sent_at is not None
        self._lost = lost
        self._refusal: Refused | None = None
        self._rebased: Root | None = None

    async def commit(self) -> CommitResult:
        """Send, judge what is stored, and send again on top of it, until that is decided."""
        precondition: Precondition | None = None
        if self._absent:
            precondition = Precondition(exists=False)
        elif self._base is not None:
            if self._base.has_expired():
                document = await self._collection.get(self._out.id, self._deadline)
                raise self._conflicting(document)
            precondition = if_updated_at(self._base.updated)
        backoff = Backoff(self._deadline, at_once=1)
        sent_before = self._doubt
        while True:
            try:
                if not sent_before:
                    result = await send(self._collection, self._out, precondition, self._deadline)
                    return result if self._rebased is None else replace(result, rebased=self._rebased)
                sent_before = False
            except Ambiguous as lost:
                self._doubt, self._lost = True, lost
            except Refused as refusal:
                if precondition is None and not self._out.parts:
                    raise  # it asked for nothing that others could have changed
                if refusal.code not in PRECONDITION_CODES and not await self._is_from_the_future(refusal):
                    raise
                self._refusal = refusal
            except StoreUnavailableError as error:
                error.__cause__ = error.__cause__ or self._lost or self._refusal  # what took the time
                if not self._doubt:
                    raise
                raise outcome_unknown(self._out.id, error, lost=self._lost) from error
            await backoff.pause()
            try:
                outcome = await self._judge()
            except (BackendError, Forgotten) as error:
                error.__cause__ = error.__cause__ or self._lost or self._refusal
                if not self._doubt:
                    raise
                raise outcome_unknown(self._out.id, error, lost=self._lost) from error
            if isinstance(outcome, CommitResult):
                return outcome
            precondition = outcome

    async def _is_from_the_future(self, refusal: Refused) -> bool:
        """Return whether the base is later than what is stored, which Firestore calls an invalid argument."""
        if self._base is None or refusal.code != "INVALID_ARGUMENT":
            return False
        document = await self._collection.get(self._out.id, self._deadline, mask=["flowId"])
        return document is None or moment_of(document.update_time) < self._base.updated

    async def _judge(self) -> CommitResult | Precondition | None:
        """Return how it ended, or the precondition to send it with again."""
        document = await self._collection.get(self._out.id, self._deadline)
        if document is not None and self._remembers_ours(document):
            return self._result(document)
        if self._base is not None:
            return await self._judge_version(document, self._base)
        if self._doubt and (stored := await self._find_ours(document)) is not None:
            return self._result(stored)
        if document is None:
            return Precondition(exists=False) if self._absent else None
        if self._absent and is_live(document):
            raise Conflict(exists(self._out.id), document, found_version(self._collection, document))
        if not self._doubt and not self._absent:
            return None  # a blind write has no precondition to fail; its parts have vanished: write them again
        return self._on_top_of(document)

    async def _judge_version(self, document: Document | None, base: Version) -> CommitResult | Precondition:
        root = None if document is None else load_root(document)
        if document is not None and is_version(document, base):
            if not is_live(document):
                raise self._conflicting(document)
            precondition = self._on_top_of(document)  # nothing since, or only maintenance: the same revision
            if self._out.stay and self._refusal is not None and self._refusal.code == "NOT_FOUND":
                self._out.stay = await self._found(self._out.stay)
            return precondition
        descends = root is not None and base.revision in root.ids  # and would remember ours
        if self._doubt and not descends and (stored := await self._find_ours_on(base, document)) is not None:
            return self._result(stored)
        raise self._conflicting(document)

    async def _find_ours(self, document: Document | None) -> Document | None:
        """Return what our write, which may have replaced anything, has left; None where it was never stored."""

        def is_ours(stored: Document) -> bool:
            return self._remembers_ours(stored) or self._out.makes(stored, None)

        if document is not None and not self._absent and self._out.makes(document, None):
            return document  # which is what was to be stored, whoever did it
        return await (await self._history()).last_of(is_ours, document)

    async def _find_ours_on(self, base: Version, document: Document | None) -> Document | None:
        """Return our write, which could only be stored directly on top of the base; None where another's was."""
        history = await self._history()
        topped = await history.first_on(lambda stored: is_version(stored, base), base.updated, document)
        if topped is None or topped.top is None:
            return None
        if self._out.makes(topped.base, topped.base):
            raise Forgotten  # it changes nothing, so nothing tells whether it came before what is there now
        is_ours = self._remembers_ours(topped.top) or self._out.makes(topped.top, topped.base)
        return topped.top if is_ours else None

    async def _history(self) -> History:
        return await history_since(self._collection, self._out.id, self._began, self._deadline)

    def _remembers_ours(self, document: Document) -> bool:
        root = load_root(document)
        return root is not None and root.has_seen(self._out.revision)

    def _result(self, stored: Document) -> CommitResult:
        """Return our write as a document has it, or what others have made of it since."""
        root = load_root(stored)
        updated = moment_of(stored.update_time)
        if root is None:
            return CommitResult(updated=updated)
        if root.revision != self._out.revision:
            return CommitResult(updated=updated.just_before())  # a time before theirs, and no version that is stored
        return CommitResult(updated=updated, root=root)

    def _on_top_of(self, document: Document) -> Precondition:
        """Return the precondition for another try on the document, whose parts may be others than before."""
        root = self._rebased = load_root(document)
        if root is not None and self._out.fit is not None:
            self._out.fit(root)
        elif root is not None and self._out.replaces:
            self._out.gone = part_names_of(self._collection, self._out.id, root.refs)
        return if_updated_at(moment_of(document.update_time))

    async def _found(self, parts: Sequence[str]) -> list[str]:
        """Return those of the parts that are there: of a damaged state some may be missing, and need not stay."""
        found = await self._collection.connection.batch_get(parts, deadline=self._deadline, mask=["expireAt"])
        return [part for part in parts if part in found]

    def _conflicting(self, document: Document | None) -> Conflict:
        """Return that another version is stored than the base, or none that has not expired."""
        if not self._out.replaces and (document is None or not is_live(document)):
            return Conflict(not_found(self._out.id), document)
        return Conflict(self._conflict(document), document)

    def _conflict(self, document: Document | None) -> FlowStateConflictError:
        expected = self._base.to_text(self._collection.path_of(self._out.id)) if self._base is not None else None
        found = None if document is None else found_version(self._collection, document)
        return conflict(self._out.id, expected=expected, found=found)


def if_updated_at(updated: Moment) -> Precondition:
    """Return the precondition that a document is as of an update_time."""
    return Precondition(update_time=Timestamp(seconds=updated.seconds, nanos=updated.nanos))


def part_names_of(collection: Collection, id: str, refs: Iterable[PartRef]) -> list[str]:
    """Return the resource names of parts."""
    return [collection.part_name(id, part) for part in part_ids(refs)]


def found_version(collection: Collection, document: Document) -> str | None:
    """Return the version of a document for an error; None where it has expired or cannot be read."""
    if not is_live(document):
        return None
    id = collection.id_of(document)
    try:
        if is_serialized(document):
            root = read_root(document)
            version = version_of(document, root, serialized_status_inputs(document, collection.context(id)))
        else:
            expire_at = expires_at(document.fields)
            version = Version(
                updated=moment_of(document.update_time),
                revision="",
                layout="native",
                status_inputs=native_status_inputs(document),
                expires=None if expire_at is None else expire_at.timestamp(),
                owns_expiry=owns_expiry(document.fields),
                expire_after=expire_after_in(document.fields),
            )
    except FlowStateDecodeError:
        return None
    return version.to_text(collection.path_of(id))


def is_version(document: Document, base: Version) -> bool:
    """Return whether the document is the version, or what maintenance has made of it."""
    if moment_of(document.update_time) == base.updated:
        return True
    root = load_root(document)
    return root is not None and root.revision == base.revision
