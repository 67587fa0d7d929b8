"""Going through all documents of a collection in the order of their names, whatever is in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from .._collection.collection import Collection
from .._document.parts import COLLECTION as PARTS
from .._document.stored_document import StoredDocument
from .._rpc.messages import Cursor, Document, Int32Value, StructuredQuery

PAGE: Final = 100
# Before all other ids, and the end of a name: as Google's clients bound a query by names in their recursive deletes.
_FIRST_ID: Final = "__id-9223372036854775808__"
_END: Final = "\0"


async def scan(
    collection: Collection, *, fields: Sequence[str] | None = None, page: int = PAGE
) -> AsyncIterator[list[StoredDocument]]:
    """Yield the root documents of the collection, page by page; each page has the store's timeout for itself."""
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    async for documents in _pages(collection, collection.parent, query, fields, page):
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
    async for documents in _pages(collection, collection.parent, query, ["__name__"], 300):
        # Leave alone what is deeper down: parts of a collection below a flow state, which are another store's.
        yield [d for d in documents if d.name.startswith(prefix) and d.name.count("/", len(prefix)) == 2]


async def _pages(
    collection: Collection, parent: str, query: StructuredQuery, fields: Sequence[str] | None, page: int
) -> AsyncIterator[list[Document]]:
    query.order_by.add().field.field_path = "__name__"
    query.limit.CopyFrom(Int32Value(value=page))
    for path in fields or ():
        query.select.fields.add().field_path = path
    while True:
        documents = await collection.connection.run_query(parent, query, deadline=collection.deadline(None))
        yield documents
        if len(documents) < page:
            return
        cursor = Cursor(before=False)
        cursor.values.add().reference_value = documents[-1].name
        query.start_at.CopyFrom(cursor)
