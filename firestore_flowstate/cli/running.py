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
    """Return what it returns. SIGINT and SIGTERM cancel it, so that it tidies up; a second one ends it anyhow.

    Raises:
        KeyboardInterrupt: A signal came; has its number.
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
            with suppress(NotImplementedError, RuntimeError, ValueError):  # on Windows; on another thread than the main
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
                if handler is not None:  # which Python had not set, and asyncio has not replaced
                    signal.signal(number, handler)


async def in_thread(call: Callable[[], Result]) -> Result:
    """Return what a call returns that may wait for ever, as for a terminal: nobody waits for its thread at the end."""
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
        except Exception as error:  # noqa: BLE001  # raised where it is awaited
            settle_future, outcome = future.set_exception, error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, settle_future, outcome)

    threading.Thread(target=work, daemon=True).start()
    return await future
