"""Signals of the in-memory store: whoever watches is told on its own loop that something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from ._document.head import seconds_until
from ._rpc.loop_thread import call_threadsafe
from .errors import StoreUnavailableError

_Item = TypeVar("_Item")


class Signal:
    """Wakes one watcher. It is made and waited for on the watcher's loop.

    Attributes:
        is_over: Whether the watcher has gone.
        is_closed: Whether the store was closed.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self.is_over = False
        self.is_closed = False

    def clear(self) -> None:
        """Forget the changes so far. To be called before a look at the store, so that none during the look is lost."""
        self._event.clear()

    async def wait(self, until: datetime | None) -> None:
        """Wait until something has changed since `clear`, or the time has come."""
        if until is None:
            await self._event.wait()
            return
        sent = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({sent}, timeout=seconds_until(until))  # before Python 3.12 wait_for loses cancellations
        finally:
            sent.cancel()

    def send(self) -> bool:
        """Wake the watcher, from any thread; return whether it is still there, with its loop."""
        return not self.is_over and call_threadsafe(self._loop, self._event.set)


class Signals:
    """The signals of all watchers of a store."""

    def __init__(self) -> None:
        self._open: set[Signal] = set()

    def open(self) -> Signal:
        """Return a signal of the running loop, which is sent at every change from now on."""
        for over in [signal for signal in tuple(self._open) if signal.is_over]:
            self._open.discard(over)
        signal = Signal()
        self._open.add(signal)
        return signal

    def changed(self) -> None:
        """Send all signals, since something has changed."""
        for signal in tuple(self._open):
            if not signal.send():
                self._open.discard(signal)

    def close(self) -> None:
        """Have all watchers end, since the store is closed. Those that come later watch as before."""
        for signal in tuple(self._open):  # one that another thread opens meanwhile stays
            signal.is_closed = True
            signal.send()
            self._open.discard(signal)


@dataclass(frozen=True, kw_only=True)
class Sight(Generic[_Item]):
    """What a look at the store shows.

    Attributes:
        version: Different from that of the look before if there is something new to yield.
        item: Returns what to yield.
        until: When a state that is seen expires, which changes the sight without a write; None if none does.
    """

    version: object
    item: Callable[[], _Item]
    until: datetime | None


class Sights(Generic[_Item]):
    """Yields what a look at the store shows, now and after each change: a source of `Watch`, for one loop."""

    def __init__(self, signals: Signals, look: Callable[[], Sight[_Item]]) -> None:
        self._signal = signals.open()
        self._look = look
        self._seen: object = self  # which equals no version, so that the first look has something new

    def __del__(self) -> None:
        self.end()

    async def next(self) -> _Item:
        """Return what there is, as soon as it differs from what was returned last.

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
        """Look no more.

        The signal stays in the set until the next change: the garbage collector may call this while one is going on.
        """
        self._signal.is_over = True
