"""Calls on the event loops of other threads, or of earlier times: such a loop may have been closed."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable


def call_on(
    loop: asyncio.AbstractEventLoop, callback: Callable[[], object], *, context: contextvars.Context | None = None
) -> bool:
    """Have the callback called on the loop, and return whether it will be: not if the loop is closed.

    Any thread may call this, and a handler of a signal.

    Args:
        loop: The loop.
        callback: What is called.
        context: The context that it is called in; None: a copy of the current one.
    """
    try:
        loop.call_soon_threadsafe(callback, context=context)
    except RuntimeError:  # that loop is closed
        return False
    return True
