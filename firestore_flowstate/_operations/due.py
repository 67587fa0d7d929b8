"""What is due: the states whose wake time has come, earliest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from .._collection.collection import Collection
from .._document.layouts import LAYOUTS
from .._document.stored_document import StoredDocument
from .._document.summary import SUMMARY, summary_of
from .._query.matching import Due, DueQuery
from .._query.structured import due_structured_query
from .._rpc.concurrency import gather_or_cancel
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Timestamp
from .._rpc.read_time import ReadTime
from ..errors import FlowStateDecodeError
from ..pages import FlowStateSummary
from ..query import MAX_LIMIT
from .reading import check_readable
from .streams import share


async def due(collection: Collection, query: DueQuery, deadline: Deadline) -> Sequence[FlowStateSummary]:
    """Return the summaries of what is due, by one query for each shard, merged."""
    shards = collection.settings.shards
    read_time = collection.read_time()
    sources = [
        _Source(
            collection=collection,
            query=query,
            deadline=deadline,
            shard=shard if shards > 1 else None,
            read_time=read_time if shards > 1 else None,
        )
        for shard in range(shards)
    ]
    found: list[FlowStateSummary] = []
    while len(found) < query.limit:
        if any(source.needs_more() for source in sources):
            missing = query.limit - len(found)
            more = share(missing, shards)
            await gather_or_cancel(source.fetch(more) for source in _running_dry(sources, missing))
            continue
        ready = [source for source in sources if source.ready]
        if not ready:
            break
        _, summary = min(ready, key=lambda source: source.ready[0][0].key).ready.popleft()
        found.append(summary)
    return found


def _running_dry(sources: Sequence[_Source], missing: int) -> list[_Source]:
    """Return the sources that have run dry, and those that will have before all that is missing is found.

    The gain: they are asked together. One after the other, each would take a round trip.
    """
    places = sorted(place.key for source in sources for place, _ in source.ready)
    last = places[missing - 2] if 2 <= missing <= len(places) + 1 else None
    return [
        source
        for source in sources
        if source.needs_more()
        or (not source.ended and missing > 1 and (last is None or source.ready[-1][0].key < last))
    ]


@dataclass(kw_only=True)
class _Source:
    """The due states of one shard, or of all documents if there is one shard alone."""

    collection: Collection
    query: DueQuery
    deadline: Deadline
    shard: int | None
    read_time: ReadTime | None
    after: Due | None = field(init=False)
    ready: deque[tuple[Due, FlowStateSummary]] = field(default_factory=deque)
    ended: bool = False
    _least: int = 1

    def __post_init__(self) -> None:
        self.after = self.query.after

    def needs_more(self) -> bool:
        """Return whether it has run dry, so that only a fetch can tell what is next."""
        return not self.ready and not self.ended

    async def fetch(self, wanted: int) -> None:
        """Ask for so many more. If some of them are left out, ask for twice as many the next time."""
        collection, count = self.collection, max(wanted, self._least)
        structured = due_structured_query(
            collection.collection_id,
            before=self.query.before,
            limit=count,
            after=self.after,
            after_name=None if self.after is None else collection.name(self.after.id),
            fields=SUMMARY,
            shard=self.shard,
        )

        async def ask(read_time: Timestamp | None) -> tuple[list[Document], Timestamp | None]:
            return await collection.connection.run_query_at(
                collection.parent, structured, deadline=self.deadline, read_time=read_time
            )

        documents = (await ask(None))[0] if self.read_time is None else await self.read_time.read(ask, self.deadline)
        self.ended = len(documents) < count
        now = datetime.now(timezone.utc)
        before = len(self.ready)
        for document in map(StoredDocument, documents):
            self.after = Due(document.wake_at, document.id)
            if (summary := self._summary(document, now)) is not None:
                self.ready.append((self.after, summary))
        if len(self.ready) - before < len(documents):
            self._least = min(2 * count, MAX_LIMIT)

    def _summary(self, document: StoredDocument, now: datetime) -> FlowStateSummary | None:
        """Return the summary; None if the state has expired, or it cannot be read, which gives a warning.

        The settings may forbid to read it. It is left out then too, so that whoever may write to the collection cannot
        hold up all that is due behind a document of theirs.

        None too for a native document that was found by its shard: that is an unknown key of its own.
        """
        collection, expire_at = self.collection, document.expire_at
        if self.shard is not None and not LAYOUTS[document.layout].has_head:
            return None
        if expire_at is not None and expire_at <= now:
            collection.missing_ttl.saw(expire_at, now, path=collection.path)
            return None
        try:
            check_readable(collection, document)
            return summary_of(document, reference_of=collection.reference_of)
        except FlowStateDecodeError as error:
            collection.left_out.leaves_out(document.id, error)
            return None
