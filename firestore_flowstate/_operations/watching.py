"""Watching one flow state, or the first page of a list, by what Firestore tells of its documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Final

from .._collection.collection import Collection
from .._document.head import has_expired, seconds_until
from .._document.stored_document import StoredDocument
from .._document.summary import summary_of
from .._query.matching import order
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Target
from ..errors import FlowStateDecodeError, StoreUnavailableError
from ..models import FlowState
from ..pages import FlowStateSummary
from ..query import FlowStateQuery
from .listing import list_summaries
from .reading import check_readable, state_of
from .streams import streams

_AGAIN_SECONDS: Final = 1.0  # before another try, after parts or a page could not be read
_CROWDED_SECONDS: Final = 10.0  # at most between two reads of a page whose target has documents that are not for it


class _FirstAnswer:
    """By when the first answer must have come: within the timeout of each step, until a step has returned something.

    A step that was cancelled takes no time from the next, however long its caller does something else in between.

    Args:
        deadline: The deadline of the first step.
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline: Deadline | None = deadline
        self._seconds = deadline.allowed
        self._has_come = False

    def begin_step(self) -> Deadline | None:
        """Return the deadline of the step that begins; None: it may wait for ever."""
        deadline, self._deadline = self._deadline, None
        if self._has_come:
            return None
        return deadline or Deadline.after(self._seconds)

    def has_come(self) -> None:
        """Note that a step returns something."""
        self._has_come = True


class StateWatch:
    """A flow state, again after each change: a source of `Watch`. It must be ended.

    Args:
        collection: The collection.
        id: The flow state.
        deadline: When the first answer must have come, if the first step is not given up before.
    """

    def __init__(self, collection: Collection, id: str, deadline: Deadline) -> None:
        self._collection = collection
        self._first_answer = _FirstAnswer(deadline)
        target = Target()
        target.documents.documents.append(collection.name(id))
        self._watching = collection.connection.watch([target])
        self._is_told = False  # whether the server has told something that was not looked at yet
        self._document: StoredDocument | None = None
        self._parts: dict[str, bytes] = {}  # bytes of parts of the last state, which most changes leave as they are
        self._seen: str | None = ""  # the version that was returned last; None: there was no state
        self._ahead: datetime | None = None  # the update_time of what was returned, if Listen did not tell of it yet
        self._seconds: float | None = None

    async def next(self) -> FlowState | None:
        """Return the state, as soon as it differs from the one that was returned last; None if there is none.

        A call that was cancelled can be made again.
        """
        deadline = self._first_answer.begin_step()
        while True:
            if not self._is_told:
                told = await self._watching.next(seconds=self._seconds, deadline=deadline)
                if told is not None:
                    self._document = next(map(StoredDocument, told[0]), None)
                self._is_told = True
            try:
                state = await self._state(deadline or self._collection.deadline(None))
            except StoreUnavailableError:  # its parts could not be read
                if deadline is not None and deadline.remaining() <= 0:
                    raise
                self._is_told, self._seconds = False, _AGAIN_SECONDS
                continue
            self._is_told, self._seconds = False, None if state is None else seconds_until(state.expire_at)
            version = None if state is None else state.version
            if version != self._seen and not self._is_behind(state):
                self._seen = version
                self._first_answer.has_come()
                self._ahead = self._ahead_of_what_is_told(state)
                return state

    def end(self) -> None:
        """Watch no more."""
        self._watching.end()

    async def _state(self, deadline: Deadline) -> FlowState | None:
        if self._document is None or not self._document.is_live():
            self._parts.clear()
            return None
        state = await state_of(self._collection, self._document, deadline, kept=self._parts)
        # If the root was replaced before its parts were read, it was read again, and may have expired by now.
        return None if state is None or has_expired(state.expire_at, datetime.now(timezone.utc)) else state

    def _ahead_of_what_is_told(self, state: FlowState | None) -> datetime | None:
        if state is None or state.updated_at is None or self._document is None:
            return None
        told = self._document.updated.as_datetime()
        return state.updated_at if state.updated_at > told else None

    def _is_behind(self, state: FlowState | None) -> bool:
        """Return whether the state is older than the one returned last, of which the server had not told yet."""
        if state is None or state.updated_at is None or self._ahead is None:
            return False
        return state.updated_at < self._ahead


class PageWatch:
    """The first page of a list as summaries, again after each change: a source of `Watch`. It must be ended.

    Args:
        collection: The collection.
        query: The query.
        deadline: When the first answer must have come, if the first step is not given up before.
    """

    def __init__(self, collection: Collection, query: FlowStateQuery, deadline: Deadline) -> None:
        self._collection = collection
        self._query = query
        self._first_answer = _FirstAnswer(deadline)
        self._limit = collection.settings.page_size if query.limit is None else query.limit
        self._sources = streams(collection, query, after=None, fields=None, deadline=deadline)
        self._watching = collection.connection.watch([self._target(index) for index in range(len(self._sources))])
        self._told: Sequence[Sequence[Document]] = ()
        self._is_told = False
        self._seen: Sequence[tuple[str, datetime]] | None = None  # each id, and when it was written
        self._seconds: float | None = None

    async def next(self) -> Sequence[FlowStateSummary]:
        """Return the page, as soon as it differs from the one that was returned last.

        A call that was cancelled can be made again.
        """
        deadline = self._first_answer.begin_step()
        while True:
            if not self._is_told:
                told = await self._watching.next(seconds=self._seconds, deadline=deadline)
                if told is not None:
                    self._told = told
                self._is_told = True
            try:
                page = await self._page(deadline or self._collection.deadline(None))
            except StoreUnavailableError:  # the page could not be read
                if deadline is not None and deadline.remaining() <= 0:
                    raise
                self._is_told, self._seconds = False, _AGAIN_SECONDS
                continue
            self._is_told = False
            # Ids and times are compared, and not the summaries: one with NaN in it does not equal itself.
            if (seen := [(summary.id, summary.updated_at) for summary in page]) != self._seen:
                self._seen = seen
                self._first_answer.has_come()
                return page

    def end(self) -> None:
        """Watch no more."""
        self._watching.end()

    def _target(self, index: int) -> Target:
        """Return a target of one query of the page, without a projection: Firestore refuses to listen to one."""
        target = Target()
        target.query.parent = self._collection.parent
        target.query.structured_query.CopyFrom(self._sources[index].structured(self._limit, None))
        return target

    async def _page(self, deadline: Deadline) -> Sequence[FlowStateSummary]:
        now = datetime.now(timezone.utc)
        documents: dict[str, StoredDocument] = {}
        is_crowded = False
        for source, told in zip(self._sources, self._told, strict=True):
            asked = [document for document in map(StoredDocument, told) if source.takes(document, now)]
            is_crowded |= len(asked) < len(told) == self._limit
            documents.update((document.name, document) for document in asked)
        if is_crowded:
            # Some documents of a full target are not for the page, and the target has none of those behind its limit.
            summaries = (await list_summaries(self._collection, self._query, deadline)).summaries
            expires = _until_the_first([summary.expire_at for summary in summaries])
            self._seconds = _CROWDED_SECONDS if expires is None else min(_CROWDED_SECONDS, expires)
            return summaries
        shown = sorted(documents.values(), key=self._order, reverse=True)[: self._limit]
        self._seconds = _until_the_first([document.expire_at for document in shown])
        return [summary for document in shown if (summary := self._summary(document)) is not None]

    def _order(self, document: StoredDocument) -> tuple[float, bytes]:
        return order(document.start_time, document.id)

    def _summary(self, document: StoredDocument) -> FlowStateSummary | None:
        collection = self._collection
        try:
            check_readable(collection, document)
            return summary_of(
                document,
                reference_of=collection.reference_of,
                where=self._query.where,
            )
        except FlowStateDecodeError:
            if self._query.on_error == "skip":
                return None
            raise


def _until_the_first(expiries: Iterable[datetime | None]) -> float | None:
    """Return the seconds until the first of these expiries; None if there is none."""
    return seconds_until(min((at for at in expiries if at is not None), default=None))
