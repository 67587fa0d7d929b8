"""The dispatcher in this process: tasks and timers of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime, timezone
from typing import Any

from ..clock import Clock, Timer


class InProcess:
    """Drives runs on the loop that dispatches them. What it holds is gone with the process.

    Args:
        drive: Drives a run.
        clock: The time.
    """

    def __init__(self, drive: Callable[[str], Awaitable[Any]], clock: Callable[[], Clock]) -> None:
        self._drive = drive
        self._clock = clock
        self._timers: dict[tuple[str, str], Timer] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Drive the run in a task of this loop, now or at the time."""
        if self._is_closed or (id, wake) in self._timers:
            return
        if at is None:
            self.spawn(id)
            return
        seconds = (at - datetime.fromtimestamp(self._clock().now() / 1000, timezone.utc)).total_seconds()
        self._timers[id, wake] = self._clock().call_later(seconds, lambda: self._on_time(id, wake))

    async def close(self) -> None:
        """Cancel the timers, and await the drives, which have been told to hand over."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        here = [task for task in self._tasks if task.get_loop() is asyncio.get_running_loop()]
        await asyncio.gather(*here, return_exceptions=True)

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The drives that go on."""
        return self._tasks

    def spawn(self, id: str) -> None:
        """Drive the run in a task of this loop."""
        task = asyncio.ensure_future(self._drive(id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_time(self, id: str, wake: str) -> None:
        del self._timers[id, wake]
        self.spawn(id)
