"""A thread of our own with an event loop, for calls that must not depend on the caller's."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, Final, Generic, TypeVar

from ..errors import StoreUnavailableError

_Result = TypeVar("_Result")

_STOP_SECONDS: Final = 2.0  # for which `stop` waits for the end of the thread
_CANCELLING_SECONDS: Final = 0.1  # after which tasks that still run are cancelled once more


class LoopStoppedError(RuntimeError):
    """The loop was stopped before the coroutine was done.

    Attributes:
        started: Whether the coroutine had been started, and then was cancelled.
    """

    def __init__(self, *, started: bool) -> None:
        super().__init__("the event loop was stopped")
        self.started = started


class LoopThread:
    """An event loop that runs on a daemon thread from construction until `stop`, or the end of the interpreter.

    It belongs to the process that made it: a forked child has no such thread and must make its own.

    Raises:
        StoreUnavailableError: No thread can be started, or gevent has put greenlets in the place of threads.
    """

    def __init__(self, name: str) -> None:
        monkey = sys.modules.get("gevent.monkey")
        if monkey is not None and monkey.is_module_patched("threading"):
            raise StoreUnavailableError(
                "gevent has put greenlets in the place of threads, and on one thread there is one event loop: serve by "
                "threads, as gunicorn does by `--worker-class gthread`"
            )
        # The selector loop, whatever the policy of the process: nothing but grpc's sockets is waited for here.
        self.loop: asyncio.AbstractEventLoop = _Loop()
        self.loop.set_exception_handler(_report)
        # Reentrant: a handler of a signal may call a store in the middle of a call of the same thread. With a plain
        # lock such a call waits for ever (test_signals_at_any_point).
        self._lock = threading.RLock()
        self._stopped = False
        self._thread = threading.Thread(target=_serve, args=(self.loop,), name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no thread can be started, or the interpreter is ending (Python 3.12.0 refuses)
            self.loop.close()
            raise StoreUnavailableError(f"Firestore cannot be called without a thread of its own: {error}") from error
        # It ends the loop at exit too: a daemon thread that the interpreter freezes inside grpc can abort the process.
        self._end = weakref.finalize(self, _end, self.loop, self._thread)

    async def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns, run on this thread's loop in a copy of the caller's context.

        Cancelling the caller cancels the coroutine.

        Raises:
            LoopStoppedError: The loop was stopped before, or meanwhile.
        """
        caller = asyncio.get_running_loop()
        if caller is self.loop:
            return await coroutine
        # By hand: asyncio.run_coroutine_threadsafe and wrap_future do the same, and take twice the time.
        arrival: asyncio.Future[_Result] = caller.create_future()
        submission = Submission(self, coroutine, partial(_send_back, caller, arrival))
        submission.send()
        try:
            return await arrival
        except asyncio.CancelledError:
            submission.cancel()
            raise
        finally:
            # Otherwise an error, this frame and these keep each other, and the connection, until the collector runs.
            del submission, arrival

    def wait(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns, blocking the calling thread, which must not be this one.

        Raises:
            LoopStoppedError: The loop was stopped before, or meanwhile.
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
        """Return whether the loop takes coroutines: not after `stop`, and not in the child of a fork."""
        return not self._stopped and self._end.alive and self._thread.is_alive()

    @property
    def is_over(self) -> bool:
        """Whether the interpreter is ending, and has ended the loop."""
        return not self._stopped and not self._end.alive

    def start(self, submission: Submission[Any]) -> bool:
        """Have the submission start on the loop; return whether it will: not after `stop`, nor at exit."""
        with self._lock:  # a submission that is queued before the stop still starts, and is then cancelled
            return self.is_running() and call_threadsafe(self.loop, submission.start)

    def stop(self) -> None:
        """Cancel what still runs, and wait up to 2 s for the end of the thread. A second call does nothing."""
        with self._lock:
            self._stopped = True
        if self._end.detach() is not None:  # calling it would do nothing once weakref's handler at exit has run
            _end(self.loop, self._thread)


# At exit loops are ended by a handler of atexit, which weakref registers with its first finalizer. Handlers run in the
# reverse order of registration. So with this finalizer, made at import, handlers that an application registers later
# may still call a store. Without it, those registered before the first call could not (test_calls_at_exit).
_REGISTERED: Final = weakref.finalize(LoopThread, int)


class Submission(Generic[_Result]):
    """A coroutine on its way to the loop of a thread. It runs there in a copy of the sender's context.

    It can be cancelled before it was sent, so that an interrupt at any point can end it.

    Args:
        thread: The thread on whose loop it runs.
        coroutine: What to run.
        then: Called on the loop with the task once that has ended; see `result_of`. It must not wait for a lock: a
            handler of a signal may have interrupted the sender while it holds that lock, and wait for this task.
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
            LoopStoppedError: The loop was stopped before, or the interpreter is ending.
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
        """Cancel the coroutine, whether it was sent, runs or has ended."""
        self._cancelled = True
        call_threadsafe(self._thread.loop, self._cancel_task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[_Result]) -> None:
        if not task.cancelled():
            task.exception()  # asked for, since asyncio prints an error that nobody has asked for
        self._then(task)


def result_of(task: asyncio.Task[_Result]) -> _Result:
    """Return what the task of a submission has returned, or raise what it has raised.

    Raises:
        LoopStoppedError: It was cancelled, as by `stop`.
    """
    try:
        if task.cancelled():
            raise LoopStoppedError(started=True)
        return task.result()
    finally:
        del task  # otherwise an error and this frame keep each other until Python's collector runs


def _send_back(
    caller: asyncio.AbstractEventLoop, arrival: asyncio.Future[_Result], task: asyncio.Task[_Result]
) -> None:
    call_threadsafe(caller, partial(_arrive, arrival, task))


def _arrive(arrival: asyncio.Future[_Result], task: asyncio.Task[_Result]) -> None:
    if arrival.done():  # cancelled by the caller
        return
    if task.cancelled():  # by `stop`: a caller that has cancelled it does not wait any more
        arrival.set_exception(LoopStoppedError(started=True))
    elif (error := task.exception()) is not None:
        arrival.set_exception(error)
    else:
        arrival.set_result(task.result())


def call_threadsafe(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> bool:
    """Have the callback called on the loop; return whether it will be: not if the loop is closed."""
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:  # that loop is closed
        return False
    return True


class _Loop(asyncio.SelectorEventLoop):
    """A loop that drops what grpc still has for it once it is closed: the ends of calls that were broken off.

    grpc.aio lets any loop that uses it read the events of all loops, and hand on those of other loops. An error here
    would be printed by the loop that reads, which is as a rule the application's.
    """

    def call_soon_threadsafe(  # type: ignore[override]  # typeshed has a TypeVarTuple, which is new in Python 3.11
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        except RuntimeError:
            if not (self.is_closed() and getattr(callback, "__module__", None) == "grpc._cython.cygrpc"):
                raise
            return asyncio.Handle(callback, args, self)  # which no loop will run


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # Likewise the other way round: for events of a loop of others that is closed, such as one of asyncio.run in which
    # an AsyncClient was used, grpc raises RuntimeError here. That does no harm, and is not printed.
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
            # Again and again: a task may take the cancellation for another one, since two that come at once are one.
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
