"""Landing a write: send it once, and where the outcome is in doubt find out from what is stored.

The table of cases is in docs/architecture.md. A write carries the id of the revision it makes, so that the root
itself tells after a lost reply whether it landed, also when others wrote on top.
"""

from __future__ import annotations

import asyncio
import random
import time

from .._document.refusals import conflict, exists, not_found
from .._document.root import Root, moment_of
from .._document.version import Moment, Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Precondition, Timestamp
from .._rpc.outcome import Ambiguous, Refused
from ..errors import FlowStateConflictError, FlowStateDecodeError, FlowStateError, StoreUnavailableError
from .collection import Collection, is_live
from .history import Forgotten, was_stored
from .reading import load_root, state_of_whole
from .sending import Landed, Outgoing, send, withdraw

PRECONDITION_CODES = frozenset({"FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND"})


class Overtaken(Exception):  # noqa: N818  # an outcome; the caller decides whether to try on top
    """Another writer was first. Carries the document that is stored now, or None, for another try on top of it."""

    def __init__(self, error: FlowStateError, document: Document | None, found: str | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.document = document
        self.found = found


async def land(
    collection: Collection,
    out: Outgoing,
    *,
    base: Version | None,
    absent: bool,
    deadline: Deadline,
    doubt: bool = False,
) -> Landed:
    """Send a write until it is known to be stored or not.

    Args:
        collection: Where.
        out: What to send.
        base: The version it goes on top of; None: whatever is there.
        absent: Whether there must be nothing yet.
        deadline: When to give up; it is extended by a second for each MiB beyond the first.
        doubt: Whether it was sent before, with an unknown outcome.

    Raises:
        Overtaken: Another writer was first: conflict, exists or not found.
        Refused: Firestore did not take it, for a reason that has nothing to do with other writers.
        StoreUnavailableError: The deadline passed, or the outcome cannot be known.
        BackendError: As Refused, where nothing can be done about it.
    """
    deadline = deadline.plus(max(0.0, out.size() / 2**20 - 1))
    attempt = _Attempt(collection, out, base, absent, deadline, doubt=doubt)
    try:
        return await attempt.land()
    except (Overtaken, Refused, FlowStateError) as error:
        if out.parts and not (isinstance(error, StoreUnavailableError) and error.outcome_unknown):
            await withdraw(collection, out, deadline)
        raise


class _Attempt:
    """The state of landing one write."""

    def __init__(
        self,
        collection: Collection,
        out: Outgoing,
        base: Version | None,
        absent: bool,
        deadline: Deadline,
        *,
        doubt: bool,
    ) -> None:
        self._collection = collection
        self._out = out
        self._base = base
        self._absent = absent
        self._deadline = deadline
        self._began = time.time()
        self._doubt = doubt

    async def land(self) -> Landed:
        """Send, judge what is stored, and send again on top of it, until that is decided."""
        precondition: Precondition | None = None
        if self._absent:
            precondition = Precondition(exists=False)
        elif self._base is not None:
            precondition = at(self._base.updated)
        delay = 0.0
        sent_before = self._doubt
        while True:
            try:
                if not sent_before:
                    return await send(self._collection, self._out, precondition, self._deadline)
                sent_before = False
            except Ambiguous:
                self._doubt = True
            except Refused as refusal:
                if refusal.code not in PRECONDITION_CODES and not await self._is_from_the_future(refusal):
                    raise
            except StoreUnavailableError as error:
                raise self._unknown(error) from error
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311  # jitter is no secret
            delay = min(delay * 2 + 0.01, 1.0)
            try:
                outcome = await self._judge()
            except StoreUnavailableError as error:
                raise self._unknown(error) from error
            except Forgotten as error:
                raise self._unknown(None) from error
            if isinstance(outcome, Landed):
                return outcome
            precondition = outcome

    async def _is_from_the_future(self, refusal: Refused) -> bool:
        """Return whether the base is later than what is stored, which Firestore calls an invalid argument."""
        if self._base is None or refusal.code != "INVALID_ARGUMENT":
            return False
        document = await self._collection.get(self._out.id, self._deadline, mask=["flowId"])
        return document is None or moment_of(document.update_time) < self._base.updated

    async def _judge(self) -> Landed | Precondition | None:
        """Return how it ended, or the precondition to send it with again."""
        document = await self._collection.get(self._out.id, self._deadline)
        if document is not None and self._is_ours(document):
            root = load_root(document)
            updated = moment_of(document.update_time)
            on_top = root is not None and root.revision != self._out.revision
            return Landed(updated=updated.just_before() if on_top else updated)
        if self._base is not None:
            return await self._judge_version(document, self._base)
        if document is None:
            return Precondition(exists=False) if self._absent else None
        if self._absent and is_live(document) and not self._doubt:
            raise Overtaken(exists(self._out.id), document, found_version(self._collection, document))
        if self._doubt and await self._was_stored(document):
            return Landed(updated=moment_of(document.update_time).just_before())
        if self._absent and is_live(document):
            raise Overtaken(exists(self._out.id), document, found_version(self._collection, document))
        if not self._doubt and not self._absent:
            return None  # a blind write has no precondition to fail; its parts have vanished: write them again
        return self._on_top_of(document)

    async def _judge_version(self, document: Document | None, base: Version) -> Landed | Precondition:
        updated = None if document is None else moment_of(document.update_time)
        root = None if document is None else load_root(document)
        if document is not None and (updated == base.updated or _is_revision(root, base)):
            return self._on_top_of(document)  # nothing since, or only maintenance: the same revision at another time
        descends = root is not None and base.revision in root.ids  # and would remember ours
        if self._doubt and not descends and await self._was_stored(document):
            return Landed(updated=base.updated if updated is None else updated.just_before())
        if document is None and not self._out.replaces:
            raise Overtaken(not_found(self._out.id), None)
        raise Overtaken(self._conflict(document), document)

    def _is_ours(self, document: Document) -> bool:
        root = load_root(document)
        if root is not None:
            return root.has_seen(self._out.revision)
        return self._doubt and self._out.matches(document)

    def _on_top_of(self, document: Document) -> Precondition:
        """Return the precondition for another try on the document; what it replaces then is the document's parts."""
        root = load_root(document)
        if self._out.replaces and root is not None:
            parts = [name for kept in root.kept() for name in kept.part_names()]
            self._out.gone = [self._collection.part_name(self._out.id, name) for name in parts]
        return at(moment_of(document.update_time))

    async def _was_stored(self, document: Document | None) -> bool:
        base = self._base

        def is_base(earlier: Document) -> bool:
            assert base is not None  # noqa: S101  # for mypy: only asked where there is one
            return moment_of(earlier.update_time) == base.updated or _is_revision(load_root(earlier), base)

        return await was_stored(
            self._collection,
            self._out.id,
            document,
            ours=self._is_ours,
            base=None if base is None else is_base,
            since=None if base is None else base.updated,
            began=self._began,
            deadline=self._deadline,
        )

    def _conflict(self, document: Document | None) -> FlowStateConflictError:
        expected = self._base.to_text(self._collection.path_of(self._out.id)) if self._base is not None else None
        found = None if document is None else found_version(self._collection, document)
        return conflict(self._out.id, expected=expected, found=found)

    def _unknown(self, error: StoreUnavailableError | None) -> StoreUnavailableError:
        if not self._doubt and error is not None:
            return error
        kind = StoreUnavailableError if error is None else type(error)
        return kind(
            f"Whether the write to the flow state {self._out.id!r} was stored is not known: its reply was lost, and "
            f"{error or 'what is stored now does not tell'}. Load it to see what is there.",
            flow_id=self._out.id,
            outcome_unknown=True,
        )


def at(updated: Moment) -> Precondition:
    """Return the precondition that a document is as of an update_time."""
    return Precondition(update_time=Timestamp(seconds=updated.seconds, nanos=updated.nanos))


def found_version(collection: Collection, document: Document) -> str | None:
    """Return the version of a document for an error, or None where it cannot be told without its parts."""
    if not is_live(document):
        return None
    try:
        state = state_of_whole(collection, document)
    except FlowStateDecodeError:
        return None
    return None if state is None else state.version


def _is_revision(root: Root | None, base: Version) -> bool:
    return root is not None and root.revision == base.revision
