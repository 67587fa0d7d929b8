"""The iterator of `iterate`: it ends when there is nothing more, and not with the event loop that it began on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Generic, TypeVar

from typing_extensions import override

from .errors import FlowStateError

_Item = TypeVar("_Item")


class Iteration(AsyncIterator[_Item], Generic[_Item]):
    """Yields what an asynchronous generator yields, on one event loop.

    The generator alone would not do: a loop that ends closes it, and whoever goes on on another loop then would be told
    that nothing more is to come.

    Args:
        items: The generator.
    """

    def __init__(self, items: AsyncGenerator[_Item, None]) -> None:
        self._items = items
        self._loop: asyncio.AbstractEventLoop | None = None

    @override
    async def __anext__(self) -> _Item:
        here = asyncio.get_running_loop()
        self._loop = self._loop or here
        if self._loop is not here:
            raise FlowStateError(
                "This iteration began on another event loop than that of this step: call iterate() on the loop that "
                "goes through the flow states, or use SyncFlowStateStore."
            )
        return await anext(self._items)

    async def aclose(self) -> None:
        """Go through no more of them."""
        await self._items.aclose()
