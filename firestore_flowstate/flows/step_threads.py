"""The threads of synchronous steps."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

_THREADS: Final = 32
"""How many synchronous steps of a process run at once; asyncio's own pool has as many at most."""
_MORE_THREADS: Final = 32
"""How many threads there may be beside these, for steps that were given up and whose functions go on."""


class StepThreads(Executor):
    """Threads that begin with the first step that needs one: in each process, and again after each `close`.

    Asyncio's default threads may all be busy with work of the application.
    """

    def __init__(self) -> None:
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._places: dict[int, _Places] = {}

    def here(self) -> ThreadPoolExecutor:
        """Return the pool of this process. A forked child has none of its parent's threads."""
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            # Without a lock, which a forked child might find taken for ever. A pool without work has no thread.
            pool = self._pools.setdefault(pid, ThreadPoolExecutor(_THREADS + _MORE_THREADS, "flow-step"))
        return pool

    async def place(self, waits: Callable[[bool], None]) -> Place:
        """Return when a step may have a thread; those that wait longest come first.

        Args:
            waits: Called with True if the step has to wait, and with False when it waits no more.
        """
        pid = os.getpid()
        places = self._places.get(pid) or self._places.setdefault(pid, _Places(_THREADS))
        return await places.take(waits)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a thread call the function, for a coroutine of the running loop.

        When the interpreter is ending no thread can take it: then the future that is returned never ends, so that
        nothing is recorded of the step, and the run is left to its lease.
        """
        work = partial(_call, asyncio.get_running_loop(), partial(fn, *args, **kwargs))
        while True:
            pool = self.here()
            try:
                return pool.submit(work)
            except RuntimeError as error:
                if self._pools.get(os.getpid()) is not pool:
                    continue  # another thread has closed it meanwhile
                if "shutdown" in str(error):  # of the interpreter, since the pool is open
                    return Future()
                raise

    def close(self) -> None:
        """Let the threads end when they have done what was given to them."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.shutdown(wait=False)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:
    """Return what the function returns; do not call it if the loop is closed, which has nobody who would learn that."""
    return None if loop.is_closed() else function()


class Place:
    """The right of a step to a thread, until its function has ended there.

    Args:
        places: The places of the process.

    Attributes:
        is_over: Whether others may have the place.
        is_given_up: Whether the function goes on, and another step may have a thread in place of this one.
    """

    def __init__(self, places: _Places) -> None:
        self._places = places
        self._future: Future[Any] | None = None
        self.is_over = False
        self.is_given_up = False

    async def call(self, threads: StepThreads, function: Callable[[], Any]) -> Any:
        """Return what the function returns, called by a thread at once."""
        self._future = threads.submit(function)
        self._future.add_done_callback(lambda _: self._places.end(self))
        return await asyncio.wrap_future(self._future)

    def leave(self) -> int:
        """Note that nobody waits for the function any more; return how many such functions go on, 0 if it does not."""
        if self._future is None:
            self._places.end(self)
            return 0
        return self._places.give_up(self)


class _Places:
    """The places of a process, which steps on any event loop take.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()  # of this process alone: a child has places of its own
        self._free = count
        self._given_up = 0
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def take(self, waits: Callable[[bool], None]) -> Place:
        """Return a place of one's own. See `StepThreads.place`."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return Place(self)
            future = loop.create_future()
            self._waiting.append((loop, future))
        waits(True)
        try:
            await future
        except asyncio.CancelledError:
            with self._lock:
                if (loop, future) in self._waiting:
                    self._waiting.remove((loop, future))
            if future.done() and not future.cancelled():
                self._pass_on()
            raise
        finally:
            waits(False)
        return Place(self)

    def end(self, place: Place) -> None:
        """Take the place back: its function has ended, or was never called. Any thread may call this."""
        with self._lock:
            if place.is_over:
                return
            place.is_over = True
            if place.is_given_up:
                self._given_up -= 1
                return
        self._pass_on()

    def give_up(self, place: Place) -> int:
        """Let another step have a thread in place of one whose function goes on. See `Place.leave`."""
        with self._lock:
            if place.is_over:
                return 0
            if self._given_up >= _MORE_THREADS:
                return self._given_up + 1
            place.is_given_up = True
            self._given_up += 1
            count = self._given_up
        self._pass_on()
        return count

    def _pass_on(self) -> None:
        """Give a place to the step that waits longest."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                loop, future = self._waiting.popleft()
            try:
                loop.call_soon_threadsafe(self._give, future)
            except RuntimeError:  # the loop is closed, and who waited there is gone
                continue
            return

    def _give(self, future: asyncio.Future[None]) -> None:
        if future.done():  # it was cancelled meanwhile
            self._pass_on()
        else:
            future.set_result(None)
