"""The time by which an event loop calls its timers, which goes on while a test has frozen the clock of the loop."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_FROZEN_SECONDS: Final = 1.0
"""By how much two clocks of the machine differ if one of them is frozen. Unless one is, they show the same."""


class _GoingTime:
    """A time that goes on from that of a frozen clock.

    Attributes:
        users: How many need it.
    """

    def __init__(self) -> None:
        self._ahead = time.monotonic() - _real_seconds()
        self.users = 0

    def __call__(self) -> float:
        return _real_seconds() + self._ahead


@contextmanager
def going_timers() -> Iterator[None]:
    """Let the timers of the running event loop go on within this context, also if freezegun has stopped them.

    A loop of another kind than asyncio's own, such as uvloop's, goes by a clock that no test freezes.
    """
    loop: Any = asyncio.get_running_loop()
    going = vars(loop).get("time")  # of another simulation on the loop
    if not isinstance(going, _GoingTime):
        if not _has_stopped(loop):
            yield
            return
        going = loop.time = _GoingTime()
    going.users += 1
    try:
        yield
    finally:
        going.users -= 1
        if not going.users:
            del loop.time


def _has_stopped(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop goes by `time.monotonic`, and that is frozen."""
    goes_by_it = getattr(type(loop), "time", None) is asyncio.BaseEventLoop.time
    return goes_by_it and abs(time.monotonic() - _real_seconds()) >= _FROZEN_SECONDS


def _real_seconds() -> float:
    """Return the seconds of a clock that only goes forward, and that freezegun does not replace."""
    if sys.platform == "win32":
        return time.monotonic()  # the only clock there
    return time.clock_gettime(time.CLOCK_MONOTONIC)
