"""Clocks that an application's tests do not freeze.

freezegun and time-machine replace what `time` and `datetime` say, and a deadline by those never comes, or has passed
already. What expires goes by `datetime` on purpose: that is what such a test wants to see.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Final

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
