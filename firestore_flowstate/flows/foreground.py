"""Driving a run for a caller who awaits its result."""

from __future__ import annotations

from typing import Any

from . import results
from .engine import Engine
from .releasing import release
from .running import drive_here, follow_up
from .starting import Start, create_or_join


async def run(engine: Engine, start: Start) -> Any:
    """Start the run, drive it in this process, and return its result, also if the run waits in between.

    Raises:
        FlowFailedError: The run failed.
        FlowCancelledError: The run was cancelled.
    """
    claimed = await create_or_join(engine, start, here=True)
    if claimed is not None and engine.is_closing:
        await release(engine, claimed)
        claimed = None
    if claimed is None:
        return await results.result(engine, start.id)
    outcome, driven = await drive_here(engine, claimed)
    await follow_up(engine, driven, outcome)
    final = driven.checkpoint.final
    if final is None or final.record.ended is None:
        return await results.result(engine, start.id)
    return results.outcome_of(engine, start.id, start.name, final.record.ended, final.operation.get("result"))
