"""Signals of the in-memory store: whoever watches is told on its own loop that something has changed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timezone
from typing import Final

from ._rpc.loop_thread import from_afar

_LONGEST_SECONDS: Final = 86_400.0  # of one wait: timers do not reach as far as expiries


class Signal:
    """Wakes one watcher. To be made and waited for on its loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def clear(self) -> None:
        """Forget what has changed: it is about to be looked at."""
        self._event.clear()

    async def wait(self, until: datetime | None) -> None:
        """Wait until something has changed since `clear`, or the time has come."""
        seconds = None
        if until is not None:
            left = (until - datetime.now(timezone.utc)).total_seconds()
            seconds = min(max(left, 0.0), _LONGEST_SECONDS)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    def send(self) -> bool:
        """Wake the watcher, from any thread; return whether its loop is still there."""
        return from_afar(self._loop, self._event.set)


class Signals:
    """The signals of all watchers of a store."""

    def __init__(self) -> None:
        self._open: set[Signal] = set()

    def open(self) -> Signal:
        """Return a signal for the running loop, which hears of every change from now on."""
        signal = Signal()
        self._open.add(signal)
        return signal

    def close(self, signal: Signal) -> None:
        """Tell it nothing any more."""
        self._open.discard(signal)

    def changed(self) -> None:
        """Tell all of a change."""
        for signal in tuple(self._open):
            if not signal.send():
                self._open.discard(signal)
