"""Cancelling a run from outside."""

from __future__ import annotations

from .arguments import check_named
from .engine import Engine
from .entries import kept_text
from .knocking import finish_todo
from .undriven import end_or_ask


async def cancel(engine: Engine, id: str, reason: str = "") -> None:
    """End the run at once if nobody drives it, else have its driver end it. A run that has ended stays as it is.

    Raises:
        FlowStateNotFoundError: There is no such run.
        TypeError: The reason is not text.
    """
    check_named(reason, "reason")
    ended = await end_or_ask(engine, id, kept_text(reason))
    if ended is not None:
        await finish_todo(engine, ended)
