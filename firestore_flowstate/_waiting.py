"""Waiting on one thread for what runs on the event loop of another."""

from __future__ import annotations

import asyncio
import inspect
import queue
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar

from ._rpc.loop_thread import LoopStoppedError, LoopThread, result_of

_Result = TypeVar("_Result")

_Step = tuple[Callable[[], Awaitable[Any]] | None, bool]  # what to await, and whether it is the last


class Errands:
    """What a coroutine asks of the thread that waits for it: functions passed to it run there, not on the loop."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Callable[[], None] | asyncio.Task[Any]] = queue.SimpleQueue()

    def fetch(self, argument: Any) -> Any:
        """Return what to pass to the coroutine in place of the argument. An iterator is read here and now."""
        if callable(argument):
            return partial(self._ask, argument)
        return list(argument) if isinstance(argument, Iterator) else argument

    def wait(self, thread: LoopThread, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Return what the coroutine returns on the thread's loop, and do its errands. One that raises cancels it.

        Raises:
            LoopStoppedError: The loop was stopped first.
        """
        cancel = thread.submit(coroutine, self._queue.put)
        try:
            while not isinstance(errand := self._queue.get(), asyncio.Task):
                errand()
        except BaseException:  # the errand's own, or KeyboardInterrupt while waiting
            cancel()
            raise
        ended: asyncio.Task[_Result] = errand
        try:
            return result_of(ended)
        finally:
            del errand, ended  # or an error and this frame keep each other until the collector comes

    def _ask(self, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Return a future of what the function returns. It is called whether or not anybody awaits that."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()

        def errand() -> None:
            loop.call_soon_threadsafe(_settle, answer, function(*args))

        self._queue.put(errand)
        return answer


class Visit:
    """A task on a thread's loop that takes one step after another, each when the visitor asks for it.

    What one step of a context manager or generator enters, another one leaves, and timeouts and spans ask for the
    same task and the same context both times.
    """

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._steps: asyncio.Queue[_Step] = asyncio.Queue()
        self._replies: queue.SimpleQueue[tuple[Any, Exception | None] | None] = queue.SimpleQueue()
        self._cancel = thread.submit(self._work(), lambda _: self._replies.put(None))

    def step(self, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Return what the awaitable gives that `action` returns, which is called on the loop.

        Raises:
            LoopStoppedError: The loop was stopped, or is the loop of the process that this one was forked from.
        """
        if not self._ask((action, False)):
            raise LoopStoppedError(started=True)
        try:
            reply = self._replies.get()
        except BaseException:  # such as KeyboardInterrupt while waiting
            self._cancel()
            raise
        if reply is None:
            self._replies.put(None)  # it holds for every further step too
            raise LoopStoppedError(started=True)
        result: _Result
        result, error = reply
        if error is None:
            return result
        try:
            raise error
        finally:
            del reply, error  # or the error and this frame keep each other until the collector comes

    def end(self, action: Callable[[], Awaitable[object]] | None = None) -> None:
        """End the task after a last step, without waiting: a generator may be dropped by the collector anywhere."""
        self._ask((action, True))

    def _ask(self, step: _Step) -> bool:
        if not self._thread.is_running():
            return False
        try:
            self._thread.loop.call_soon_threadsafe(self._steps.put_nowait, step)
        except RuntimeError:  # closed in between
            return False
        return True

    async def _work(self) -> None:
        last = False
        while not last:
            action, last = await self._steps.get()
            if action is not None:
                try:
                    self._replies.put((await action(), None))
                except Exception as error:  # noqa: BLE001  # the visitor raises it
                    self._replies.put((None, error))


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
