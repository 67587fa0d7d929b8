"""Documents in the order of a list, from as many queries as it takes, merged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from .._document.root import is_serialized
from .._query.structured import structured_query
from .._query.token import Position
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Value
from ..models import FlowStatus
from ..query import FlowStateQuery
from .collection import Collection, is_live
from .progress import NATIVE_PROGRESS, native_progress

_LEAST: Final = 5  # documents to ask for when some that came had expired


@dataclass(frozen=True, kw_only=True)
class Found:
    """A live document that matches, at its place in the order.

    Attributes:
        position: Its place.
        document: The document; where `partial`, only the fields that told that it matches.
        partial: Whether the rest of it is still to be read.
    """

    position: Position
    document: Document
    partial: bool = False

    def key(self) -> tuple[float | int, bytes]:
        """Return what the order is by, greatest first."""
        return (self.position.start_time, self.position.id.encode())


@dataclass(kw_only=True)
class Stream:
    """The documents of one query, fetched in batches.

    Attributes:
        shard: The shard it asks; None: whatever the shard.
        native_status: Ask native documents, which carry no status, and keep those that have this one.
        expired: Whether to keep those that have expired too.
    """

    collection: Collection
    query: FlowStateQuery
    after: Position | None
    fields: Sequence[str] | None
    deadline: Deadline
    shard: int | None = None
    native_status: FlowStatus | None = None
    expired: bool = False
    _ready: list[Found] = field(default_factory=list)
    _ended: bool = False

    async def fill(self, count: int) -> None:
        """Fetch until so many are ready or there are no more."""
        while len(self._ready) < count and not self._ended:
            await self._fetch(max(count - len(self._ready), _LEAST if self.after is not None else 1))

    def peek(self) -> Found | None:
        """Return the next one."""
        return self._ready[0] if self._ready else None

    def pop(self) -> Found:
        """Take the next one."""
        return self._ready.pop(0)

    async def _fetch(self, count: int) -> None:
        collection = self.collection
        native = self.native_status is not None
        structured = structured_query(
            collection.collection_id,
            self.query,
            limit=count,
            after=self.after,
            after_name=None if self.after is None else collection.name(self.after.id),
            fields=["startTime", "expireAt", "blockedOnStep", *NATIVE_PROGRESS] if native else self.fields,
            shard=self.shard,
            native_done=self.native_status in ("done", "failed") if native else None,
        )
        documents = await collection.connection.run_query(collection.parent, structured, deadline=self.deadline)
        self._ended = len(documents) < count
        now = datetime.now(timezone.utc)
        for document in documents:
            self.after = Position(_number(document.fields["startTime"]), collection.id_of(document))
            if not self.expired and not is_live(document, now):
                continue
            if native and (is_serialized(document) or native_progress(document).status != self.native_status):
                continue
            self._ready.append(Found(position=self.after, document=document, partial=native))


def streams(
    collection: Collection,
    query: FlowStateQuery,
    *,
    after: Position | None,
    fields: Sequence[str] | None,
    deadline: Deadline,
    expired: bool = False,
) -> list[Stream]:
    """Return the streams whose documents together are those of the query.

    A query by status asks twice: native documents carry none.
    """
    common: dict[str, Any] = {
        "collection": collection,
        "query": query,
        "after": after,
        "fields": fields,
        "deadline": deadline,
        "expired": expired,
    }
    shards = collection.settings.shards
    if shards > 1:
        return [Stream(shard=shard, **common) for shard in range(shards)]
    if query.status is None:
        return [Stream(**common)]
    return [Stream(**common), Stream(native_status=query.status, **common)]


async def merged(sources: Sequence[Stream], count: int) -> list[Found]:
    """Return the first so many of all streams together, newest start first, ties by id descending."""
    await asyncio.gather(*(source.fill(count) for source in sources))
    taken: list[Found] = []
    while len(taken) < count:
        heads = [(head.key(), index) for index, source in enumerate(sources) if (head := source.peek()) is not None]
        if not heads:
            break
        _, index = max(heads)
        taken.append(sources[index].pop())
    return taken


def _number(value: Value) -> int | float:
    number: int | float = (
        value.double_value if value.WhichOneof("value_type") == "double_value" else value.integer_value
    )
    return number
