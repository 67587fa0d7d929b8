"""Local locks: writers to one flow state that share a store wait for each other, rather than meet in conflicts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from .._rpc.deadline import Deadline

_PATIENCE: Final = 2.0  # seconds: longer than most writes, and short beside the usual timeout of 30


class LocalLocks:
    """A lock for each flow id, taken in the order in which it was asked for. Each event loop has locks of its own.

    The gain: writers that would meet in a conflict, and read again, wait for each other instead. Nothing depends on the
    locks: a writer that has waited for some time goes ahead.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, id: str, deadline: Deadline) -> AsyncIterator[None]:
        """Enter the block once all who asked before have left theirs, or some time has passed.

        The time is two seconds, or half of the time left until the deadline if that is less.
        """
        key = (asyncio.get_running_loop(), id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        taken = await _take(lock, min(_PATIENCE, max(0.0, deadline.remaining() / 2)))
        try:
            yield
        finally:
            if taken:
                lock.release()


async def _take(lock: asyncio.Lock, seconds: float) -> bool:
    """Return whether the lock was taken in time. Unlike `asyncio.wait_for`, this never loses a cancellation."""
    taking = asyncio.ensure_future(lock.acquire())
    try:
        await asyncio.wait([taking], timeout=seconds)
    except asyncio.CancelledError:
        if not taking.cancel():
            lock.release()
        raise
    return not taking.cancel()
