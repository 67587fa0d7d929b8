"""Looking at documents whatever is in them: some by their ids, or all for what lists cannot see and nobody can read."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from .._collection.collection import LATEST_DELETION, Collection
from .._document.layouts import LAYOUTS
from .._document.stored_document import EXISTENCE, EXPIRY_ALONE, LayoutName, StoredDocument
from .._document.stored_values import part_count, part_ids
from .._document.summary import hidden
from .._limits import is_flow_id
from .._query.structured import due_structured_query, structured_query
from .._rpc.deadline import Deadline
from .._rpc.messages import Cursor, Int32Value, StructuredQuery, Timestamp, rest_form
from ..errors import FlowStateDecodeError, MissingIndexError
from ..models import FlowState
from ..query import FlowStateQuery
from ..reports import Finding
from .orphans import Unsealed, unsealed
from .reading import scan, state_of

Look = Callable[[str, FlowState, datetime], Iterable[Finding]]

_PAGE: Final = 20  # documents: each may have 1 MiB, and more in parts
MOST_SKEW: Final = timedelta(seconds=2)  # as long as owners of leases get at least once these have ended
_AT_ONCE = 300  # documents of one read
_SHOWN: Final = 3  # ids in the text of a finding that is about many flow states


async def examine(
    collection: Collection,
    by_keys: Sequence[FlowStateQuery],
    *,
    look: Look,
    progress: Callable[[int], None] | None,
) -> AsyncIterator[Finding]:
    """Yield what is wrong with the indexes and the clock, then with each document in the order of ids.

    Args:
        collection: The collection.
        by_keys: A query by each unknown key whose index is looked for.
        look: Called for each flow that can be read.
        progress: Called after each page with the number of documents so far.
    """
    clock = ServerClock()
    async for finding in _missing_indexes(collection, by_keys, clock):
        yield finding
    if (skewed := _skewed(clock.skew)) is not None:
        yield skewed
    seen = expired = 0
    referred: int | None = 0  # parts; None: a document does not tell
    async for page in scan(collection, page=_PAGE):
        now = clock.now()
        for document in page:
            expire_at = document.expire_at
            expired += expire_at is not None and now - expire_at >= LATEST_DELETION
            referred = None if referred is None else _with_parts_of(document, referred)
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
    if collection.settings.keys and (found := await unsealed(collection, referred=referred)).parts:
        yield _orphaned(found)


def _with_parts_of(document: StoredDocument, referred: int) -> int | None:
    """Return the sum of parts with those of the document; None if it is damaged."""
    try:
        return referred + len(part_ids(document.read_refs()))
    except FlowStateDecodeError:
        return None


def _orphaned(found: Unsealed) -> Finding:
    """Return the finding that there are parts which no flow state refers to and which rewrap does not encrypt."""
    below = ", ".join(map(repr, found.ids[:_SHOWN])) + (" and others" if len(found.ids) > _SHOWN else "")
    young = f" Of these {found.young:,} stay until they are an hour old." if found.young else ""
    return Finding(
        kind="orphan",
        id=None,
        message="Parts that no flow state refers to are not encrypted by the current key, and rewrap does not rewrite "
        f"them: {found.parts:,} below {below}. Run `flowstate gc`, which deletes them.{young}",
    )


def _skewed(skew: timedelta) -> Finding | None:
    """Return the finding that the clock of this machine is wrong, if it is."""
    if abs(skew) <= MOST_SKEW:
        return None
    way = "ahead of" if skew > timedelta() else "behind"
    least = math.floor(abs(skew).total_seconds() * 10) / 10
    message = (
        f"The clock of this machine is at least {least:,.1f} seconds {way} the server's, by which leases end and flows "
        "are woken at the wrong time. Set it by a time server (NTP)."
    )
    return Finding(kind="clock", id=None, message=message)


async def _missing_indexes(
    collection: Collection, by_keys: Sequence[FlowStateQuery], clock: ServerClock
) -> AsyncIterator[Finding]:
    shard = 0 if collection.settings.shards > 1 else None
    done = FlowStateQuery(status="done")
    queries = [FlowStateQuery(), FlowStateQuery(name="flow"), FlowStateQuery(blocked_on="step"), done, *by_keys]
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
    id, layout = document.id, LAYOUTS[document.layout]
    for kind, message in hidden(document, collection.settings.shards):
        yield Finding(kind=kind, id=id, message=message)
    if collection.settings.keys and not layout.packs_values:
        yield Finding(
            kind="native",
            id=id,
            message="A native document is never encrypted, and the settings have keys. Migrate it, with "
            "require_encryption off: that encrypts it.",
        )
        if collection.settings.require_encryption:
            return  # the settings say that it is not to be read
    try:
        state = await state_of(collection, document, collection.deadline(None))
    except FlowStateDecodeError as error:
        yield Finding(kind="unreadable", id=id, message=str(error))
        return
    if state is None:  # deleted meanwhile
        return
    for message in layout.contradictions(document, state):
        yield Finding(kind="head", id=id, message=message)
    if document.is_live():
        try:
            findings = list(look(id, state, now))
        except FlowStateDecodeError as error:  # the state is sound, and what flows keep in it is not
            findings = [Finding(kind="unreadable", id=id, message=str(error))]
        for finding in findings:
            yield finding


class ServerClock:
    """How far the clock of this machine is ahead of the server's, as answers of the server show.

    The server's time in an answer lies between the sending of the request and the arrival of the answer. So each answer
    narrows the difference down.
    """

    def __init__(self) -> None:
        self._least, self._most = -math.inf, math.inf

    def note(self, *, sent: float, server: Timestamp | None) -> None:
        """Take the time of an answer that has just come.

        Args:
            sent: When the request was sent, by `time.time()`.
            server: The server's time in the answer; None: the answer has none.
        """
        if server is None:
            return
        arrived, told = time.time(), server.seconds + server.nanos / 1e9
        self._least = max(self._least, sent - told)
        self._most = min(self._most, arrived - told)

    @property
    def skew(self) -> timedelta:
        """The smallest difference that explains the answers; positive if this machine is ahead."""
        if self._least > self._most:  # the clock was set meanwhile
            return timedelta()
        return timedelta(seconds=max(self._least, 0.0) or min(self._most, 0.0))

    def now(self) -> datetime:
        """Return the server's time."""
        return datetime.now(timezone.utc) - self.skew


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """A document as it is stored; the fields are those of `inspection.InspectedDocument`."""

    rest: Mapping[str, Any]
    layout: LayoutName
    size: int
    parts: int
    part_bytes: int


def form_of(collection: Collection, document: StoredDocument) -> StoredForm:
    """Return the stored form of a document, even if it cannot be read as a flow state."""
    return StoredForm(
        rest=rest_form(document.message),
        layout=document.layout,
        size=document.size(collection.path_of(document.id)),
        parts=part_count(document.refs),
        part_bytes=sum(ref.bytes for ref in document.refs),
    )


async def ids_beginning_with(collection: Collection, prefix: str, limit: int, deadline: Deadline) -> list[str]:
    """Return the first ids with this prefix of documents that have not expired, in the order of ids."""
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    query.order_by.add().field.field_path = "__name__"
    for path in EXPIRY_ALONE:
        query.select.fields.add().field_path = path
    found: list[str] = []
    begin = Cursor(before=True)
    begin.values.add().reference_value = collection.name(prefix)
    query.start_at.CopyFrom(begin)
    query.limit.CopyFrom(Int32Value(value=limit))
    while len(found) < limit:
        documents = await collection.connection.run_query(collection.parent, query, deadline=deadline)
        for document in map(StoredDocument, documents):
            if not document.id.startswith(prefix):
                return found
            if document.is_live():
                found.append(document.id)
        if len(documents) < limit:
            break
        query.start_at.before = False
        query.start_at.values[0].reference_value = documents[-1].name
    return found[:limit]


async def absent(collection: Collection, ids: Iterable[str], deadline: Deadline) -> list[str]:
    """Return the ids under which nothing is stored. Expired states count as stored until they are deleted."""
    names = {collection.name(id): id for id in dict.fromkeys(ids) if is_flow_id(id)}
    asked = list(names)
    for start in range(0, len(asked), _AT_ONCE):
        batch = asked[start : start + _AT_ONCE]
        for name in await collection.connection.batch_get(batch, deadline=deadline, mask=EXISTENCE):
            del names[name]
    return list(names.values())
