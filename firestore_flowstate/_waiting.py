"""Waiting on one thread for what runs on the event loop of another."""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

from ._changing import carried
from ._rpc.loop_thread import LoopStoppedError, LoopThread, Submission, call_threadsafe, result_of

_Result = TypeVar("_Result")

_Step = tuple[Callable[[], Awaitable[Any]] | None, bool]  # what to await, and whether it is the last


class Callbacks:
    """What a coroutine asks of the thread that waits for it: functions passed to it run there, not on the loop."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | asyncio.Task[Any]] = queue.SimpleQueue()

    def fetch(self, argument: Any) -> Any:
        """Return what to pass to the coroutine in place of the argument. An iterator is read here and now."""
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
            del callback, ended, submission  # or an error and this frame keep each other until the collector comes

    def _ask(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Return a future of what the function returns. It is called whether or not anybody awaits that."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def callback() -> None:
            # A loop that was closed has cancelled the call.
            call_threadsafe(loop, partial(_settle, answer, function(*args)))

        # All of it: what an asynchronous function returns runs on the loop in the context that it is sent from.
        self._queue.put(carried(callback))
        return answer


class RemoteTask:
    """A task on a thread's loop that takes one step after another, each when its owner asks for it.

    What one step of a context manager or generator enters, another one leaves, and timeouts and spans ask for the
    same task and the same context both times.

    Args:
        thread: Where the steps are taken.
        last: The last step, taken at `end` or when this is dropped, wherever an interrupt had come. After a step
            that was interrupted there is none but this.
    """

    _submission: Submission[None] | None = None  # of the class: one that is interrupted while it is made is dropped too

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
            self._worker.replies.put(None)  # it holds for every further step too
            raise LoopStoppedError(started=True)
        result: _Result
        result, error = reply
        if error is None:
            return result
        try:
            raise error
        finally:
            del reply, error  # or the error and this frame keep each other until the collector comes

    def end(self) -> None:
        """End the task after the last step, without waiting: a generator may be dropped by the collector anywhere."""
        if self._submission is not None:
            self._ask((self._last, True))
            self._submission = None

    def _ask(self, step: _Step) -> bool:
        put = partial(self._worker.steps.put_nowait, step)
        return self._thread.is_running() and call_threadsafe(self._thread.loop, put)


class _Worker:
    """Takes the steps of a remote task, on the loop. Knows nothing of who asks for them, who may be dropped.

    Attributes:
        steps: Those to take.
        replies: What each but the last came to; None: the task has ended.
    """

    def __init__(self) -> None:
        self.steps: asyncio.Queue[_Step] = asyncio.Queue()
        self.replies: queue.SimpleQueue[tuple[Any, Exception | None] | None] = queue.SimpleQueue()
        self._is_interrupted = False  # the next cancellation is the owner's, and is of the step, not of the task
        self._is_over = False  # no step but the last is to be taken any more

    def interrupt(self) -> None:
        """Let the cancellation that comes next end the step, also one that has not begun yet, and leave the last."""
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
