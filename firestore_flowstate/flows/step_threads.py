"""The threads of synchronous steps."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

_THREADS: Final = 32
"""How many synchronous steps of a process run at once; asyncio's own pool has as many at most."""


class StepThreads(Executor):
    """Threads that begin with the first step that needs one: in each process, and again after each `close`.

    Asyncio's default threads may all be busy with work of the application.
    """

    def __init__(self) -> None:
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def here(self) -> ThreadPoolExecutor:
        """Return the pool of this process. A forked child has none of its parent's threads."""
        pid = os.getpid()
        pool = self._pools.get(pid)
        # Without a lock, which a forked child might find taken for ever. A pool without work has no thread.
        return self._pools.setdefault(pid, ThreadPoolExecutor(_THREADS, "flow-step")) if pool is None else pool

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
        """Let the threads end when they have done what was given to them.

        Steps that wait for a thread are not dropped: drives may go on that others await, and to these a step that is
        cancelled looks like one whose function was. A drive that ends cancels its own.
        """
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.shutdown(wait=False)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> Any:
    """Return what the function returns; do not call it if the loop is closed, which has nobody who would learn that."""
    return None if loop.is_closed() else function()
