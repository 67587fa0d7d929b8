"""Ending the drives of this process in time, when the flows or a worker close."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Final

from .engine import LOG

CLOSING_SECONDS: Final = 9.0
"""How long drives may take to hand over. Steps in flight have 8 s of it."""
_FAREWELL_SECONDS: Final = 1.0
"""How long drives are awaited that were cancelled then: platforms end a process 10 s after SIGTERM."""


async def end_in_time(drives: Collection[asyncio.Task[Any]]) -> None:
    """Await the tasks of drives that have been told to hand over, for at most 10 s in all.

    Drives that take longer than 9 s are cancelled, such as one whose last write the store refuses again and again.
    Their runs are left to the lease.
    """
    if not drives:
        return
    _, late = await asyncio.wait(drives, timeout=CLOSING_SECONDS)
    if not late:
        return
    LOG.warning(
        "%d run(s) could not be handed over within %g s, and are left to their lease: their last write fails, or their "
        "function swallows CancelledError.",
        len(late),
        CLOSING_SECONDS,
    )
    for task in late:
        task.cancel()
    await asyncio.wait(late, timeout=_FAREWELL_SECONDS)
