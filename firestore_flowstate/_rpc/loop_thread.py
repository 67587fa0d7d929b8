"""An event loop on a thread of its own, for calls that must not depend on the caller's loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class LoopThread:
    """An event loop that runs on a daemon thread from construction until `stop`, or the end of the interpreter.

    It belongs to the process that made it: a forked child has no such thread and must make its own.
    """

    def __init__(self, name: str) -> None:
        # The selector loop, whatever the policy: only sockets of grpc are waited for here.
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=_serve, args=(self.loop,), name=name, daemon=True)
        self._thread.start()
        # At exit too: a daemon thread that the interpreter freezes inside grpc can abort the process.
        self._end = weakref.finalize(self, _end, self.loop, self._thread)

    async def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns, run on this thread's loop in a copy of the caller's context.

        Cancelling the caller cancels the coroutine.
        """
        if asyncio.get_running_loop() is self.loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def wait(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns, blocking the calling thread, which must not be this one."""
        if threading.get_ident() == self._thread.ident:
            coroutine.close()
            raise RuntimeError("a thread cannot wait for its own event loop")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Cancel what still runs, and end the thread. Nothing happens the second time."""
        self._end()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if thread.is_alive():  # not in a forked child, which must leave the parent's loop alone
        loop.call_soon_threadsafe(loop.stop)
        if threading.current_thread() is not thread:
            thread.join(timeout=2.0)
