"""The application of examples/article with a lease of two seconds: who takes over need not wait for a minute.

If the environment has HOLDS_SECTIONS, all sections but the first are never done.
"""

from __future__ import annotations

import asyncio
import os

import model  # examples/article
from app import app, flows

flows._engine.lease = 2000
think = model._think


async def think_or_hold(seconds: float, what: str) -> None:
    if what.startswith("section") and not what.endswith(" 1"):
        await asyncio.Event().wait()
    await think(seconds, what)


if "HOLDS_SECTIONS" in os.environ:
    model._think = think_or_hold

__all__ = ["app"]
