"""The iterator of what a store watches: a timeout around one of its steps does not end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

from .errors import FlowStateError

_Item = TypeVar("_Item")
_Watched = TypeVar("_Watched", covariant=True)


class Source(Protocol[_Watched]):
    """Where a watch gets its items. An implementation ends by itself too when it is dropped, on whatever thread."""

    async def next(self) -> _Watched:
        """Return what there is, as soon as it differs from what was returned last.

        After a call that was cancelled it can be called again.
        """
        ...

    def end(self) -> None:
        """Watch no more."""
        ...


class Watch(AsyncIterator[_Item], Generic[_Item]):
    """Yields what a source returns, again and again.

    An asynchronous generator would not do: the first step that is cancelled, as by `asyncio.wait_for`, ends it, and its
    user's loop then ends as if nothing more were to come.

    Args:
        begin: Makes the source, on the loop of the first step.
    """

    def __init__(self, begin: Callable[[], Awaitable[Source[_Item]]]) -> None:
        self._begin = begin
        self._source: Source[_Item] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first step, on which the source wakes its watcher
        self._is_waiting = False
        self._is_over = False

    @override
    async def __anext__(self) -> _Item:
        if self._is_over:
            raise StopAsyncIteration
        self._loop = self._loop or asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise FlowStateError(
                "This watch began on another event loop, to which its changes are told: call watch() or watch_list() "
                "on each loop that follows a state, or use SyncFlowStateStore."
            )
        if self._is_waiting:
            raise RuntimeError("another task waits for the next change of this watch: call watch() once for each task")
        self._is_waiting = True
        try:
            if self._source is None:
                self._source = await self._begin()
            return await self._source.next()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._end()
            raise
        finally:
            self._is_waiting = False

    async def aclose(self) -> None:
        """Watch no more."""
        if self._is_waiting:
            raise RuntimeError("a task waits for the next change of this watch: cancel that task before you close it")
        self._end()

    def _end(self) -> None:
        self._is_over = True
        source, self._source = self._source, None
        if source is not None:
            source.end()
