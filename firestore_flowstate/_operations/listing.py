"""Pages of flow states and of summaries, counts, and every state of a query for a backup."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from .._collection.collection import Collection
from .._document.stored_document import StoredDocument
from .._document.summary import summary_mask, summary_of
from .._query.token import Position, from_token, scope_of, to_token
from .._rpc.concurrency import gather_or_cancel
from .._rpc.deadline import Deadline
from .._rpc.loop_thread import call_threadsafe
from .._rpc.read_time import of_now
from ..errors import FlowStateDecodeError
from ..models import FlowState
from ..pages import FlowStateQueryResponse, FlowStateSummaryResponse
from ..query import FlowStateQuery
from .reading import check_readable, states_of
from .streams import Found, Stream, merged, more_follow, streams

_BATCH_BYTES: Final = 4 * 1024 * 1024  # of the states of an export that are in memory at once
_FIRST_PAGE: Final = 4  # documents of an export: each has 1 MiB at most, so they fit a batch
_LARGEST_PAGE: Final = 100  # documents of an export


async def list_states(collection: Collection, query: FlowStateQuery, deadline: Deadline) -> FlowStateQueryResponse:
    """Return a page of whole states."""
    return await _StatePages.of(collection, query).next(deadline)


async def list_summaries(collection: Collection, query: FlowStateQuery, deadline: Deadline) -> FlowStateSummaryResponse:
    """Return a page of summaries, read by projection."""
    fields = summary_mask(query.where)
    scope = scope_of_pages(collection, query)
    page = await pages_of(collection, query, fields=fields).next(_limit(collection, query), deadline)
    documents = [one.document for one in page.found]
    summaries, errors = [], []
    references = collection.reference_of
    for document in documents:
        try:
            check_readable(collection, document)
            summaries.append(summary_of(document, reference_of=references, where=query.where))
        except FlowStateDecodeError as error:
            errors.append(error)
    skipped = tuple(error.flow_id or "" for error in errors)
    response = FlowStateSummaryResponse(summaries=summaries, continuation_token=_token(page, scope), skipped=skipped)
    if errors and query.on_error == "raise":
        raise _with_response(errors, replace(response, skipped=()))
    return response


async def count(collection: Collection, query: FlowStateQuery, deadline: Deadline) -> int:
    """Return how many documents the filters match.

    The server counts them. If the query asks for a status, it cannot count native documents, which have no such field:
    these are looked at one by one.
    """
    sources = streams(collection, query, after=None, fields=(), deadline=deadline)
    counted = [source.count() for source in sources if source.native_statuses is None]
    by_status = query.status is not None and collection.settings.shards == 1
    # The count by the field `status` includes native documents with an unknown key of that name. They are counted by
    # themselves, and taken off.
    if by_status:
        counted.append(sources[0].count(native_by_status=True))
    totals = await gather_or_cancel(counted)
    total = sum(totals) - (2 * totals[-1] if by_status else 0)
    for source in sources:
        while source.native_statuses is not None:
            await source.fill(300)
            if source.peek() is None:
                break
            while source.peek() is not None:
                source.pop()
                total += 1
    return total


class PagesAhead:
    """The pages of whole states, each of them read while the one before it is being used. It is for one loop.

    A page is read in a task of its own, so that whoever stops waiting for it finds it later.
    """

    def __init__(self, collection: Collection, query: FlowStateQuery) -> None:
        self._ahead: asyncio.Task[FlowStateQueryResponse] | None = None
        self._loop = asyncio.get_running_loop()
        self._collection = collection
        self._pages = _StatePages.of(collection, query)
        self._ask()

    def __del__(self) -> None:
        self._cancel()

    async def next(self) -> Sequence[FlowState] | None:
        """Return the next page; None if there are no more. After a call that was cancelled it can be called again."""
        if self._ahead is None:
            return None
        await asyncio.wait({self._ahead})  # which does not cancel it
        page = self._ahead.result()
        self._ahead = None
        if page.continuation_token is not None:
            self._ask()
        return page.flow_states

    async def end(self) -> None:
        """Give up the page that is being read. On another loop than its own this does not wait until it has ended."""
        ahead = self._cancel()
        if ahead is not None and self._loop is asyncio.get_running_loop():
            await asyncio.wait({ahead})

    def _ask(self) -> None:
        self._ahead = asyncio.ensure_future(self._pages.next(self._collection.deadline(None)))
        self._ahead.add_done_callback(_take_error)

    def _cancel(self) -> asyncio.Task[FlowStateQueryResponse] | None:
        """Cancel the task that reads a page, if one does, from any thread; return it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.done():
            call_threadsafe(self._loop, ahead.cancel)
        return ahead


def _take_error(ahead: asyncio.Task[FlowStateQueryResponse]) -> None:
    """Ask for the error of a task: asyncio prints one that nobody has asked for."""
    if not ahead.cancelled():
        ahead.exception()


@dataclass(frozen=True, kw_only=True)
class _StatePages:
    """The pages of a query, as whole states."""

    collection: Collection
    query: FlowStateQuery
    scope: str
    pages: Pages

    @classmethod
    def of(cls, collection: Collection, query: FlowStateQuery) -> _StatePages:
        scope = scope_of_pages(collection, query)
        pages = pages_of(collection, query, fields=None)
        return cls(collection=collection, query=query, scope=scope, pages=pages)

    async def next(self, deadline: Deadline) -> FlowStateQueryResponse:
        """Return the next page.

        Raises:
            FlowStateDecodeError: A document cannot be read, and `on_error` of the query is not "skip".
        """
        page = await self.pages.next(_limit(self.collection, self.query), deadline)
        documents = await whole(self.collection, page, deadline)
        states, errors = [], []
        for result in await states_of(self.collection, documents, deadline):
            if isinstance(result, FlowStateDecodeError):
                errors.append(result)
            elif result is not None:
                states.append(result)
        skipped = tuple(error.flow_id or "" for error in errors)
        token = _token(page, self.scope)
        response = FlowStateQueryResponse(flow_states=states, continuation_token=token, skipped=skipped)
        if errors and self.query.on_error == "raise":
            raise _with_response(errors, replace(response, skipped=()))
        return response


def _limit(collection: Collection, query: FlowStateQuery) -> int:
    return query.limit if query.limit is not None else collection.settings.page_size


def _token(page: Page, scope: str) -> str | None:
    return to_token(page.found[-1].position, scope) if page.more else None


def _with_response(
    errors: Sequence[FlowStateDecodeError], response: FlowStateQueryResponse | FlowStateSummaryResponse
) -> FlowStateDecodeError:
    first = errors[0]
    more = f" {len(errors) - 1} more on this page cannot be read either." if len(errors) > 1 else ""
    error = FlowStateDecodeError(
        f'{first}{more} The rest of the page is in `response`; on_error="skip" leaves such documents out.',
        flow_id=first.flow_id,
        response=response,
    )
    error.__cause__ = first.__cause__
    return error


class Page(NamedTuple):
    """What a page shows.

    Attributes:
        found: The documents, in order.
        more: Whether another page follows.
    """

    found: list[Found]
    more: bool


@dataclass(kw_only=True)
class Pages:
    """The pages of a query. Documents that were fetched for one page and not shown are kept for the next.

    Kept documents are as of the time at which they were read, so the rest of the next page is read as of that time too.
    Otherwise a state that has moved meanwhile, from a shard that is still to be asked to one that has been asked, would
    be on no page. A time serves for five minutes. Then the kept documents are dropped, and read again with the rest.

    Attributes:
        collection: The collection.
        query: The filters.
        after: The place of the last document that was shown; None: none was.
        fields: The field paths to read; None: all.
        expired: Whether to show documents that have expired too.
    """

    collection: Collection
    query: FlowStateQuery
    after: Position | None = None
    fields: Sequence[str] | None = None
    expired: bool = False
    _sources: Sequence[Stream] = field(default=())

    async def next(self, limit: int, deadline: Deadline | None) -> Page:
        """Return the next page, of at most so many documents.

        Args:
            limit: How many documents.
            deadline: When to give up; None: each request has the timeout of the settings.
        """
        if len(self._sources) == 1:
            self._sources[0].read_time = of_now()
        if not self._sources or self._sources[0].read_time.is_old():
            self._sources = streams(
                self.collection,
                self.query,
                after=self.after,
                fields=self.fields,
                deadline=deadline,
                expired=self.expired,
            )
        for source in self._sources:
            source.deadline = deadline
        found = await merged(self._sources, limit)
        more = len(found) == limit and await more_follow(self._sources)
        if found:
            self.after = found[-1].position
        return Page(found, more)


def pages_of(collection: Collection, query: FlowStateQuery, *, fields: Sequence[str] | None) -> Pages:
    """Return the pages of a query from its token on, with these field paths of each document; None: with all.

    Raises:
        InvalidContinuationTokenError: The token was not given for this collection and these filters.
    """
    token = query.continuation_token
    after = None if token is None else from_token(token, scope_of_pages(collection, query))
    return Pages(collection=collection, query=query, after=after, fields=fields)


def scope_of_pages(collection: Collection, query: FlowStateQuery) -> str:
    """Return what a token of these pages is bound to."""
    return scope_of(f"{collection.settings.database}/{collection.path}", query)


async def whole(collection: Collection, page: Page, deadline: Deadline) -> list[StoredDocument]:
    """Return the documents of a page. Those that were found by the fields of a projection alone are read first."""
    partial = [one.document for one in page.found if one.partial]
    whole: dict[str, StoredDocument] = {}
    if partial:
        moment, names = partial[0].read_as_of, [document.name for document in partial]
        read = await collection.connection.batch_get(names, deadline=deadline, read_time=moment)
        whole = {name: StoredDocument(document, moment) for name, document in read.items()}
    documents = (whole.get(one.document.name) if one.partial else one.document for one in page.found)
    return [document for document in documents if document is not None]


@dataclass(kw_only=True)
class Export:
    """The flow states of a query with their ids, in batches, in the order of a list.

    Each document is read once, whole, and its size is known only then. So the size of a page follows from the sizes of
    the documents on the page before: as many as fit into a batch of 4 MiB, but at most twice as many as before. Parts
    are read batch by batch.
    """

    collection: Collection
    pages: Pages
    _page: int = _FIRST_PAGE
    _left: deque[StoredDocument] = field(default_factory=deque)
    _ended: bool = False

    @classmethod
    def of(cls, collection: Collection, query: FlowStateQuery) -> Export:
        """Return the export of what a query asks for."""
        return cls(collection=collection, pages=pages_of(collection, query, fields=None))

    async def next(self) -> list[tuple[str, FlowState | FlowStateDecodeError]] | None:
        """Return the next states with their ids, or the error of one that cannot be read; None if there are no more."""
        if not self._left and not self._ended:
            await self._next_page()
        if not self._left:
            return None if self._ended else []
        batch: list[StoredDocument] = []
        size = 0
        while self._left and (not batch or size + _bytes(self._left[0]) <= _BATCH_BYTES):
            size += _bytes(self._left[0])
            batch.append(self._left.popleft())
        deadline = self.collection.deadline(None)
        states = await states_of(self.collection, batch, deadline)
        found = zip(batch, states, strict=True)
        return [(document.id, state) for document, state in found if state is not None]

    async def _next_page(self) -> None:
        deadline = self.collection.deadline(None)
        page = await self.pages.next(self._page, deadline)
        documents = await whole(self.collection, page, deadline)
        self._ended = not page.more
        self._left.extend(documents)
        if documents:
            average = sum(document.message_bytes for document in documents) / len(documents)
            self._page = max(1, min(round(_BATCH_BYTES / average), 2 * self._page, _LARGEST_PAGE))


def _bytes(document: StoredDocument) -> int:
    """Return about how many bytes a document has with its parts, by the sizes in its references."""
    in_parts = sum(ref.bytes for ref in document.refs) if document.part_count > 0 else 0
    return document.message_bytes + in_parts
