"""The streams of Listen of one process: which target goes on which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from .channel import Channel, routing
from .listener import Listener
from .loop_thread import call_threadsafe
from .outcome import STORE_CLOSED, CallFailed
from .target import Metadata
from .watching import Watched


class Streams:
    """The streams of each event loop, each with room for many targets.

    Args:
        database: The resource name of the database.
        metadata: The metadata that every call carries.
    """

    def __init__(self, database: str, metadata: Metadata) -> None:
        self._database = database
        self._metadata = (*metadata, routing("database", database))
        self._by_loop: dict[asyncio.AbstractEventLoop, list[Listener]] = {}

    def add(self, channel: Channel, watched: Watched) -> Listener:
        """Put a target on the first stream of the running loop that has room for it, or on a new one."""
        streams = self._by_loop.setdefault(asyncio.get_running_loop(), [])
        listener = next((stream for stream in streams if stream.has_room), None)
        if listener is None:
            listener = Listener(channel, database=self._database, metadata=self._metadata, ended=self._ended)
            streams.append(listener)
        listener.add(watched)
        return listener

    def drop(self, loop: asyncio.AbstractEventLoop, watched: Watched) -> None:
        """Take a target off whichever stream of a loop it is on; to be called on that loop."""
        for listener in list(self._by_loop.get(loop, [])):
            listener.remove(watched)

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the streams of a loop for good; to be called on it."""
        for listener in list(self._by_loop.get(loop, [])):
            listener.end(CallFailed("CANCELLED", STORE_CLOSED))

    def _ended(self, listener: Listener) -> None:
        streams = self._by_loop.get(listener.loop, [])
        if listener in streams:
            streams.remove(listener)
        if not streams:
            self._by_loop.pop(listener.loop, None)


def taking_off(listener: Listener, watched: Watched) -> Callable[[], object]:
    """Return what takes a target off its stream soon, on whatever thread: the collector drops those who watch."""
    return partial(call_threadsafe, listener.loop, partial(listener.remove, watched))
