"""Looking for runs whose wake time has passed: a sweep dispatches them, a worker drives them itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Final

from firestore_flowstate import BackendError, FlowStateError, FlowStateSummary

from .dispatch.waking import sweep_name
from .engine import LOG, Engine
from .running import drive

_OVERDUE_MILLISECONDS: Final = 10_000
"""A sweep leaves what has been due for less to the dispatcher, which may be on its way."""
_PAGE: Final = 300


async def sweep(engine: Engine, limit: int) -> int:
    """Dispatch what has been due for 10 s and has a name that is known here; return how many."""
    if limit < 1:
        raise ValueError(f"limit is at least 1, not {limit}")
    now = engine.clock.now()
    count = 0
    async for summary in _due(engine, now - _OVERDUE_MILLISECONDS):
        wake = int(summary.extra.get("wakeAt", now))
        await engine.dispatcher.dispatch(summary.id, wake=sweep_name(wake, now=now))
        count += 1
        if count >= limit:
            break
    return count


async def _due(engine: Engine, before: int, *, page: int = _PAGE) -> AsyncIterator[FlowStateSummary]:
    """Yield all that is due and has a name that is known here: what nobody can drive starves nobody."""
    after: FlowStateSummary | None = None
    while True:
        summaries = await engine.store.due(before, limit=page, after=after)
        for summary in summaries:
            if summary.name in engine.flows:
                yield summary
        if len(summaries) < page:
            return
        after = summaries[-1]


class Worker:
    """Drives what is due in this process, some runs at a time.

    Args:
        engine: What all drives share.
        at_once: How many.
        poll: Seconds between two looks.
    """

    def __init__(self, engine: Engine, *, at_once: int, poll: float) -> None:
        self._engine = engine
        self._at_once = at_once
        self._poll = poll
        self._drives: dict[str, asyncio.Task[None]] = {}

    async def work(self) -> None:
        """Look and drive until cancelled; then hand over what is driven."""
        try:
            await asyncio.sleep(random.uniform(0, self._poll))  # noqa: S311  # spreads load, guards nothing
            while True:
                try:
                    await self._look()
                except FlowStateError as error:
                    LOG.warning("The worker cannot see what is due, and looks again: %s", error)
                await asyncio.sleep(self._poll)
        finally:
            await self._end()

    async def _look(self) -> None:
        free = self._at_once - len(self._drives)
        if free <= 0:
            return
        async for summary in _due(self._engine, self._engine.clock.now(), page=min(_PAGE, max(16, 2 * self._at_once))):
            if summary.id in self._drives or summary.id in self._engine.drives:
                continue
            self._begin(summary.id)
            free -= 1
            if free <= 0:
                return

    def _begin(self, id: str) -> None:
        task = asyncio.ensure_future(self._drive(id))
        self._drives[id] = task
        task.add_done_callback(lambda _: self._drives.pop(id, None))

    async def _drive(self, id: str) -> None:
        try:
            await drive(self._engine, id)
        except BackendError as error:
            LOG.warning("The run %r cannot be driven now: %s", id, error)
        except FlowStateError:
            LOG.exception("The run %r cannot be driven.", id)

    async def _end(self) -> None:
        for id in list(self._drives):
            if (driven := self._engine.drives.get(id)) is not None:
                driven.hand_over()
        if self._drives:
            await asyncio.wait(list(self._drives.values()))
