"""Cancelling a call at a chosen point on its way, and seeing that nothing of it goes on."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from firestore_flowstate._rpc.loop_thread import LoopThread
from tests.faults.writes import Store
from tests.rpc.tcp_proxy import TcpProxy

CANCELLED: Final = "cancelled"
SECONDS: Final = 5.0  # that what was cancelled may take to end, on a machine that is busy


def turns() -> Iterator[int]:
    """Yield numbers of turns of the event loop after which to cancel: the first ones, then farther apart."""
    return iter((0, 1, 2, 4, 8, 16, 32))


def chunks() -> Iterator[int]:
    """Yield numbers of chunks on the wire, either way, after which to cancel: the first ones, then farther apart."""
    return itertools.chain(range(5), itertools.count(7, 6))


async def cancelled_after_turns(call: Awaitable[str], count: int) -> str:
    """Return what the call returns, or that it was cancelled after so many turns of the event loop."""
    task = asyncio.ensure_future(call)
    for _ in range(count):
        await asyncio.sleep(0)
    task.cancel()
    return await _outcome(task)


async def cancelled_after_chunks(proxy: TcpProxy, call: Awaitable[str], count: int) -> tuple[str, bool]:
    """Return what the call returns or that it was cancelled, and whether it got to the chunk after so many."""
    task = asyncio.ensure_future(call)
    loop = asyncio.get_running_loop()
    seen = itertools.count()
    reached = False

    def look(_: bytes) -> None:
        nonlocal reached
        if next(seen) == count:
            reached = True
            loop.call_soon_threadsafe(task.cancel)

    proxy.on_request(look)
    proxy.on_reply(look)
    try:
        return await _outcome(task), reached
    finally:
        proxy.on_request(None)
        proxy.on_reply(None)


async def _outcome(task: asyncio.Future[str]) -> str:
    try:
        return await task
    except asyncio.CancelledError:
        return CANCELLED


@asynccontextmanager
async def nothing_left(*stores: Store) -> AsyncIterator[None]:
    """See that after the block no task is left that began in it, here or in the background, and nobody complained."""
    complaints: list[dict[str, Any]] = []

    def complain(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        complaints.append(context)

    here = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    loops = [thread.loop for store in stores if (thread := background(store)) is not None]
    for loop in (here, *loops):
        loop.set_exception_handler(complain)
    try:
        yield
        await _until_none(lambda: asyncio.all_tasks() - before)
        await _until_none(lambda: [task for loop in loops for task in asyncio.all_tasks(loop)])
        gc.collect()
        await asyncio.sleep(0)
    finally:
        for loop in (here, *loops):
            loop.set_exception_handler(None)
    assert [] == complaints


def ours() -> list[str]:
    """Return the names of the package's own coroutines that run as tasks. Grpc's take a moment to end."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [c.__qualname__ for c in coroutines if "/firestore_flowstate/" in c.cr_code.co_filename]


def background(store: Store) -> LoopThread | None:
    """Return the thread on which a store calls that is not bound to a loop, or None if it has none."""
    link = store._connection._links[os.getpid()]
    return None if link._background is None else link._background[0]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition. Fail if it does not come."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def _until_none(left: Callable[[], Collection[asyncio.Task[Any]]]) -> None:
    """Wait until no task is left. Fail if one is, and say at what it waits."""
    with suppress(AssertionError):
        await until(lambda: not left())
    if still := left():
        raise AssertionError("\n".join(f"{task!r} at {task.get_stack()}" for task in still))
