"""Running a coroutine until it is done or a signal comes."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run the coroutine in an event loop of its own, and return what it returns.

    The first SIGINT or SIGTERM cancels the coroutine, so that it can close what it has opened. A second one ends the
    process at once.

    Raises:
        KeyboardInterrupt: A signal came. Its number is the argument.
    """
    came: list[int] = []

    async def watched() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def end(number: int) -> None:
            came.append(number)
            loop.remove_signal_handler(number)
            if task is not None:
                task.cancel()

        for number in _ENDING:
            with suppress(NotImplementedError, RuntimeError, ValueError):  # on Windows, and not on the main thread
                loop.add_signal_handler(number, end, number)
        return await work

    before = {number: signal.getsignal(number) for number in _ENDING}
    try:
        return asyncio.run(watched())
    except BaseException:
        if came:
            raise KeyboardInterrupt(came[0]) from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # None: it was not set by Python, and asyncio has not replaced it
                    signal.signal(number, handler)


async def in_thread(call: Callable[[], Result]) -> Result:
    """Make a call that may wait for ever, such as one that reads a terminal, on a thread; return what it returns.

    The thread is a daemon, so the end of the process does not wait for it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(settle_future: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            settle_future(outcome)

    def work() -> None:
        settle_future: Callable[[Any], None] = future.set_result
        outcome: object
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001  # whoever awaits the call gets it
            settle_future, outcome = future.set_exception, error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settle_future, outcome)

    threading.Thread(target=work, daemon=True).start()
    return await future
