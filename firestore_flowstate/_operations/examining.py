"""Looking at every document of a collection: what lists cannot see, what nobody can read, what nobody deletes."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from .._collection.collection import Collection, expires_at, is_live
from .._collection.missing_ttl import LATEST_DELETION
from .._document.root import is_serialized
from .._query.structured import due_structured_query, structured_query
from .._rpc.messages import Document
from ..errors import FlowStateDecodeError, MissingIndexError
from ..models import FlowState, FlowStatus
from ..query import FlowStateQuery
from ..reports import Finding
from .reading import state_of
from .scanning import scan
from .server_clock import MOST_SKEW, ServerClock

Look = Callable[[str, FlowState, datetime], Iterable[Finding]]

_PAGE: Final = 20  # documents, which may have a megabyte each and more in parts
_KINDS: Final = {
    "null_value": "null",
    "boolean_value": "a boolean",
    "timestamp_value": "a timestamp",
    "string_value": "a string",
    "bytes_value": "bytes",
    "reference_value": "a reference",
    "geo_point_value": "a place",
    "array_value": "an array",
    "map_value": "a map",
}


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
            expire_at = expires_at(document.fields)
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
            collection.collection_id, before=0, limit=1, after=None, after_name=None, fields=["flowId"], shard=shard
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


async def _of_document(collection: Collection, document: Document, now: datetime, look: Look) -> AsyncIterator[Finding]:
    id = collection.id_of(document)
    for kind, message in _hidden(collection, document):
        yield Finding(kind=kind, id=id, message=message)
    if collection.settings.keys and not is_serialized(document):
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
    for message in _contradictions(document, state):
        yield Finding(kind="head", id=id, message=message)
    if is_live(document):
        for finding in look(id, state, now):
            yield finding


def _hidden(collection: Collection, document: Document) -> Iterator[tuple[Literal["hidden", "native"], str]]:
    """Yield why lists cannot see a document."""
    fields, shards = document.fields, collection.settings.shards
    if "startTime" not in fields:
        yield "hidden", "startTime is missing, so no list shows it. Load it by its id, and save it or delete it."
    elif (wrong := _wrong_number(fields["startTime"])) is not None:
        yield "hidden", f"startTime is {wrong}, so no list shows it. Correct it, or delete the document."
    if shards == 1:
        return
    if not is_serialized(document):
        yield "native", f"A native document, which carries no shard: no list over {shards} shards shows it. Migrate it."
    elif "shard" not in fields or fields["shard"].WhichOneof("value_type") != "integer_value":
        yield "hidden", f"shard is missing or no integer, so no list over {shards} shards shows it. Save it again."
    elif not 0 <= fields["shard"].integer_value < shards:
        number = fields["shard"].integer_value
        yield "hidden", f"It is in shard {number}, which no list over {shards} shards asks. Migrate, or raise shards."


def _wrong_number(value: object) -> str | None:
    """Return what a value is if it is no number that has a place in the order."""
    kind = value.WhichOneof("value_type")  # type: ignore[attr-defined]  # protobuf's messages are untyped
    if kind == "integer_value":
        return None
    if kind == "double_value":
        return "NaN" if math.isnan(value.double_value) else None  # type: ignore[attr-defined]  # as above
    return _KINDS.get(kind, "no number")


def _contradictions(document: Document, state: FlowState) -> Iterator[str]:
    """Yield where the head, which filters ask, says something else than the state."""
    fields = document.fields
    if not is_serialized(document):
        return
    if "expireAt" in fields and expires_at(fields) is None:
        yield "expireAt is not a timestamp, so it never expires. Save it again."
    status = fields["status"].string_value if "status" in fields else None
    if status != state.status:
        told = f"says {status!r}" if status in get_args(FlowStatus) else "is missing or none"
        yield f"status {told}, but it is {state.status}: filters go by the head. Save it again."
    blocked = fields["blockedOnStep"].map_value.fields if "blockedOnStep" in fields else {}
    name = blocked["name"].string_value if "name" in blocked else None
    if name != (None if state.blocked_on_step is None else state.blocked_on_step.name):
        yield f"blockedOnStep says {name!r}, which is not the step that it waits for. Save it again."
