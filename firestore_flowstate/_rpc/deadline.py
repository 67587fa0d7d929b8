"""Deadlines: the points in time by which calls must have ended, and pauses that end before them.

They go by clocks that an application's tests do not freeze. freezegun and time-machine replace what `time` and
`datetime` say, and a deadline by those never comes, or has passed already. What expires goes by `datetime` on purpose:
that is what such a test wants to see.
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
_FROZEN_SECONDS: Final = 1.0  # apart: a clock that is set, or slewed, is not

if sys.platform == "win32":

    def monotonic() -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.monotonic()

    def _wall() -> float:
        return time.time()

else:
    # Of Linux the coarse one, to the 4 ms of its timer: time-machine replaces what CLOCK_REALTIME says, and no other.
    _WALL: Final = 5 if sys.platform == "linux" else time.CLOCK_REALTIME

    def monotonic() -> float:
        """Return the seconds of a clock that only goes forward."""
        return time.clock_gettime(time.CLOCK_MONOTONIC)

    def _wall() -> float:
        return time.clock_gettime(_WALL)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, and how many seconds were allowed until it."""

    at: float
    allowed: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is so many seconds from now, or a year: locks and polls overflow beyond."""
        seconds = min(seconds, _YEAR)
        return cls(monotonic() + seconds, seconds)

    def plus(self, seconds: float) -> Deadline:
        """Return this deadline, later by so many seconds."""
        return Deadline(self.at + seconds, self.allowed + seconds)

    def remaining(self) -> float:
        """Return the seconds left; zero or less when it has passed."""
        return self.at - monotonic()


def timeout_for_grpc(seconds: float) -> float:
    """Return the timeout to give to grpc.aio so that it ends after so many seconds: it adds it to `time.time()`."""
    ahead = _wall() - time.time()
    return seconds if abs(ahead) < _FROZEN_SECONDS else seconds + ahead


async def sleep(seconds: float) -> None:
    """Sleep, also if the running loop's timers are frozen, since they go by `time.monotonic()`."""
    if abs(monotonic() - time.monotonic()) < _FROZEN_SECONDS:
        await asyncio.sleep(seconds)
    else:
        await asyncio.get_running_loop().run_in_executor(None, threading.Event().wait, seconds)


@dataclass
class Backoff:
    """Pauses that grow, each of random length, so that writers that collided do not collide again.

    Attributes:
        deadline: No pause takes more than half of what is left until then: the rest is for the next try.
        first: How long the first pause may be, in seconds; each further one may be twice as long.
        longest: How long any pause may be, in seconds.
        at_once: How many tries follow without a pause.
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
