"""Calls of queues: on threads, tried again until they are taken."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

Made = TypeVar("Made")

DISPATCH_DEADLINE_SECONDS: Final = 1800
"""The longest that Cloud Tasks waits for a handler."""
CALL_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 10.0
"""How long attempts begin. With the last one that is 15 seconds before DispatchError: less than what a handler keeps of
its budget."""
_THREADS: Final = 8


class CallThreads:
    """Threads for the calls of a synchronous client, made once a process: a forked child has none of its parent's.

    They are not asyncio's, which others' work may use up.
    """

    def __init__(self) -> None:
        self._pools: dict[int, ThreadPoolExecutor] = {}

    async def call(self, function: Callable[[float], Any], *, seconds: float) -> Any:
        """Return what the function returns, called on a thread with how many of the seconds are left.

        A call that does not end stays behind on its thread: the name of its task makes it harmless if it comes later.

        Raises:
            TimeoutError: None is left, since others have had the threads until now. Or what was begun within them has
                not ended `CALL_SECONDS` after them.
        """
        end = time.monotonic() + seconds

        def timed() -> Any:
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"earlier calls of the queue have taken all of {seconds:g} s")
            return function(left)

        pid = os.getpid()
        if pid not in self._pools:
            self._pools.setdefault(pid, ThreadPoolExecutor(_THREADS, thread_name_prefix="flow-dispatch"))
        calling = asyncio.get_running_loop().run_in_executor(self._pools[pid], timed)
        try:
            await asyncio.wait([calling], timeout=seconds + CALL_SECONDS)
            if not calling.done():
                raise TimeoutError(f"the call has not ended within {seconds + CALL_SECONDS:g} s")
        finally:
            calling.cancel()
        return calling.result()

    def close(self) -> None:
        """End them when they are done."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.shutdown(wait=False)


class OnePerProcess:
    """Something with connections, made when it is first asked for in a process.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: dict[int, Any] = {}

    def here(self) -> Any:
        """Return the one of this process."""
        pid = os.getpid()
        if pid not in self._made:
            self._made.setdefault(pid, self._make())  # without a lock, which a forked child might find taken for ever
        return self._made[pid]

    def drop(self) -> Any:
        """Return the one of this process, if it was made, and forget it."""
        return self._made.pop(os.getpid(), None)
