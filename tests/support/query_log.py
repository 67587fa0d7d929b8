"""What a store asks Firestore: every query that is sent, and what comes back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from firestore_flowstate._rpc.connection import Connection


@dataclass
class QueryLog:
    """The queries of all stores since the log was opened.

    Attributes:
        queries: The structured queries, as they were sent.
        counts: Those among them that only count.
        read_times: The time that each of the queries was to be answered as of; None: now.
        answered_as_of: The time that each answer was of.
        documents: How many documents came for each query that does not.
        received: How many bytes came with these documents.
        before_each: Awaited with a query before it is sent.
        after_each: Called once a query is answered.
    """

    queries: list[Any] = field(default_factory=list)
    counts: list[Any] = field(default_factory=list)
    read_times: list[Any] = field(default_factory=list)
    answered_as_of: list[Any] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    received: int = 0
    before_each: Callable[[Any], Awaitable[None]] | None = None
    after_each: Callable[[], None] | None = None

    def clear(self) -> None:
        """Forget everything."""
        self.queries.clear()
        self.counts.clear()
        self.read_times.clear()
        self.answered_as_of.clear()
        self.documents.clear()
        self.received = 0


class Rounds:
    """Counts how often queries are sent while none is under way, and forgets the queries before.

    Args:
        log: The log that tells of the queries.

    Attributes:
        count: How often that was.
    """

    def __init__(self, log: QueryLog) -> None:
        self.count = 0
        self._under_way = 0
        log.clear()
        log.before_each, log.after_each = self._sent, self._answered

    async def _sent(self, query: Any) -> None:
        self.count += self._under_way == 0
        self._under_way += 1

    def _answered(self) -> None:
        self._under_way -= 1


@pytest.fixture
def query_log(monkeypatch: pytest.MonkeyPatch) -> QueryLog:
    """The queries that the test sends. They are answered by the emulator as ever."""
    log = QueryLog()
    run_query_at, count = Connection.run_query_at, Connection.count

    async def run_and_note(self: Connection, parent: str, query: Any, **options: Any) -> Any:
        sent = type(query)()
        sent.CopyFrom(query)  # the caller may fill the same message for the next page
        log.queries.append(sent)
        log.read_times.append(options.get("read_time"))
        if log.before_each is not None:
            await log.before_each(sent)
        documents, read_time = await run_query_at(self, parent, query, **options)
        log.answered_as_of.append(read_time)
        log.documents.append(len(documents))
        log.received += sum(document.ByteSize() for document in documents)
        if log.after_each is not None:
            log.after_each()
        return documents, read_time

    async def count_and_note(self: Connection, parent: str, query: Any, **options: Any) -> Any:
        log.queries.append(query)
        log.counts.append(query)
        log.read_times.append(options.get("read_time"))
        if log.before_each is not None:
            await log.before_each(query)
        total, read_time = await count(self, parent, query, **options)
        log.answered_as_of.append(read_time)
        return total, read_time

    monkeypatch.setattr(Connection, "run_query_at", run_and_note)
    monkeypatch.setattr(Connection, "count", count_and_note)
    return log
