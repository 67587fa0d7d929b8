"""Documents in the order of a list, from as many queries as it takes, merged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from .._collection.collection import Collection
from .._document.layouts import LAYOUTS
from .._document.stored_document import NATIVE_STATUS, StoredDocument
from .._query.matching import order
from .._query.structured import structured_query
from .._query.token import Position
from .._rpc.concurrency import gather_or_cancel
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, StructuredQuery, Timestamp
from .._rpc.read_time import ReadTime, of_now
from ..models import FlowStatus
from ..query import MAX_LIMIT, FlowStateQuery, statuses

_MOST: Final = MAX_LIMIT  # documents of one query, which must end within the deadline
_MOST_WHOLE: Final = 100  # whole documents of one query that looks for the next live ones and may throw all away
_SPREAD: Final = 2  # standard deviations by which a shard may have more than its average; see `share`


@dataclass(frozen=True, kw_only=True)
class Found:
    """A live document that matches, at its place in the order.

    Attributes:
        position: Its place in the order.
        key: The key of the order, greatest first.
        document: The document; if `partial`, only the fields that tell whether it matches.
        partial: Whether the rest of it is still to be read.
    """

    position: Position
    key: tuple[float, bytes]
    document: StoredDocument
    partial: bool = False


@dataclass(kw_only=True)
class Stream:
    """The documents of one query, fetched in batches.

    Attributes:
        collection: The collection.
        query: The filters.
        after: The place of the last document that was fetched; None: none was.
        fields: The field paths to read; None: all.
        deadline: When the next fetch must have ended, renewed for each page; None: each fetch has the timeout of the
            settings.
        read_time: The time as of which it is read. Several streams of a query have the same. A stream that is the only
            one gets another for each page, since no write changes the order.
        shard: The shard that it asks; None: all documents, whatever their shard.
        native_statuses: Ask for native documents, which have no field with the status, and keep those that have one of
            these statuses.
        expired: Whether to keep documents that have expired too.
        ready: The documents that were fetched and are still to be taken, in order.
        ended: Whether there are no more than these.
    """

    collection: Collection
    query: FlowStateQuery
    after: Position | None
    fields: Sequence[str] | None
    deadline: Deadline | None
    read_time: ReadTime
    shard: int | None = None
    native_statuses: Sequence[FlowStatus] | None = None
    expired: bool = False
    ready: deque[Found] = field(default_factory=deque)
    ended: bool = False
    _least: int = 1
    _all_match: bool = True

    async def fill(self, count: int) -> None:
        """Fetch documents until so many are ready or there are no more."""
        while len(self.ready) < count and not self.ended:
            await self._fetch(count - len(self.ready))

    async def count(self, *, native_by_status: bool = False) -> int:
        """Return how many documents the query finds, expired ones too. The server counts them.

        Args:
            native_by_status: Count only the native ones, which have an unknown key ``status`` that the query matches.
        """
        collection = self.collection
        structured = structured_query(
            collection.collection_id, self.query, limit=None, shard=self.shard, native_by_status=native_by_status
        )

        async def ask(read_time: Timestamp | None) -> tuple[int, Timestamp | None]:
            return await collection.connection.count(
                collection.parent, structured, deadline=self._due(), read_time=read_time
            )

        return await self.read_time.read(ask, self._due())

    def needs_filling(self) -> bool:
        """Return whether it has run dry, so that only a fetch can tell what is next."""
        return not self.ready and not self.ended

    def peek(self) -> Found | None:
        """Return the next document of those that are ready; None if there is none."""
        return self.ready[0] if self.ready else None

    def pop(self) -> Found:
        """Take the next document of those that are ready."""
        return self.ready.popleft()

    def structured(self, count: int, fields: Sequence[str] | None) -> StructuredQuery:
        """Return the query for the next so many documents, with these field paths of each; None: with all."""
        asked = self.native_statuses
        return structured_query(
            self.collection.collection_id,
            self.query,
            limit=count,
            after=self.after,
            after_name=None if self.after is None else self.collection.name(self.after.id),
            fields=fields,
            shard=self.shard,
            native_done=None if asked is None else sorted({done for status in asked for done in _may_be_done(status)}),
        )

    def _due(self) -> Deadline:
        """Return when a request that begins now must have ended."""
        return self.deadline or self.collection.deadline(None)

    def _mask(self) -> Sequence[str] | None:
        """Return the field paths to read; None: all.

        A query for native documents by status finds those of other statuses too. After a fetch with such a one it reads
        no more than tells the status, since a flow may have a megabyte, and what is shown is read a second time.
        """
        if self.native_statuses is None:
            return self.fields
        if self.fields is not None:
            return list(dict.fromkeys((*self.fields, *NATIVE_STATUS)))
        return None if self._all_match else NATIVE_STATUS

    async def _fetch(self, wanted: int) -> None:
        collection = self.collection
        fields = self._mask()
        # What was learnt from parts of documents does not go for whole ones, each of which may have a megabyte.
        count = max(wanted, self._least if fields is not None else min(self._least, _MOST_WHOLE))
        partial = self.fields is None and fields is not None
        structured = self.structured(count, fields)

        async def ask(read_time: Timestamp | None) -> tuple[list[Document], Timestamp | None]:
            return await collection.connection.run_query_at(
                collection.parent, structured, deadline=self._due(), read_time=read_time
            )

        documents = await self.read_time.read(ask, self._due())
        self.ended = len(documents) < count
        now = datetime.now(timezone.utc)
        kept = 0
        for document in (StoredDocument(message, self.read_time.time) for message in documents):
            self.after = Position(document.start_time, document.id)
            if self.takes(document, now):
                self.ready.append(
                    Found(position=self.after, key=order(*self.after), document=document, partial=partial)
                )
                kept += 1
        self._all_match = kept == len(documents)
        if not self._all_match:
            # If some are left out, many may be. Asking for twice as many each time takes a logarithm of round trips.
            most = _MOST_WHOLE if self._mask() is None else _MOST
            self._least = max(self._least, min(2 * count, most))

    def takes(self, document: StoredDocument, now: datetime) -> bool:
        """Return whether a document that Firestore returns is one that the query asks for, and has not expired."""
        expire_at = None if self.expired else document.expire_at
        if expire_at is not None and expire_at <= now:
            self.collection.missing_ttl.saw(expire_at, now, path=self.collection.path)
            return False
        has_head = LAYOUTS[document.layout].has_head
        if self.native_statuses is None:
            # If a native document was found by `status` or `shard`, it has an unknown key of that name: not its status.
            return has_head or (self.query.status is None and self.shard is None)
        return not has_head and document.native_status in self.native_statuses


def streams(
    collection: Collection,
    query: FlowStateQuery,
    *,
    after: Position | None,
    fields: Sequence[str] | None,
    deadline: Deadline | None,
    expired: bool = False,
) -> list[Stream]:
    """Return the streams whose documents together are those of the query, all as of one time.

    A query by status takes two: native documents have no field with the status.
    """
    shards = collection.settings.shards
    several = shards > 1 or query.status is not None
    common: dict[str, Any] = {
        "collection": collection,
        "query": query,
        "after": after,
        "fields": fields,
        "deadline": deadline,
        "expired": expired,
        "read_time": collection.read_time() if several else of_now(),
    }
    if shards > 1:
        return [Stream(shard=shard, **common) for shard in range(shards)]
    asked = statuses(query)
    if asked is None:
        return [Stream(**common)]
    return [Stream(**common), Stream(native_statuses=asked, **common)]


def _may_be_done(status: FlowStatus) -> tuple[bool, ...]:
    """Return the values of ``operation.done`` that native documents of the status have; a failed one has either."""
    return (False, True) if status == "failed" else (status == "done",)


async def merged(sources: Sequence[Stream], count: int) -> list[Found]:
    """Return the next so many of all streams together, newest start first, ties by id descending."""
    shards = sum(source.shard is not None for source in sources)
    taken: list[Found] = []
    while len(taken) < count:
        await _fill(sources, count - len(taken), shards)
        ready = _in_order(sources)
        if not ready:
            break
        for _, index in ready:
            taken.append(sources[index].pop())
            if len(taken) == count or sources[index].needs_filling():
                break
    return taken


async def more_follow(sources: Sequence[Stream]) -> bool:
    """Return whether any stream has another document. In most cases this needs no further fetch."""
    if not any(source.ready for source in sources):
        await gather_or_cancel(source.fill(1) for source in sources if source.needs_filling())
    return any(source.ready for source in sources)


def share(count: int, shards: int) -> int:
    """Return how many documents to ask each shard for, to get the first `count` of all shards.

    Ids are spread evenly, so a shard has about one in `shards` of them. The result is that average and two standard
    deviations. For a page of 100 over 8 shards this reads 160 documents, and one page in eleven needs another round
    trip. To ask each shard for all would read 808. To ask for the average would read 104, and nearly every page would
    need another round trip. docs/scale.md has the figures.
    """
    if shards <= 1:
        return count
    average = count / shards
    return min(count, math.ceil(average + _SPREAD * math.sqrt(average)))


async def _fill(sources: Sequence[Stream], missing: int, shards: int) -> None:
    """Fill the streams that have run dry, all at once: before that it is not known what comes next.

    Streams that will run dry before the page is full are filled with them. The gain: one after the other, each would
    take a round trip.
    """
    dry = [source for source in sources if source.needs_filling()]
    if not dry:
        return
    before_last = _in_order(sources)[: missing - 1]
    if before_last and len(before_last) == missing - 1:
        last, _ = before_last[-1]
        dry += [source for source in sources if source.ready and not source.ended and source.ready[-1].key > last]
    elif missing > 1:
        dry += [source for source in sources if source.ready and not source.ended]
    more = share(missing + 1, shards)  # one more tells whether another page follows
    if len(dry) == 1:
        await dry[0].fill(more)
    else:
        await gather_or_cancel(source.fill(len(source.ready) + more) for source in dry)


def _in_order(sources: Sequence[Stream]) -> list[tuple[tuple[float, bytes], int]]:
    """Return the keys of all documents that are ready, each with the index of its stream, in the order of the list."""
    keys = ((found.key, index) for index, source in enumerate(sources) for found in source.ready)
    return sorted(keys, reverse=True)
