"""Looking at every document of a collection: what lists cannot see, what nobody can read, what nobody deletes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, get_args

from .._collection.collection import Collection, expires_at, is_live
from .._collection.missing_ttl import LATEST_DELETION
from .._document.root import is_serialized
from .._query.due import wake_at
from .._query.structured import due_structured_query, structured_query
from .._rpc.messages import Document
from ..errors import FlowStateDecodeError, MissingIndexError
from ..models import FlowState, FlowStatus
from ..query import FlowStateQuery
from ..reports import Finding
from .reading import state_of
from .scanning import scan

_PAGE: Final = 20  # documents, which may have a megabyte each and more in parts
LATE: Final = timedelta(minutes=3)  # a sweep a minute, and the two minutes in which it takes up what it has found
STILL: Final = timedelta(days=3)
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


async def examine(collection: Collection, *, progress: Callable[[int], None] | None) -> AsyncIterator[Finding]:
    """Yield what is wrong with the indexes, then with each document in the order of ids."""
    async for finding in _missing_indexes(collection):
        yield finding
    seen = expired = 0
    async for page in scan(collection, page=_PAGE):
        now = datetime.now(timezone.utc)
        for document in page:
            expire_at = expires_at(document.fields)
            expired += expire_at is not None and now - expire_at >= LATEST_DELETION
            async for finding in _of_document(collection, document):
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


async def _missing_indexes(collection: Collection) -> AsyncIterator[Finding]:
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
        try:
            await collection.connection.run_query(collection.parent, structured, deadline=collection.deadline(None))
        except MissingIndexError as error:
            yield Finding(kind="index", id=None, message=str(error))


async def _of_document(collection: Collection, document: Document) -> AsyncIterator[Finding]:
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
    if is_live(document) and (late := _lateness(state, datetime.now(timezone.utc))) is not None:
        yield Finding(kind="late_run", id=id, message=late)


def _lateness(state: FlowState, now: datetime) -> str | None:
    """Return why it seems that nobody looks after a flow that should go on."""
    moment = wake_at(state.model_extra or {})
    passed = None if moment is None else now.timestamp() - moment / 1000
    if passed is not None and passed > LATE.total_seconds():
        return (
            f"Its wakeAt passed {_spelled(passed)} ago, and nobody has looked at it since. See that a worker or a "
            "scheduled sweep of its flows runs."
        )
    if moment is None and state.status == "running" and state.updated_at is not None:
        still = (now - state.updated_at).total_seconds()
        if still > STILL.total_seconds():
            return (
                f"It counts as running, and was not written for {_spelled(still)}: whoever ran it seems to have died. "
                "Run it again, or delete it."
            )
    return None


def _spelled(seconds: float) -> str:
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.0f} hours" if seconds < 2 * 86_400 else f"{seconds / 86_400:,.0f} days"


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
