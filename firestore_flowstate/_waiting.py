"""Waiting on one thread for what runs on the event loop of another."""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

from ._arguments import carried
from ._rpc.loop_thread import LoopStoppedError, LoopThread, Submission, call_threadsafe, result_of

_Result = TypeVar("_Result")

_Step = tuple[Callable[[], Awaitable[Any]] | None, bool]  # what to await, and whether it is the last


class Callbacks:
    """Runs the functions that were passed to a coroutine on the thread that waits for it, and not on its loop."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | asyncio.Task[Any]] = queue.SimpleQueue()

    def fetch(self, argument: Any) -> Any:
        """Return what to pass to the coroutine in place of the argument.

        For a function that is one which has this thread call it. An iterator is read here and now into a list.
        """
        if callable(argument):
            return partial(self._ask, argument)
        return list(argument) if isinstance(argument, Iterator) else argument

    def wait(self, thread: LoopThread, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns on the thread's loop, and meanwhile make the calls that it asks for.

        A call that raises cancels the coroutine.

        Raises:
            LoopStoppedError: The loop was stopped first.
        """
        submission = Submission(thread, coroutine, self._queue.put)
        try:
            submission.send()
            while not isinstance(callback := self._queue.get(), asyncio.Task):
                callback()
        except BaseException:  # the callback's own, or KeyboardInterrupt while waiting
            submission.cancel()
            raise
        ended: asyncio.Task[_Result] = callback
        try:
            return result_of(ended)
        finally:
            del callback, ended, submission  # otherwise an error and this frame keep each other (see `result_of`)

    def _ask(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Return a future of what the function returns. The function is called even if nobody awaits the future."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def callback() -> None:
            # If the loop is closed by now, the coroutine that asked was cancelled with it, and needs no answer.
            call_threadsafe(loop, partial(_settle, answer, function(*args)))

        # The whole callback is carried: what an asynchronous function returns runs in the context that it is sent from.
        self._queue.put(carried(callback))
        return answer


class RemoteTask:
    """A task on a thread's loop that takes one step after another, each when its owner asks for it.

    A context manager or generator enters timeouts and spans in one step and leaves them in another. These need the
    same task and the same context for both, so all steps run in this one task.

    Args:
        thread: The thread on whose loop the steps are taken.
        last: The last step, such as closing a generator. It is taken at `end` or when this object is dropped. After a
            step that was interrupted no other step is taken.
    """

    _submission: Submission[None] | None = None  # on the class, for `__del__` after an interrupt within `__init__`

    def __init__(self, thread: LoopThread, last: Callable[[], Awaitable[object]] | None = None) -> None:
        self._thread = thread
        self._last = last
        self._worker = _Worker()

    def __del__(self) -> None:
        self.end()

    def step(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return what the awaitable gives that `action` returns, which is called on the loop.

        Raises:
            LoopStoppedError: The loop was stopped, or is the loop of the process that this one was forked from.
        """
        try:
            if self._submission is None:
                self._submission = Submission(self._thread, self._worker.work(), self._worker.ended)
                self._submission.send()
            reply = self._worker.replies.get() if self._ask((action, False)) else None
        except BaseException:  # such as KeyboardInterrupt while waiting
            self._worker.interrupt()
            if self._submission is not None:
                self._submission.cancel()
            raise
        if reply is None:
            self._worker.replies.put(None)  # put back, so that every further step finds that the task has ended
            raise LoopStoppedError(started=True)
        result: _Result
        result, error = reply
        if error is None:
            return result
        try:
            raise error
        finally:
            del reply, error  # otherwise the error and this frame keep each other (see `result_of`)

    def end(self) -> None:
        """End the task after the last step, without waiting for it.

        The garbage collector may drop a generator on any thread, also on that of the loop.
        """
        if self._submission is not None:
            self._ask((self._last, True))
            self._submission = None

    def _ask(self, step: _Step) -> bool:
        put = partial(self._worker.steps.put_nowait, step)
        return self._thread.is_running() and call_threadsafe(self._thread.loop, put)


class _Worker:
    """Takes the steps of a remote task, on the loop. It has no reference to that object, which could not be dropped.

    Attributes:
        steps: The steps to take.
        replies: The result and the error of each step; None: the task has ended.
    """

    def __init__(self) -> None:
        self.steps: asyncio.Queue[_Step] = asyncio.Queue()
        self.replies: queue.SimpleQueue[tuple[Any, Exception | None] | None] = queue.SimpleQueue()
        self._is_interrupted = False  # the next cancellation is the owner's, and is of the step, not of the task
        self._is_over = False  # no step but the last is to be taken any more

    def interrupt(self) -> None:
        """Have the next cancellation end the current step, or the one about to begin, and not the task.

        Of the steps after it the last alone is taken.
        """
        self._is_over = True
        self._is_interrupted = True

    async def work(self) -> None:
        last = False
        while not last:
            try:
                action, last = await self.steps.get()
                if action is not None and (last or not self._is_over):
                    self.replies.put((await action(), None))
            except Exception as error:  # noqa: BLE001  # the owner raises it
                self.replies.put((None, error))
            except asyncio.CancelledError:
                if last or not self._is_interrupted:
                    raise
                self._is_interrupted = False
                _uncancel()

    def ended(self, _: asyncio.Task[None]) -> None:
        self.replies.put(None)


def _uncancel() -> None:
    task: Any = asyncio.current_task()
    if hasattr(task, "uncancel"):  # new in Python 3.11
        task.uncancel()


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # cancelled
        return
    if not inspect.isawaitable(result):
        answer.set_result(result)
        return
    task = asyncio.ensure_future(result)
    task.add_done_callback(partial(_pass_on, answer))
    answer.add_done_callback(lambda _: task.cancel())


def _pass_on(answer: asyncio.Future[Any], task: asyncio.Future[Any]) -> None:
    if answer.done():
        return
    if task.cancelled():
        answer.cancel()
    elif (error := task.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(task.result())
