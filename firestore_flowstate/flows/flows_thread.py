"""An event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
import weakref
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_STOP_SECONDS: Final = 10.0
"""How long the end of the thread is awaited: tasks on it have 1 s after they were cancelled."""


class FlowsThread:
    """An event loop on a thread, which runs coroutines for threads that block until they are done."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(self.loop,), name="firestore-flowstate-flows", daemon=True)
        self._thread.start()
        # Also at exit: a daemon thread that the interpreter freezes inside a C library can abort the process.
        self._end = weakref.finalize(self, _stop, self.loop, self._thread)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine in a copy of the caller's context variables; return what it returns."""
        done: queue.SimpleQueue[asyncio.Task[T]] = queue.SimpleQueue()  # reentrant: signal handlers may call this too
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            task = self.loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(done.put)

        self.loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
        try:
            return done.get().result()
        except BaseException:  # KeyboardInterrupt while waiting, or the coroutine's own
            self.loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            raise

    def stop(self) -> None:
        """Cancel the tasks that still run, and end the thread."""
        self._end()


class FlowsThreads:
    """The loop thread of each process: a forked child has none of its parent's threads."""

    def __init__(self) -> None:
        self._by_process: dict[int, FlowsThread] = {}

    def here(self) -> FlowsThread:
        """Return the loop thread of this process; begin it if there is none."""
        pid = os.getpid()
        thread = self._by_process.get(pid)
        if thread is None:
            new = FlowsThread()
            thread = self._by_process.setdefault(pid, new)  # without a lock, which a child might find taken for ever
            if thread is not new:
                new.stop()
        return thread

    def stop(self) -> None:
        """End the loop thread of this process, if it has begun."""
        thread = self._by_process.pop(os.getpid(), None)
        if thread is not None:
            thread.stop()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if thread.is_alive() and not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)
