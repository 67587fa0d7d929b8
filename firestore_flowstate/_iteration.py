"""The iterator of `iterate`: neither a timeout around one of its steps ends it, nor the end of its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

from .errors import FlowStateError

_Item = TypeVar("_Item")
_Paged = TypeVar("_Paged", covariant=True)


class PageSource(Protocol[_Paged]):
    """What an iteration goes through. An implementation ends by itself too when it is dropped, on whatever thread."""

    async def next(self) -> Sequence[_Paged] | None:
        """Return the next page; None if there are no more.

        After a call that was cancelled it can be called again, and returns the same page.
        """
        ...

    async def end(self) -> None:
        """Read no more of them. May be called on any loop."""
        ...


class Iteration(AsyncIterator[_Item], Generic[_Item]):
    """Yields what is on some pages, on one event loop.

    An asynchronous generator would not do: the first step that is cancelled, as by `asyncio.wait_for`, ends it, and so
    does the end of its loop. Whoever goes on then would be told that nothing more is to come.

    Args:
        begin: Makes the pages, on the loop of the first step.
    """

    def __init__(self, begin: Callable[[], Awaitable[PageSource[_Item]]]) -> None:
        self._begin = begin
        self._pages: PageSource[_Item] | None = None
        self._items: Iterator[_Item] = iter(())  # the rest of the page
        self._loop: asyncio.AbstractEventLoop | None = None  # of the first step
        self._is_waiting = False
        self._is_over = False

    @override
    async def __anext__(self) -> _Item:
        here = asyncio.get_running_loop()
        self._loop = self._loop or here
        if self._loop is not here:
            raise FlowStateError(
                "This iteration began on another event loop than that of this step: call iterate() on the loop that "
                "goes through the flow states, or use SyncFlowStateStore."
            )
        if self._is_waiting:
            raise RuntimeError("another task waits for the next state of this iteration: call iterate() for each task")
        self._is_waiting = True
        try:
            while not self._is_over:
                for item in self._items:
                    return item
                await self._turn()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._is_over, self._pages = True, None
            raise
        finally:
            self._is_waiting = False
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Go through no more of them."""
        if self._is_waiting:
            raise RuntimeError(
                "a task waits for the next state of this iteration: cancel it before you close the iteration"
            )
        pages, self._pages = self._pages, None
        self._is_over, self._items = True, iter(())
        if pages is not None:
            await pages.end()

    async def _turn(self) -> None:
        """Go on to the next page."""
        if self._pages is None:
            self._pages = await self._begin()
        page = await self._pages.next()
        if page is None:
            self._is_over, self._pages = True, None
        else:
            self._items = iter(page)
