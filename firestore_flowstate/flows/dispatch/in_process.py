"""The dispatcher in this process: tasks and timers of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from typing import Any, Final, Protocol

from ..clock import Clock
from .loop_timers import LoopTimers

_NEAR_SECONDS: Final = 60.0
"""If a worker runs here, runs that are due later than this get no timer: the worker finds them."""


class Surroundings(Protocol):
    """What the dispatcher reads of the engine."""

    clock: Clock
    is_closing: bool
    workers: int


class InProcess:
    """A `Dispatcher` that drives runs on the event loop that dispatches them.

    What it holds is lost with the process; then a worker or a sweep finds the runs.

    Args:
        drive: Drives the run of an id.
        engine: A function that returns what tells the time, whether the flows are closing, and how many workers run.
    """

    def __init__(self, drive: Callable[[str], Awaitable[Any]], engine: Callable[[], Surroundings]) -> None:
        self._drive = drive
        self._engine = engine
        self._timers = LoopTimers()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Drive the run in a task of this loop, now or at the time; do nothing if the flows are closing."""
        engine = self._engine()
        if engine.is_closing or (id, wake) in self._timers:
            return
        if at is None:
            self.spawn(id)
            return
        seconds = at.timestamp() - engine.clock.now() / 1000
        if engine.workers and seconds > _NEAR_SECONDS:
            return  # a worker finds the run, and a timer for each run that sleeps would need memory
        self._timers.add((id, wake), lambda wake_up: engine.clock.call_later(seconds, wake_up), lambda: self.spawn(id))

    async def close(self) -> None:
        """Cancel the timers, and await the drives, which have been told to hand over."""
        self._timers.cancel()
        here = [task for task in self._tasks if task.get_loop() is asyncio.get_running_loop()]
        await asyncio.gather(*here, return_exceptions=True)

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The tasks of the drives that go on."""
        return self._tasks

    def spawn(self, id: str) -> None:
        """Drive the run in a task of this loop."""
        task = asyncio.ensure_future(self._drive(id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
