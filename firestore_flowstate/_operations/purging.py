"""Deleting what is old."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Final

from .._collection.collection import Collection
from .._document.stored_document import AGE, EXISTENCE, StoredDocument
from .._rpc.outcome import Ambiguous, Refused
from ..query import FlowStateQuery, milliseconds
from .bulk import delete_documents
from .deleting import delete_as_read
from .listing import Pages

_PAGE: Final = 100  # documents


async def purge(
    collection: Collection,
    query: FlowStateQuery,
    *,
    older_than: timedelta,
    dry_run: bool,
    progress: Callable[[int], None] | None,
) -> int:
    """Delete the states that match and were neither started nor written within `older_than`; return how many.

    In pages, newest first; what was deleted is done, so that after a crash it goes on by calling it again.
    """
    horizon = _before_now(older_than)
    before = query.started_before
    if before is None or milliseconds(before) > milliseconds(horizon):
        query = replace(query, started_before=horizon)
    pages = Pages(collection=collection, query=query, fields=AGE, expired=True)
    done = 0
    more = True
    while more:
        found, more, _ = await pages.next(_PAGE, collection.deadline(None))
        old = [one.document for one in found if one.document.updated.as_datetime() < horizon]
        if dry_run:
            done += len(old)
        else:
            done += await _delete(collection, old)
        if progress is not None and old:
            progress(done)
    return done


def _before_now(age: timedelta) -> datetime:
    """Return when something of that age began; the first moment of the calendar for what is older still."""
    try:
        return datetime.now(timezone.utc) - age
    except OverflowError:
        return datetime.min.replace(tzinfo=timezone.utc)


async def _delete(collection: Collection, documents: list[StoredDocument]) -> int:
    """Delete documents as they were read; one that was written since stays."""
    stayed = 0
    deadline = collection.deadline(None)

    async def one(document: StoredDocument, *, lost: Ambiguous | None) -> None:
        nonlocal stayed
        id = document.id
        try:
            await delete_as_read(collection, id, document, deadline=deadline)
        except (Refused, Ambiguous) as failure:
            lost = failure if isinstance(failure, Ambiguous) else lost
            # If a reply was lost it may be gone by us, and whether by another nothing tells.
            if lost is None or await collection.get(id, deadline, mask=EXISTENCE) is not None:
                stayed += 1

    await delete_documents(collection, documents, deadline, one)
    return len(documents) - stayed
