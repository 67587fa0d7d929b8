"""Calls of queues, on threads of their own, bounded in time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

Made = TypeVar("Made")

DISPATCH_DEADLINE_SECONDS: Final = 1800
"""How long Cloud Tasks is to wait for a handler: the longest that it allows."""
CALL_SECONDS: Final = 5.0
"""How long one attempt of a call may take."""
RETRY_SECONDS: Final = 10.0
"""How long after the first attempt further ones begin. With the last attempt DispatchError comes after 15 s at most: a
handler with the budget of 4 minutes keeps 24 s for handing over."""
_THREADS: Final = 8
"""How many calls of queues go on at once in a process; others wait for their turn within their time."""


class CallThreads:
    """Threads for the calls of a synchronous client.

    Each process makes its own, since a forked child has none of its parent's threads. They are not asyncio's default
    threads, all of which other work of the application may be using.
    """

    def __init__(self) -> None:
        self._pools: dict[int, ThreadPoolExecutor] = {}

    async def call(self, function: Callable[[float], Any], *, seconds: float) -> Any:
        """Call the function on a thread, with the number of seconds that are left, and return what it returns.

        A call that does not end in time stays behind on its thread. If it succeeds later, that does no harm: the name
        of its task is that of the next attempt.

        Args:
            function: What to call.
            seconds: How long attempts may begin. The last one has `CALL_SECONDS` more.

        Raises:
            TimeoutError: All threads were busy for so long, or the function has not returned in time.
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
        """Let the threads of this process end when they have done what they do."""
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.shutdown(wait=False)


class OnePerProcess:
    """An object with connections, made anew in each process, when it is first asked for.

    Args:
        make: Makes the object.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: dict[int, Any] = {}

    def here(self) -> Any:
        """Return the object of this process."""
        pid = os.getpid()
        if pid not in self._made:
            self._made.setdefault(pid, self._make())  # without a lock, which a forked child might find taken for ever
        return self._made[pid]

    def drop(self) -> Any:
        """Forget the object of this process; return it, or None if it was not made."""
        return self._made.pop(os.getpid(), None)
