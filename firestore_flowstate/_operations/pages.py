"""The pages of a query: one after the other, each of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .._collection.collection import Collection
from .._document.stored_document import StoredDocument
from .._query.token import Position, from_token, scope_of
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Timestamp
from ..query import FlowStateQuery
from .streams import Found, Stream, merged, more_follow, streams


class Page(NamedTuple):
    """What a page shows.

    Attributes:
        found: The documents, in order.
        more: Whether another page follows.
        read_time: The moment it is of, where it took several queries; None: that of its one query.
    """

    found: list[Found]
    more: bool
    read_time: Timestamp | None


@dataclass(kw_only=True)
class Pages:
    """The pages of a query; documents that were fetched for one and not shown are kept for the next.

    What is kept is of the moment at which it was read, so the next page is of the same: else a state that moved from a
    shard that is still to be asked to one that has been asked would be in none. A moment serves for five minutes; then
    what is kept is dropped, and read again with the rest.

    Attributes:
        collection: Where.
        query: The filters.
        after: What was shown last.
        fields: The field paths to read; None: all.
        expired: Whether to show those that have expired too.
    """

    collection: Collection
    query: FlowStateQuery
    after: Position | None = None
    fields: Sequence[str] | None = None
    expired: bool = False
    _sources: Sequence[Stream] = field(default=())

    async def next(self, limit: int, deadline: Deadline) -> Page:
        """Return the next page, of at most so many documents."""
        read_time = self._sources[0].read_time if self._sources else None
        if not self._sources or (read_time is not None and read_time.is_old()):
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
        read_time = self._sources[0].read_time
        return Page(found, more, None if read_time is None else read_time.time)


def pages_of(collection: Collection, query: FlowStateQuery, *, fields: Sequence[str] | None) -> Pages:
    """Return the pages of a query from its token on, of these field paths; None: of whole documents.

    Raises:
        InvalidContinuationTokenError: The token was not given for this collection and these filters.
    """
    token = query.continuation_token
    after = None if token is None else from_token(token, scope_of_pages(collection, query))
    return Pages(collection=collection, query=query, after=after, fields=fields)


def scope_of_pages(collection: Collection, query: FlowStateQuery) -> str:
    """Return what a token of these pages is bound to."""
    return scope_of(f"{collection.settings.database}/{collection.path}", query)


async def whole(
    collection: Collection, page: Page, deadline: Deadline, *, mask: Sequence[str] | None = None
) -> list[StoredDocument]:
    """Return the documents, with those read that were found by a projection."""
    names = [one.document.name for one in page.found if one.partial]
    read: Mapping[str, Document] = {}
    if names:
        read = await collection.connection.batch_get(names, deadline=deadline, mask=mask, read_time=page.read_time)
    whole = {name: StoredDocument(document) for name, document in read.items()}
    documents = (whole.get(one.document.name) if one.partial else one.document for one in page.found)
    return [document for document in documents if document is not None]
