"""A store that notes what is written and read through it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from firestore_flowstate import StoreUnavailableError

Fault = Callable[[Callable[[], Awaitable[str]]], Awaitable[str]]


async def lost_before(update: Callable[[], Awaitable[str]]) -> str:
    """The request is lost: nothing is written, and nobody knows."""
    raise StoreUnavailableError("lost", outcome_unknown=True)


async def lost_after(update: Callable[[], Awaitable[str]]) -> str:
    """The reply is lost: it is written, and nobody knows."""
    await update()
    raise StoreUnavailableError("lost", outcome_unknown=True)


class Write(NamedTuple):
    """A call that wrote."""

    method: str
    id: str
    changes: dict[str, Any]


class CountingStore:
    """Passes everything on to a store, and counts.

    Attributes:
        faults: What happens in place of an update, by its number from 1: called with the update as a function.
        updates: How many updates were tried.
        writes: The writes that were committed, in order.
        reads: How often each method that reads was called.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.writes: list[Write] = []
        self.reads: Counter[str] = Counter()
        self.faults: dict[int, Fault] = {}
        self.updates = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def create(self, id: str, state: Any, **options: Any) -> None:
        await self.store.create(id, state, **options)
        self.writes.append(Write("create", id, {}))

    async def update(self, id: str, **changes: Any) -> str:
        async def update() -> str:
            version: str = await self.store.update(id, **changes)
            self.writes.append(Write("update", id, changes))
            return version

        self.updates += 1
        fault = self.faults.pop(self.updates, None)
        return await update() if fault is None else await fault(update)

    async def load(self, id: str, **options: Any) -> Any:
        self.reads["load"] += 1
        return await self.store.load(id, **options)
