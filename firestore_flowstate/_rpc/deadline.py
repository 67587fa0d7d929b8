"""Deadlines: the points in time by which calls must have ended, and pauses that end before them.

They go by clocks that an application's tests do not freeze: freezegun and time-machine replace what `time` and
`datetime` say, and a deadline by those would never come, or would have passed already. The expiry of states goes by
`datetime` on purpose, since a test with a frozen clock wants to see it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from dataclasses import dataclass
from typing import Final

_YEAR: Final = 365 * 86_400.0  # seconds
_FROZEN_SECONDS: Final = (
    1.0  # by which two clocks differ if one is frozen: setting or slewing makes less of a difference
)

if sys.platform == "win32":

    def monotonic() -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.monotonic()

    def _wall() -> float:
        return time.time()

else:
    # On Linux it is CLOCK_REALTIME_COARSE, exact to 4 ms, since time-machine replaces CLOCK_REALTIME alone.
    _WALL: Final = 5 if sys.platform == "linux" else time.CLOCK_REALTIME

    def monotonic() -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def _wall() -> float:
        return time.clock_gettime(_WALL)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time by which a call must have ended.

    Attributes:
        at: Seconds on the clock of `monotonic`.
        allowed: How many seconds the call had in all, for errors.
    """

    at: float
    allowed: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is so many seconds from now, but at most a year: timeouts of locks overflow."""
        seconds = min(seconds, _YEAR)
        return cls(monotonic() + seconds, seconds)

    def plus(self, seconds: float) -> Deadline:
        """Return this deadline, later by so many seconds."""
        return Deadline(self.at + seconds, self.allowed + seconds)

    def for_bytes(self, size: int) -> Deadline:
        """Return this deadline, later by a second for each MiB beyond the first of what is sent or read."""
        return self.plus(max(0.0, size / 2**20 - 1))

    def remaining(self) -> float:
        """Return the seconds left; zero or less when it has passed."""
        return self.at - monotonic()


def timeout_for_grpc(seconds: float) -> float:
    """Return the timeout by which a call of grpc.aio ends after so many seconds.

    grpc.aio adds the timeout to `time.time()`, which a test may have frozen.
    """
    ahead = _wall() - time.time()
    return seconds if abs(ahead) < _FROZEN_SECONDS else seconds + ahead


async def sleep(seconds: float) -> None:
    """Sleep for so many seconds, also if a test has frozen `time.monotonic()`, by which the timers of loops go."""
    if abs(monotonic() - time.monotonic()) < _FROZEN_SECONDS:
        await asyncio.sleep(seconds)
    else:
        cancelled = threading.Event()
        try:
            await asyncio.get_running_loop().run_in_executor(None, cancelled.wait, seconds)
        finally:
            cancelled.set()  # otherwise the thread would wait on, and the loop for it when it ends


@dataclass
class Backoff:
    """Pauses that grow, each of random length, so that writers that collided do not collide again.

    Attributes:
        deadline: No pause takes more than half of what is left until then: the rest is for the next try.
        first: How long the first pause may be, in seconds; each further one may be twice as long.
        longest: How long any pause may be, in seconds.
        at_once: How many calls of `pause` return at once, before the first pause.
    """

    deadline: Deadline
    first: float = 0.01
    longest: float = 1.0
    at_once: int = 0
    _pauses: int = 0

    async def pause(self) -> None:
        """Wait for the next try."""
        if self.at_once > 0:
            self.at_once -= 1
            return
        limit = min(self.first * 2**self._pauses, self.longest, max(0.0, self.deadline.remaining() / 2))
        self._pauses = min(self._pauses + 1, 32)  # enough for any limit, and no overflow
        await sleep(random.uniform(0.0, limit))  # noqa: S311  # jitter is not a secret
