"""Several calls at once, none of which outlives the operation that makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

_Result = TypeVar("_Result")


async def gather_or_cancel(calls: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Return what each call returns, in their order.

    Where one raises, or the caller is cancelled, the others are cancelled and waited for: `asyncio.gather` alone lets
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
