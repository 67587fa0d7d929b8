"""A thread of our own with an event loop, for calls that must not depend on the caller's."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, Generic, TypeVar

from ..errors import StoreUnavailableError

_Result = TypeVar("_Result")

_STOP_SECONDS: Final = 2.0  # for the thread to end
_CANCELLING_SECONDS: Final = 0.1  # before what still runs is cancelled once more


class LoopStoppedError(RuntimeError):
    """The loop was stopped before the coroutine was done.

    Attributes:
        started: Whether the coroutine had been started; then it was cancelled.
    """

    def __init__(self, *, started: bool) -> None:
        super().__init__("the event loop was stopped")
        self.started = started


class LoopThread:
    """An event loop that runs on a daemon thread from construction until `stop`, or the end of the interpreter.

    It belongs to the process that made it: a forked child has no such thread and must make its own.

    Raises:
        StoreUnavailableError: No thread can be started, or what is started is not a thread.
    """

    def __init__(self, name: str) -> None:
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("threading"):
            raise StoreUnavailableError(
                "gevent has put greenlets in the place of threads, and on one thread there is one event loop: serve by "
                "threads, as gunicorn does by `--worker-class gthread`"
            )
        # The selector loop, whatever the policy: only grpc's sockets are waited for here.
        self.loop: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
        self.loop.set_exception_handler(_report)
        # Taken again by a handler of a signal that calls a store in the middle of a call: with a plain lock such a call
        # waits for ever (test_signals_at_any_point).
        self._lock = threading.RLock()
        self._stopped = False
        self._thread = threading.Thread(target=_serve, args=(self.loop,), name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # the interpreter has no thread left, or is ending, as which 3.12.0 starts none
            self.loop.close()
            raise StoreUnavailableError(f"Firestore cannot be called without a thread of its own: {error}") from error
        # At exit too: a daemon thread that the interpreter freezes inside grpc can abort the process.
        self._end = weakref.finalize(self, _end, self.loop, self._thread)

    async def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns, run on this thread's loop in a copy of the caller's context.

        Cancelling the caller cancels the coroutine.

        Raises:
            LoopStoppedError: `stop` came first, or in between.
        """
        caller = asyncio.get_running_loop()
        if caller is self.loop:
            return await coroutine
        # asyncio.run_coroutine_threadsafe and wrap_future do the same at twice the time.
        arrival: asyncio.Future[_Result] = caller.create_future()
        submission = Submission(self, coroutine, partial(_send_back, caller, arrival))
        submission.send()
        try:
            return await arrival
        except asyncio.CancelledError:
            submission.cancel()
            raise
        finally:
            # Or an error, this frame and these would keep each other, and the connection, until the collector comes.
            del submission, arrival

    def wait(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns, blocking the calling thread, which must not be this one.

        Raises:
            LoopStoppedError: `stop` came first.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a thread cannot wait for its own event loop")
        ended: queue.SimpleQueue[asyncio.Task[_Result]] = queue.SimpleQueue()
        submission = Submission(self, coroutine, ended.put)
        try:
            submission.send()
            task = ended.get()
        except BaseException:  # such as KeyboardInterrupt while waiting
            submission.cancel()
            raise
        try:
            return result_of(task)
        finally:
            del task, submission  # as above

    def is_running(self) -> bool:
        """Tell whether the loop takes coroutines: not after `stop`, nor in the child of a fork."""
        return not self._stopped and self._end.alive and self._thread.is_alive()

    @property
    def is_over(self) -> bool:
        """Whether the interpreter is ending, and has ended the loop."""
        return not self._stopped and not self._end.alive

    def start(self, submission: Submission[Any]) -> bool:
        """Have the submission start on the loop; tell whether it will, which it does not after `stop` or at the end."""
        with self._lock:  # what is queued before the stop still starts, and is cancelled then
            return self.is_running() and call_threadsafe(self.loop, submission.start)

    def stop(self) -> None:
        """Cancel what still runs, and wait until the thread has ended. Nothing happens the second time."""
        with self._lock:
            self._stopped = True
        if self._end.detach() is not None:  # calling it would do nothing once weakref's handler at exit has run
            _end(self.loop, self._thread)


# Loops are ended by a handler of atexit that weakref registers with its first finalizer. Such handlers run in reverse:
# with this one made at import, those that an application registers later may call a store, whenever it connected;
# without it, those registered before the first call cannot (test_calls_at_exit).
_REGISTERED: Final = weakref.finalize(LoopThread, int)


class Submission(Generic[_Result]):
    """A coroutine on its way to the loop of a thread, where it runs in a copy of the context of who sends it.

    It can be cancelled from the moment that it exists, so that no interrupt comes in between.

    Args:
        thread: Whose loop.
        coroutine: What to run.
        then: Called on the loop with the task when that has ended; see `result_of`. It must not wait for anything:
            the thread that sends may hold what it waits for, since a handler of a signal may call in the middle of a
            call.
    """

    __slots__ = ("_cancelled", "_coroutine", "_task", "_then", "_thread")

    def __init__(
        self,
        thread: LoopThread,
        coroutine: Coroutine[Any, Any, _Result],
        then: Callable[[asyncio.Task[_Result]], None],
    ) -> None:
        self._thread = thread
        self._coroutine = coroutine
        self._then = then
        self._task: asyncio.Task[_Result] | None = None
        self._cancelled = False

    def send(self) -> None:
        """Let the coroutine run.

        Raises:
            LoopStoppedError: `stop` came first, or the end of the interpreter.
        """
        if not self._thread.start(self):
            self._coroutine.close()
            raise LoopStoppedError(started=False)

    def start(self) -> None:
        """Run the coroutine; to be called on the loop."""
        self._task = self._thread.loop.create_task(self._coroutine)
        self._task.add_done_callback(self._end)
        if self._cancelled:
            self._task.cancel()

    def cancel(self) -> None:
        """Cancel the coroutine, wherever on its way it is."""
        self._cancelled = True
        call_threadsafe(self._thread.loop, self._cancel_task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[_Result]) -> None:
        if not task.cancelled():
            task.exception()  # is told to whoever still waits; nobody else needs to hear of it
        self._then(task)


def result_of(task: asyncio.Task[_Result]) -> _Result:
    """Return what the task of a coroutine that was submitted has returned, or raise what it has raised.

    Raises:
        LoopStoppedError: It was cancelled, as by `stop`.
    """
    try:
        if task.cancelled():
            raise LoopStoppedError(started=True)
        return task.result()
    finally:
        del task  # or an error and this frame keep each other until the collector comes


def _send_back(
    caller: asyncio.AbstractEventLoop, arrival: asyncio.Future[_Result], task: asyncio.Task[_Result]
) -> None:
    call_threadsafe(caller, partial(_arrive, arrival, task))


def _arrive(arrival: asyncio.Future[_Result], task: asyncio.Task[_Result]) -> None:
    if arrival.done():  # cancelled by the caller
        return
    if task.cancelled():  # by `stop`, for the caller would not be waiting any more
        arrival.set_exception(LoopStoppedError(started=True))
    elif (error := task.exception()) is not None:
        arrival.set_exception(error)
    else:
        arrival.set_result(task.result())


def call_threadsafe(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Have the callback called on the loop; tell whether it will be, which it is not if the loop was closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # that loop is closed
        return False
    return True


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Each loop that grpc.aio runs on is given the events of all, and cannot pass on those of one that was closed, as
    # when an AsyncClient was used within asyncio.run: grpc's affair and of no consequence, but printed by us.
    is_of_grpc = "PollerCompletionQueue" in repr(context.get("handle"))
    if not (is_of_grpc and isinstance(context.get("exception"), RuntimeError)):
        loop.default_exception_handler(context)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            # Again, if one has taken the cancellation for another's: two that come at once are one.
            loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCELLING_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if not thread.is_alive():  # as in a forked child, which must leave the parent's loop alone
        return
    loop.call_soon_threadsafe(loop.stop)
    if threading.current_thread() is not thread:
        thread.join(_STOP_SECONDS)
