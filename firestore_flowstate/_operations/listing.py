"""Pages of flow states, summaries and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .._collection.collection import Collection
from .._document.summary import summary_mask, summary_of
from .._query.token import to_token
from .._rpc.deadline import Deadline
from .._rpc.gather_or_cancel import gather_or_cancel
from ..errors import FlowStateDecodeError
from ..models import FlowState
from ..query import FlowStateQuery, FlowStateQueryResponse, FlowStateSummaryResponse
from .pages import Page, Pages, pages_of, scope_of_pages, whole
from .reading import check_readable, states_of
from .streams import streams


async def list_states(collection: Collection, query: FlowStateQuery, deadline: Deadline) -> FlowStateQueryResponse:
    """Return a page of whole states."""
    return await _StatePages.of(collection, query).next(deadline)


async def list_summaries(collection: Collection, query: FlowStateQuery, deadline: Deadline) -> FlowStateSummaryResponse:
    """Return a page of summaries, read by projection."""
    fields = summary_mask(query.where)
    scope = scope_of_pages(collection, query)
    page = await pages_of(collection, query, fields=fields).next(_limit(collection, query), deadline)
    documents = await whole(collection, page, deadline, mask=fields)
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
    """Return how many documents the filters match; those that carry no status are looked at one by one."""
    sources = streams(collection, query, after=None, fields=None, deadline=deadline)
    counted = [source.count() for source in sources if source.native_statuses is None]
    by_status = query.status is not None and collection.settings.shards == 1
    if by_status:  # among them are native documents with a `status` of their own
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
    """The pages of whole states, each of them read while the one before it is being used. To be entered, and left.

    This is no generator. The store's own goes over it, and generators that a loop ends with are closed by asyncio in no
    order, which fails for one within another.
    """

    def __init__(self, collection: Collection, query: FlowStateQuery) -> None:
        self._collection = collection
        self._pages = _StatePages.of(collection, query)
        self._ahead: asyncio.Task[FlowStateQueryResponse] | None = None

    async def __aenter__(self) -> PagesAhead:
        self._ahead = self._ask()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)

    def __aiter__(self) -> PagesAhead:
        return self

    async def __anext__(self) -> Sequence[FlowState]:
        if self._ahead is None:
            raise StopAsyncIteration
        page = await self._ahead
        self._ahead = self._ask() if page.continuation_token is not None else None
        return page.flow_states

    def _ask(self) -> asyncio.Task[FlowStateQueryResponse]:
        return asyncio.ensure_future(self._pages.next(self._collection.deadline(None)))


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
            FlowStateDecodeError: A document cannot be read, and the query does not say to skip those.
        """
        page = await self.pages.next(_limit(self.collection, self.query), deadline)
        documents = await whole(self.collection, page, deadline)
        states, errors = [], []
        for result in await states_of(self.collection, documents, deadline, read_time=page.read_time):
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
    error.__cause__ = first
    return error
