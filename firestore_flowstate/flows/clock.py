"""The time that runs go by: a machine's own, or the one of a simulation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What a clock will call later."""

    def cancel(self) -> None:
        """Do not call it any more."""
        ...


class Clock(Protocol):
    """What time it is, and what is to happen at a time.

    Attributes:
        quiet: For how many seconds nothing may have been called or delivered before a run with several tasks
            suspends. These are real seconds also if the clock is not.
    """

    quiet: float

    def now(self) -> int:
        """Return the milliseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back and count while the machine sleeps, if the system can tell."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None], *, background: bool = False) -> Timer:
        """Call it on the running loop after so many seconds.

        Args:
            seconds: Less than zero is zero.
            callback: What to call.
            background: Nobody waits for it: a simulation does not move its clock for it alone.
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
        """Return seconds since some moment; on Linux those of the machine's sleep are counted too."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def call_later(self, seconds: float, callback: Callable[[], None], *, background: bool = False) -> Timer:
        """Call it on the running loop after so many seconds."""
        return asyncio.get_running_loop().call_later(max(0.0, seconds), callback)

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
