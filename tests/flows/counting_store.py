"""A store that notes what is written and read through it."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple


class Write(NamedTuple):
    """A call that wrote."""

    method: str
    id: str
    changes: dict[str, Any]


class CountingStore:
    """Passes everything on to a store, and counts.

    Attributes:
        writes: The writes that landed, in order.
        reads: How often each method that reads was called.
    """

    def __init__(self, store: Any) -> None:
        self.store = store
        self.writes: list[Write] = []
        self.reads: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def create(self, id: str, state: Any, **options: Any) -> None:
        await self.store.create(id, state, **options)
        self.writes.append(Write("create", id, {}))

    async def update(self, id: str, **changes: Any) -> str:
        version: str = await self.store.update(id, **changes)
        self.writes.append(Write("update", id, changes))
        return version

    async def load(self, id: str, **options: Any) -> Any:
        self.reads["load"] += 1
        return await self.store.load(id, **options)
