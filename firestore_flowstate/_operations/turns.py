"""Turns: writers of one process to one flow state wait for each other, rather than meet in conflicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

_PATIENCE: Final = 2.0  # seconds


class Turns:
    """Hands out turns by flow id, in the order they were asked for; each event loop has its own.

    A courtesy: it saves conflicts and nothing depends on it. Whoever has waited for some time goes ahead.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, id: str) -> AsyncIterator[None]:
        """Enter the block when those who asked before have left theirs, or after two seconds."""
        key = (asyncio.get_running_loop(), id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        try:
            await asyncio.wait_for(lock.acquire(), _PATIENCE)
        except asyncio.TimeoutError:
            yield
            return
        try:
            yield
        finally:
            lock.release()
