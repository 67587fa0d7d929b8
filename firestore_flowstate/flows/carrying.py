"""Awaiting work that goes on in a task of its own, so that those who wait can be cancelled and the work is not.

It does what `asyncio.shield` does, in one pass of the event loop less. A callback of a task runs one pass after the
task has ended, and who awaits the task through `asyncio.shield` goes on one pass later still. Here the work itself
completes the futures of those who wait, who go on in the next pass. Each step of a run waits like this several times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any


def carried(work: Callable[[], Awaitable[Any]], waiting: Iterable[asyncio.Future[Any]]) -> asyncio.Task[Any]:
    """Return a task of the work, whose outcome each of the futures gets.

    Args:
        work: What is called and awaited.
        waiting: The futures of those who wait. More may be added while the work goes on.
    """
    task = asyncio.ensure_future(_carry(work, waiting))
    task.add_done_callback(partial(_let_go, waiting))
    return task


async def _carry(work: Callable[[], Awaitable[Any]], waiting: Iterable[asyncio.Future[Any]]) -> Any:
    try:
        value = await work()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # marks it as retrieved: the task has the same error, and asyncio logs it there
        raise
    for future in waiting:
        if not future.done():
            future.set_result(value)
    return value


def _let_go(waiting: Iterable[asyncio.Future[Any]], task: asyncio.Task[Any]) -> None:
    """Cancel the futures of a task that was cancelled, perhaps before it began."""
    for future in waiting:
        future.cancel()
        if not task.cancelled():
            task.exception()  # marks it as retrieved: the futures have it
