"""Reading every flow state of a query once, a few megabytes at a time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .._collection.collection import Collection
from .._document.stored_document import StoredDocument
from .._rpc.messages import Timestamp
from ..errors import FlowStateDecodeError
from ..models import FlowState
from ..query import FlowStateQuery
from .listing import Pages, pages_of, whole
from .reading import states_of

_BATCH_BYTES: Final = 4 * 1024 * 1024
_FIRST_PAGE: Final = 4  # documents, which have a megabyte each at most
_LARGEST_PAGE: Final = 100


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
