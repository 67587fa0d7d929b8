"""The time that runs go by: a machine's own, or the one of a simulation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that a clock will make later."""

    def cancel(self) -> None:
        """Have the call not made."""
        ...


class Clock(Protocol):
    """What tells the time to runs, and calls them at a time.

    Attributes:
        quiet: How many seconds must have passed since the last call or result before a run with several tasks
            suspends. These are seconds of the event loop, also if the clock is a simulation's.
    """

    quiet: float

    def now(self) -> int:
        """Return the milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back, and that count while the machine sleeps if the system can tell."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None], *, background: bool = False) -> Timer:
        """Call the callback on the running loop after so many seconds.

        Args:
            seconds: The delay. Less than zero is zero.
            callback: What to call.
            background: Whether nobody waits for the call. A simulation does not move its clock for such a call alone.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        ...


class SystemClock:
    """The clock of the machine."""

    quiet = 1.0

    def now(self) -> int:
        """Return the milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds since some moment. On Linux the time that the machine sleeps is counted too."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None], *, background: bool = False) -> Timer:
        """Call the callback on the running loop after so many seconds."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), callback)

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
