"""Work beside other work: several calls of one operation, none of which outlives it, and threads nobody waits for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from .call_errors import exhausted_error, no_loop_error
from .deadline import Deadline
from .outcome import Exhausted

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


async def gather_or_cancel(calls: Iterable[Awaitable[_Result]]) -> list[_Result]:
    """Return what each call returns, in their order.

    If one raises, or the caller is cancelled, the others are cancelled and waited for: `asyncio.gather` alone lets
    them go on after the error.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def for_each(
    items: Iterable[_Item], work: Callable[[_Item], Awaitable[_Result]], *, at_once: int
) -> list[_Result]:
    """Return what the work returns for each item, in their order; at most so many are worked on at once."""
    limit = asyncio.Semaphore(at_once)

    async def limited(item: _Item) -> _Result:
        async with limit:
            return await work(item)

    return await gather_or_cancel(map(limited, items))


class SharedWork(Generic[_Result]):
    """Work that one thread does once, however many coroutines wait for it, on whatever loops.

    A forked child does the work again, since it has no thread of its parent's.
    """

    def __init__(self) -> None:
        self._under_way: dict[int, concurrent.futures.Future[_Result]] = {}  # by process id

    def __reduce__(self) -> tuple[type[SharedWork[_Result]], tuple[()]]:
        return SharedWork, ()

    async def result(self, work: Callable[[], _Result], *, what: str, deadline: Deadline) -> _Result:
        """Return what `work` returns. It is called on a thread; if such a call is under way, this waits for that one.

        Args:
            work: The function.
            what: What it does, as errors say it.
            deadline: When to stop waiting. The work itself goes on.

        Raises:
            DeadlineError: The deadline passed first.
            FlowStateError: No event loop of asyncio runs here.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise no_loop_error() from None
        pid = os.getpid()
        doing = self._under_way.get(pid)
        if doing is None or doing.done():
            doing = self._under_way[pid] = on_thread(work)
            doing.add_done_callback(lambda _: self._under_way.pop(pid, None))  # so that its error is not kept
        waiting = asyncio.wrap_future(doing)
        try:
            await asyncio.wait([waiting], timeout=max(deadline.remaining(), 0.0))  # wait_for may lose a cancellation
            if waiting.done():
                return waiting.result()
        finally:
            if not waiting.cancel():
                waiting.exception()  # asked for, since asyncio prints an error that nobody has asked for
        raise exhausted_error(Exhausted(0, None), deadline=deadline, what=what, database="Firestore", flow_id=None)


def on_thread(function: Callable[[], _Result]) -> concurrent.futures.Future[_Result]:
    """Return a future of what the function returns, which is called on a thread of its own.

    Neither the end of a loop nor that of the process waits for the thread. The future cannot be cancelled: if one
    caller stops waiting, others may still wait for it.
    """
    outcome: concurrent.futures.Future[_Result] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001  # whoever waits for the future raises it
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    try:
        threading.Thread(target=work, name="firestore-flowstate-wait", daemon=True).start()
    except RuntimeError:  # no thread can be started, or the interpreter is ending: so the caller's thread does the work
        work()
    return outcome
