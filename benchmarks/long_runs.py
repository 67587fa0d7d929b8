"""Durable flows of many steps: the thousandth beside the tenth, and the replay of all of them."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from datetime import datetime
from typing import Any, Final

from emulators import fresh_store
from report import at_most, shown
from rounds import Cost, Spread, cpu_ratio, several, since, spent, wall_ratio
from states import step_value

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run

STEPS: Final = several(1_000, quick=40)
STEP_BYTES: Final = 2_000
RUNS: Final = several(7)
REPLAYS: Final = several(21)
EARLY: Final = slice(0, 20)
LATE: Final = slice(-20, None)
TIMES_STEP: Final = 1.3  # the target: the thousandth step, times the tenth
TIMES_LOAD: Final = 1.5


class Nobody:
    """A dispatcher that wakes nobody: each drive is called by the benchmark."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class LongRuns:
    """Runs of many steps in sequence, which then ask a question again and again.

    Attributes:
        marks: The processor time at which each step gave its result to the function.
        claimed: What was spent when the function was last called, after a load and a claim.
    """

    def __init__(self, store: FirestoreFlowStateStore) -> None:
        self._store = store
        self._flows = Flows(store, dispatcher=Nobody())
        self._values = [step_value(STEP_BYTES, 0, index) for index in range(STEPS)]
        self._reached = asyncio.Event()
        self._flow: Any = self._flows.flow(self._long)
        self.marks: list[float] = []
        self.claimed = spent()

    async def _give(self, index: int) -> Any:
        return self._values[index]

    async def _long(self, run: Run) -> None:
        self.claimed = spent()
        for index in range(STEPS):
            await run.step(f"step-{index}", self._give, index)
            if not run.is_replaying:  # reading the clock takes a third as long as replaying a step
                self.marks.append(time.process_time())
        self._reached.set()
        while True:
            await run.interrupt("again", bool)

    async def walk(self, id: str) -> float:
        """Drive a new run. Return the processor time of a late step, times that of an early one."""
        await self._flows.start(self._flow, id=id)
        self.marks.clear()
        gc.collect()
        await self._flows.drive(id)
        steps = [later - before for before, later in zip(self.marks, self.marks[1:], strict=False)]
        return statistics.median(steps[LATE]) / statistics.median(steps[EARLY])

    async def replay(self, id: str) -> tuple[Cost, Cost]:
        """Answer the run, and return what it costs to come back to its question: from its id on, and from the claim."""
        await self._flows.resume(id, True)
        self._reached.clear()
        gc.collect()
        began = spent()
        drive = asyncio.ensure_future(self._flows.drive(id))
        await self._reached.wait()
        costs = since(began), since(self.claimed)
        await drive
        return costs

    async def load(self, id: str) -> Cost:
        """Return what a load of the state costs."""
        gc.collect()
        began = spent()
        state = await self._store.load(id)
        cost = since(began)
        assert state is not None  # it was walked
        assert len(state.cache) >= STEPS
        return cost


async def measure_long_runs() -> None:
    """Measure, and print."""
    async with fresh_store() as store:
        runs = LongRuns(store)
        ratios = [await runs.walk(f"long-{number}") for number in range(RUNS)]
        at_most(f"CPU of a durable step of 2 KB about the {STEPS:,}th, times the 10th", Spread.of(ratios), TIMES_STEP)
        rounds = [(*await runs.replay("long-0"), await runs.load("long-0")) for _ in range(REPLAYS)]
    replays, steps, loads = zip(*rounds, strict=True)
    what = f"load, claim and replay of {STEPS:,} durable steps of 2 KB, times a load of the state"
    at_most(f"{what}, CPU", cpu_ratio(replays, loads), TIMES_LOAD)
    at_most(f"{what}, time", wall_ratio(replays, loads), TIMES_LOAD)
    shown(f"of that the {STEPS:,} steps, after the load and the claim, CPU", cpu_ratio(steps, loads))
