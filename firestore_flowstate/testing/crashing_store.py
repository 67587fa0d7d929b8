"""A store for simulations: it counts writes, and lets the process die before or after one of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..models import FlowState
from ..store import VersionedFlowStateStore
from ..unset import UNSET, Unset


@dataclass
class Writes:
    """The writes of a simulation, over all its processes.

    Attributes:
        before: The number of the write before which the process dies, from 1.
        after: The number of the write after which the process dies, from 1.
        count: How many writes there were, also counting the one before which the process died.
        recorded: The keys of the results that are stored, by the id of the run.
        ids: The ids of the runs that were to be created, in order.
    """

    before: int | None = None
    after: int | None = None
    count: int = 0
    recorded: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    ids: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.revive()

    def revive(self) -> None:
        """Begin another process."""
        self.death: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def crashed(self) -> bool:
        """Whether the process is dead."""
        return self.death.done()

    def die(self) -> None:
        """End the process."""
        if not self.death.done():
            self.death.set_result(None)


class CrashingStore:
    """Passes everything on to a store for as long as its process lives. Then its calls never return.

    Args:
        store: The store.
        writes: What counts the writes, and says at which the process dies.
    """

    def __init__(self, store: VersionedFlowStateStore, writes: Writes) -> None:
        self._store = store
        self._writes = writes
        self._is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        """Load, if the process lives."""
        await self._live()
        return await self._store.load(id, timeout=timeout)

    async def create(self, id: str, state: FlowState, **options: Any) -> None:
        """Create, and count."""

        async def write() -> None:
            self._writes.ids[id] = None  # before the write: another write may be the one at which the process dies
            await self._store.create(id, state, **options)

        await self._write(write)

    async def update(self, id: str, **changes: Any) -> str:
        """Update, and count."""

        async def write() -> str:
            version = await self._store.update(id, **changes)
            self._writes.recorded[id].update(changes.get("cache") or ())
            return version

        version: str = await self._write(write)
        return version

    def edit(
        self, id: str, *, expire_after: timedelta | Unset | None = UNSET, timeout: float | None = None
    ) -> AbstractAsyncContextManager[FlowState]:
        """Edit. A simulation does not die there, and does not count it."""
        return self._store.edit(id, expire_after=expire_after, timeout=timeout)

    async def _live(self) -> None:
        if self._is_dead:
            await asyncio.get_running_loop().create_future()

    async def _write(self, write: Callable[[], Awaitable[Any]]) -> Any:
        await self._live()
        self._writes.count += 1
        number = self._writes.count
        if number == self._writes.before:
            await self._die()
        result = await write()
        if number == self._writes.after:
            await self._die()
        return result

    async def _die(self) -> None:
        self._is_dead = True
        self._writes.die()
        await self._live()
