"""The pages of a query: one after the other, each of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .._query.token import Position
from .._rpc.deadline import Deadline
from .._rpc.messages import Timestamp
from ..query import FlowStateQuery
from .collection import Collection
from .streams import Found, Stream, merged, more_follow, streams


class Page(NamedTuple):
    """What a page shows.

    Attributes:
        found: The documents, in order.
        more: Whether another page follows.
        read_time: The moment it is of, where it took several queries; None: that of its one query.
    """

    found: list[Found]
    more: bool
    read_time: Timestamp | None


@dataclass(kw_only=True)
class Pages:
    """The pages of a query; documents that were fetched for one and not shown are kept for the next.

    What is kept is of the moment at which it was read, so the next page is of the same: else a state that moved from a
    shard that is still to be asked to one that has been asked would be in none. A moment serves for five minutes; then
    what is kept is dropped, and read again with the rest.

    Attributes:
        collection: Where.
        query: The filters.
        after: What was shown last.
        fields: The field paths to read; None: all.
        expired: Whether to show those that have expired too.
    """

    collection: Collection
    query: FlowStateQuery
    after: Position | None = None
    fields: Sequence[str] | None = None
    expired: bool = False
    _sources: Sequence[Stream] = field(default=())

    async def next(self, limit: int, deadline: Deadline) -> Page:
        """Return the next page, of at most so many documents."""
        read_time = self._sources[0].read_time if self._sources else None
        if not self._sources or (read_time is not None and read_time.is_old()):
            self._sources = streams(
                self.collection,
                self.query,
                after=self.after,
                fields=self.fields,
                deadline=deadline,
                expired=self.expired,
            )
        for source in self._sources:
            source.deadline = deadline
        found = await merged(self._sources, limit)
        more = len(found) == limit and await more_follow(self._sources)
        if found:
            self.after = found[-1].position
        read_time = self._sources[0].read_time
        return Page(found, more, None if read_time is None else read_time.time)
