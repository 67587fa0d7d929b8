"""The iterator of what a store watches: a timeout around one of its steps does not end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

_Item = TypeVar("_Item")
_Watched = TypeVar("_Watched", covariant=True)


class Source(Protocol[_Watched]):
    """What an iterator asks. It ends if it is dropped, too, on whatever thread."""

    async def next(self) -> _Watched:
        """Return what there is once it is another than returned before. Cancelled, it can be called again."""
        ...

    def end(self) -> None:
        """Watch no more."""
        ...


class Watch(AsyncIterator[_Item], Generic[_Item]):
    """Yields what a source returns, again and again.

    An asynchronous generator would end with the first step that is cancelled, as by `asyncio.wait_for`, and look as if
    there was no more to come.

    Args:
        begin: Makes the source, on the loop of the first step.
    """

    def __init__(self, begin: Callable[[], Awaitable[Source[_Item]]]) -> None:
        self._begin = begin
        self._source: Source[_Item] | None = None
        self._is_waiting = False
        self._is_over = False

    @override
    async def __anext__(self) -> _Item:
        if self._is_over:
            raise StopAsyncIteration
        if self._is_waiting:
            raise RuntimeError("somebody waits for the next change already: each who watches needs a watch")
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
            raise RuntimeError("somebody waits for the next change: cancel that first")
        self._end()

    def _end(self) -> None:
        self._is_over = True
        source, self._source = self._source, None
        if source is not None:
            source.end()
