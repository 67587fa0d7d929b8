"""An event loop on a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
import weakref
from collections.abc import Coroutine
from itertools import count
from typing import Any, Final, TypeAlias, TypeVar

from firestore_flowstate import FlowStateError

from .other_loops import call_on

T = TypeVar("T")
_Ended: TypeAlias = "queue.SimpleQueue[asyncio.Task[T] | None]"
"""Gets the task when it has ended; None: the thread ended first."""
_CLOSE_SECONDS: Final = 20.0
"""How long another thread that closes is awaited: handing over takes 10 s at most, and then this thread ends."""
_STOP_SECONDS: Final = 10.0
"""How long the end of the thread is awaited: tasks on it have 1 s after they were cancelled."""


class ThreadEndedError(RuntimeError):
    """The thread was stopped before the coroutine was done.

    Attributes:
        begun: Whether the coroutine had begun. If not, it can run on another thread.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the event loop was stopped")
        self.begun = begun


class FlowsThread:
    """An event loop on a thread, which runs coroutines for threads that block until they are done.

    Raises:
        FlowStateError: No thread can be started.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._calls = _Calls()
        self._stopped = False
        self._closers = count()
        self._closer: int | None = None
        name, args = "firestore-flowstate-flows", (self.loop, self._calls)
        self._thread = threading.Thread(target=_serve, args=args, name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no thread can be started, or the interpreter is ending
            self.loop.close()
            raise FlowStateError(f"flows.blocking needs a thread of its own: {error}") from error
        # Also at exit: a daemon thread that the interpreter freezes inside a C library can abort the process.
        self._end = weakref.finalize(self, _stop, self.loop, self._thread)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine in a copy of the caller's context variables; return what it returns.

        Raises:
            ThreadEndedError: The thread was stopped before, or meanwhile.
        """
        ended: _Ended[T] = queue.SimpleQueue()  # reentrant: signal handlers may call this too
        tasks: list[asyncio.Task[T]] = []

        def begin() -> None:
            if self._calls.are_over:
                ended.put(None)
                return
            task = self.loop.create_task(coroutine)
            tasks.append(task)
            task.add_done_callback(ended.put)

        # Before `begin` is sent: the thread closes its loop first, and then tells whoever is noted here. So who is
        # noted too late finds the loop closed, and nobody waits for ever.
        self._calls.waiting.add(ended)
        try:
            is_sent = call_on(self.loop, begin, context=contextvars.copy_context())
            task = ended.get() if is_sent else None
        except BaseException:  # such as KeyboardInterrupt while waiting
            call_on(self.loop, lambda: [task.cancel() for task in tasks])
            raise
        finally:
            self._calls.waiting.discard(ended)
        if task is None or (task.cancelled() and self._calls.are_over):
            raise ThreadEndedError(begun=bool(tasks))
        return task.result()

    @property
    def is_over(self) -> bool:
        """Whether the interpreter is ending, and has ended the thread."""
        return not self._stopped and not self._end.alive

    def may_close(self) -> bool:
        """Return True to the first caller, who is to stop the thread, and False to all others."""
        is_first = next(self._closers) == 0
        if is_first:
            self._closer = threading.get_ident()
        return is_first

    def join(self) -> None:
        """Wait until the thread that was told to stop this one has done so; not in a signal handler on that thread."""
        if self._closer != threading.get_ident():
            self._thread.join(_CLOSE_SECONDS)

    def stop(self) -> None:
        """Cancel the tasks that still run, and end the thread."""
        self._stopped = True
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

    def leave(self, thread: FlowsThread) -> None:
        """Have the next call begin another thread, if this one is still that of this process."""
        pid = os.getpid()
        taken = self._by_process.pop(pid, None)
        if taken is not None and taken is not thread:
            other = self._by_process.setdefault(pid, taken)
            if other is not taken:
                taken.stop()


class _Calls:
    """What a thread and those who wait for it know of each other. It has no reference to the `FlowsThread`.

    Attributes:
        waiting: What those wait at who want a coroutine run.
        are_over: Whether the thread ends, so that no coroutine begins any more.
    """

    def __init__(self) -> None:
        self.waiting: set[_Ended[Any]] = set()
        self.are_over = False


def _serve(loop: asyncio.AbstractEventLoop, calls: _Calls) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        calls.are_over = True
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        for ended in list(calls.waiting):  # their coroutine was not begun, or goes on though it was cancelled
            ended.put(None)


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if thread.is_alive() and not loop.is_closed():
        call_on(loop, loop.stop)
        if thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)
