"""Looking at every document of a collection: what lists cannot see, what nobody can read, what nobody deletes."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

from .._collection.collection import Collection
from .._collection.missing_ttl import LATEST_DELETION
from .._document.stored_document import EXISTENCE, StoredDocument
from .._document.summary import contradictions, hidden
from .._query.structured import due_structured_query, structured_query
from ..errors import FlowStateDecodeError, MissingIndexError
from ..models import FlowState
from ..query import FlowStateQuery
from ..reports import Finding
from .reading import state_of
from .scanning import scan
from .server_clock import MOST_SKEW, ServerClock

Look = Callable[[str, FlowState, datetime], Iterable[Finding]]

_PAGE: Final = 20  # documents, which may have a megabyte each and more in parts


async def examine(
    collection: Collection, *, look: Look, progress: Callable[[int], None] | None
) -> AsyncIterator[Finding]:
    """Yield what is wrong with the indexes and the clock, then with each document in the order of ids."""
    clock = ServerClock()
    async for finding in _missing_indexes(collection, clock):
        yield finding
    if (skewed := _skewed(clock.skew)) is not None:
        yield skewed
    seen = expired = 0
    async for page in scan(collection, page=_PAGE):
        now = clock.now()
        for document in page:
            expire_at = document.expire_at
            expired += expire_at is not None and now - expire_at >= LATEST_DELETION
            async for finding in _of_document(collection, document, now, look):
                yield finding
        seen += len(page)
        if progress is not None:
            progress(seen)
    if expired:
        yield Finding(
            kind="missing_ttl",
            id=None,
            message=f"{expired} states expired more than 72 hours ago and are still stored: it seems that no TTL "
            "policy deletes them. Deploy the one that `flowstate indexes` prints, or purge them.",
        )


def _skewed(skew: timedelta) -> Finding | None:
    """Return that the clock of this machine is wrong, if it is."""
    if abs(skew) <= MOST_SKEW:
        return None
    way = "ahead of" if skew > timedelta() else "behind"
    least = math.floor(abs(skew).total_seconds() * 10) / 10
    message = (
        f"The clock of this machine is at least {least:,.1f} seconds {way} the server's, by which leases end and flows "
        "are woken at the wrong time. Set it by a time server (NTP)."
    )
    return Finding(kind="clock", id=None, message=message)


async def _missing_indexes(collection: Collection, clock: ServerClock) -> AsyncIterator[Finding]:
    shard = 0 if collection.settings.shards > 1 else None
    done = FlowStateQuery(status="done")
    queries = [FlowStateQuery(), FlowStateQuery(name="flow"), FlowStateQuery(blocked_on="step"), done]
    asked = [structured_query(collection.collection_id, query, limit=1, shard=shard) for query in queries]
    asked.append(
        due_structured_query(
            collection.collection_id, before=0, limit=1, after=None, after_name=None, fields=EXISTENCE, shard=shard
        )
    )
    if shard is None:
        asked.append(structured_query(collection.collection_id, done, limit=1, native_done=[True]))
    for structured in asked:
        sent = time.time()
        try:
            _, server = await collection.connection.run_query_at(
                collection.parent, structured, deadline=collection.deadline(None)
            )
        except MissingIndexError as error:
            yield Finding(kind="index", id=None, message=str(error))
        else:
            clock.note(sent=sent, server=server)


async def _of_document(
    collection: Collection, document: StoredDocument, now: datetime, look: Look
) -> AsyncIterator[Finding]:
    id = document.id
    for kind, message in hidden(document, collection.settings.shards):
        yield Finding(kind=kind, id=id, message=message)
    if collection.settings.keys and document.is_native:
        yield Finding(
            kind="native",
            id=id,
            message="A native document, of which nothing is encrypted, though the settings have keys. "
            "Migrate it, with require_encryption off, which encrypts it.",
        )
        if collection.settings.require_encryption:
            return  # it is unreadable on purpose
    try:
        state = await state_of(collection, document, collection.deadline(None))
    except FlowStateDecodeError as error:
        yield Finding(kind="unreadable", id=id, message=str(error))
        return
    if state is None:  # deleted meanwhile
        return
    for message in contradictions(document, state):
        yield Finding(kind="head", id=id, message=message)
    if document.is_live():
        for finding in look(id, state, now):
            yield finding
