"""Signals of the in-memory store: whoever watches is told on its own loop that something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ._document.head import seconds_until
from ._rpc.loop_thread import call_threadsafe
from .errors import StoreUnavailableError

_Item = TypeVar("_Item")


class Signal:
    """Wakes one watcher. To be made and waited for on its loop.

    Attributes:
        is_over: Nobody waits for it any more.
        is_closed: The store was closed.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self.is_over = False
        self.is_closed = False

    def clear(self) -> None:
        """Forget what has changed: it is about to be looked at."""
        self._event.clear()

    async def wait(self, until: datetime | None) -> None:
        """Wait until something has changed since `clear`, or the time has come."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds_until(until))

    def send(self) -> bool:
        """Wake the watcher, from any thread; return whether it is still there, with its loop."""
        return not self.is_over and call_threadsafe(self._loop, self._event.set)


class Signals:
    """The signals of all watchers of a store."""

    def __init__(self) -> None:
        self._open: set[Signal] = set()

    def open(self) -> Signal:
        """Return a signal for the running loop, which hears of every change from now on."""
        for over in [signal for signal in tuple(self._open) if signal.is_over]:
            self._open.discard(over)
        signal = Signal()
        self._open.add(signal)
        return signal

    def changed(self) -> None:
        """Tell all of a change."""
        for signal in tuple(self._open):
            if not signal.send():
                self._open.discard(signal)

    def close(self) -> None:
        """Have all watchers end: the store is closed. Those that come later watch as before."""
        for signal in tuple(self._open):
            signal.is_closed = True
        self.changed()
        self._open.clear()


@dataclass(frozen=True, kw_only=True)
class Sight(Generic[_Item]):
    """What a look at the store shows.

    Attributes:
        version: What tells it from what was seen before.
        item: Returns what to yield.
        until: When it is another without a write: as it expires.
    """

    version: object
    item: Callable[[], _Item]
    until: datetime | None


class Sights(Generic[_Item]):
    """What is seen of a store now and after each change; a source of `Watch`. To be made and used on one loop."""

    def __init__(self, signals: Signals, look: Callable[[], Sight[_Item]]) -> None:
        self._signal = signals.open()
        self._look = look
        self._seen: object = self  # which no version is

    def __del__(self) -> None:
        self.end()

    async def next(self) -> _Item:
        """Return what there is once it is another than returned before.

        Raises:
            StoreUnavailableError: The store was closed.
        """
        while True:
            self._signal.clear()
            if self._signal.is_closed:
                raise StoreUnavailableError("The store was closed while it was watched: watch again.")
            sight = self._look()
            if sight.version != self._seen:
                self._seen = sight.version
                return sight.item()
            await self._signal.wait(sight.until)

    def end(self) -> None:
        """Look no more. The next change forgets the signal, since this may be the collector, in the middle of one."""
        self._signal.is_over = True
