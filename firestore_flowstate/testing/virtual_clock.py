"""A clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count


class VirtualTimer:
    """A call that a virtual clock will make."""

    def __init__(self, at: float, callback: Callable[[], None], *, background: bool) -> None:
        self.at = at
        self.callback = callback
        self.background = background
        self.is_cancelled = False

    def cancel(self) -> None:
        """Have the call not made."""
        self.is_cancelled = True


class VirtualClock:
    """A clock for runs that stands still until `advance` moves it to what comes next.

    Args:
        seconds: The time that it shows, in seconds since the epoch; None: that of the machine.
    """

    quiet = 0.01

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = float(int(time.time())) if seconds is None else seconds
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._number = count()

    @property
    def seconds(self) -> float:
        """The time that it shows, in seconds since the epoch."""
        return self._seconds

    def now(self) -> int:
        """Return the milliseconds since the epoch."""
        return round(self._seconds * 1000)

    def monotonic(self) -> float:
        """Return the same time in seconds."""
        return self._seconds

    def call_later(self, seconds: float, callback: Callable[[], None], *, background: bool = False) -> VirtualTimer:
        """Call the callback when the clock has been moved so many seconds further."""
        timer = VirtualTimer(self._seconds + max(0.0, seconds), callback, background=background)
        heapq.heappush(self._timers, (timer.at, next(self._number), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved so many seconds further."""
        done = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()

    def advance(self) -> bool:
        """Move to the next timer that somebody waits for, and make all calls that are due.

        Returns:
            Whether there was such a timer.
        """
        waiting = [timer.at for _, _, timer in self._timers if not (timer.is_cancelled or timer.background)]
        if not waiting:
            return False
        self._seconds = max(self._seconds, min(waiting))
        while self._timers and self._timers[0][0] <= self._seconds:
            timer = heapq.heappop(self._timers)[2]
            if not timer.is_cancelled:
                timer.callback()
        return True
