"""Several calls at once, none of which outlives the operation that makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


async def gather_or_cancel(calls: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Return what each call returns, in their order.

    If one raises, or the caller is cancelled, the others are cancelled and waited for: `asyncio.gather` alone lets
    them go on after the error.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def for_each(
    items: Iterable[_Item], work: Callable[[_Item], Awaitable[_Result]], *, at_once: int
) -> list[_Result]:
    """Return what the work returns for each item, in their order; at most so many are worked on at once."""
    limit = asyncio.Semaphore(at_once)

    async def limited(item: _Item) -> _Result:
        async with limit:
            return await work(item)

    return await gather_or_cancel(map(limited, items))
