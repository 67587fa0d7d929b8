"""Looking for what is wrong with a collection: documents that lists cannot see or nobody can read, missing indexes.

``flowstate doctor`` prints what it finds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from .firestore import FirestoreFlowStateStore
from .reports import Finding

__all__ = ["Finding", "examine"]


async def examine(
    store: FirestoreFlowStateStore, *, progress: Callable[[int], None] | None = None
) -> AsyncGenerator[Finding, None]:
    """Yield what is wrong with the store's collection, and change nothing.

    Reads every document with its parts once, so it costs as many reads, and takes as long as an export.

    Args:
        store: The store; what lists can see depends on its settings.
        progress: Called after each page with the number of documents so far.

    Raises:
        BackendError: Firestore cannot be reached, or refuses.
    """
    collection = await store._ready(store._deadline(None))
    from ._operations.examining import examine as examine_collection

    async for finding in examine_collection(collection, progress=progress):
        yield finding
