"""Going through all of a collection: its documents, whatever is in them, or every flow state of a query, once."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .._collection.collection import Collection
from .._document.parts import COLLECTION as PARTS
from .._document.stored_document import StoredDocument
from .._rpc.messages import Cursor, Document, Int32Value, StructuredQuery, Timestamp
from ..errors import FlowStateDecodeError
from ..models import FlowState
from ..query import FlowStateQuery
from .listing import Pages, pages_of, whole
from .reading import states_of

PAGE: Final = 100  # documents
# Before all other ids, and the end of a name: as Google's clients bound a query by names in their recursive deletes.
_FIRST_ID: Final = "__id-9223372036854775808__"
_END: Final = "\0"
_BATCH_BYTES: Final = 4 * 1024 * 1024  # of the states that are in memory at once
_FIRST_PAGE: Final = 4  # documents, which have a megabyte each at most
_LARGEST_PAGE: Final = 100  # documents


async def scan(
    collection: Collection, *, fields: Sequence[str] | None = None, page: int = PAGE
) -> AsyncIterator[list[StoredDocument]]:
    """Yield the root documents of the collection, page by page; each page has the store's timeout for itself."""
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    async for documents in _pages(collection, query, fields, page):
        yield list(map(StoredDocument, documents))


async def scan_parts(collection: Collection) -> AsyncIterator[list[Document]]:
    """Yield all parts of the collection's flow states by name, without their data.

    A collection group spans collections. Names bound it to this one, so that others are not read, and not billed.
    """
    query = StructuredQuery()
    source = query.from_.add()
    source.collection_id = PARTS
    source.all_descendants = True
    prefix = f"{collection.documents}/{collection.path}/"
    query.start_at.values.add().reference_value = f"{prefix}{_FIRST_ID}"
    query.start_at.before = True
    query.end_at.values.add().reference_value = f"{collection.documents}/{collection.path}{_END}/{_FIRST_ID}"
    query.end_at.before = True
    async for documents in _pages(collection, query, ["__name__"], 300):
        # Leave alone what is deeper down: parts of a collection below a flow state, which are another store's.
        yield [d for d in documents if d.name.startswith(prefix) and d.name.count("/", len(prefix)) == 2]


async def _pages(
    collection: Collection, query: StructuredQuery, fields: Sequence[str] | None, page: int
) -> AsyncIterator[list[Document]]:
    query.order_by.add().field.field_path = "__name__"
    query.limit.CopyFrom(Int32Value(value=page))
    for path in fields or ():
        query.select.fields.add().field_path = path
    while True:
        deadline = collection.deadline(None)
        documents = await collection.connection.run_query(collection.parent, query, deadline=deadline)
        yield documents
        if len(documents) < page:
            return
        cursor = Cursor(before=False)
        cursor.values.add().reference_value = documents[-1].name
        query.start_at.CopyFrom(cursor)


@dataclass(kw_only=True)
class Export:
    """The flow states of a query with their ids, in batches, in the order of a list.

    Each document is read once, whole: nothing tells before how large it is. A page is as large as the one before it
    lets expect of a batch, at most twice as large as that one, and its parts are read batch by batch.
    """

    collection: Collection
    pages: Pages
    _page: int = _FIRST_PAGE
    _left: deque[StoredDocument] = field(default_factory=deque)
    _read_time: Timestamp | None = None
    _ended: bool = False

    @classmethod
    def of(cls, collection: Collection, query: FlowStateQuery) -> Export:
        """Return the export of what a query asks for."""
        return cls(collection=collection, pages=pages_of(collection, query, fields=None))

    async def next(self) -> list[tuple[str, FlowState | FlowStateDecodeError]] | None:
        """Return the next states, or why they cannot be read; None if there are no more."""
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
        states = await states_of(self.collection, batch, deadline, read_time=self._read_time)
        found = zip(batch, states, strict=True)
        return [(document.id, state) for document, state in found if state is not None]

    async def _next_page(self) -> None:
        deadline = self.collection.deadline(None)
        page = await self.pages.next(self._page, deadline)
        documents = await whole(self.collection, page, deadline)
        self._read_time, self._ended = page.read_time, not page.more
        self._left.extend(documents)
        if documents:
            average = sum(document.message_bytes for document in documents) / len(documents)
            self._page = max(1, min(round(_BATCH_BYTES / average), 2 * self._page, _LARGEST_PAGE))


def _bytes(document: StoredDocument) -> int:
    """Return the size of a document with its parts, as it says."""
    in_parts = sum(ref.bytes for ref in document.refs) if document.part_count > 0 else 0
    return document.message_bytes + in_parts
