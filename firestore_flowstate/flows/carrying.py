"""Awaiting work that goes on in a task of its own, so that whoever waits may be cancelled without it.

A callback of a task runs one pass of the loop after the task has ended, and whoever awaits the task through
`asyncio.shield` one pass later still. Here the work itself completes the futures of those who wait: they go on in the
next pass, which matters for what each step of a run does several times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any


def carried(work: Callable[[], Awaitable[Any]], waiting: Iterable[asyncio.Future[Any]]) -> asyncio.Task[Any]:
    """Return a task of the work; when the work ends, the futures of all who wait have its outcome.

    Args:
        work: What is called and awaited.
        waiting: The futures, to which more may be added while it goes on.
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
                future.exception()  # it is the task's too: nobody is told twice that nobody took it
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
            task.exception()  # those who waited were told
