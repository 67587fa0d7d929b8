"""Runs that wait: how soon they go on, and what ten thousand of them cost a worker."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import Any, Final

from emulators import fresh_store
from long_runs import Nobody
from report import at_most, shown
from rounds import Cost, Spread, cpu_ratio, several, since, spent, wall_ratio

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.sweeping import Worker

ANSWERS: Final = several(100, quick=3)
ANSWERS_BY_WORKER: Final = several(40, quick=2)
WARM_UP: Final = several(10, quick=1)
POLL_SECONDS: Final = 0.25  # between two looks of a worker
MILLISECONDS: Final = 20  # the target: from an answer to the next line, in one process
MILLISECONDS_BEYOND_A_POLL: Final = 50
WAITING: Final = several(10_000, quick=100)
LOOKS: Final = several(20, quick=2)


class Runs:
    """Runs that each wait for an answer, and note when they have it."""

    def __init__(self, store: FirestoreFlowStateStore) -> None:
        self._asking = Flows(store, dispatcher=Nobody())
        self._flow = self.known_to(self._asking)
        self._goes_on = asyncio.Event()
        self._at = 0.0

    def known_to(self, flows: Flows) -> Any:
        """Make the flow known to the flows that are to drive it."""
        return flows.flow(name="asks")(self._asks)

    async def _asks(self, run: Run) -> None:
        await run.interrupt("approve", bool)
        self._at = time.perf_counter()
        self._goes_on.set()

    async def ask(self, id: str) -> None:
        """Start a run, and drive it until it waits."""
        await self._asking.start(self._flow, id=id)
        await self._asking.drive(id)

    async def answer(self, id: str, by: Flows | None = None) -> float:
        """Answer the run by flows, or without waking anybody. Return the milliseconds until its next line."""
        self._goes_on.clear()
        began = time.perf_counter()
        await (by or self._asking).resume(id, True)
        await self._goes_on.wait()
        return (self._at - began) * 1e3


async def measure_resumptions() -> None:
    """Measure how soon a run goes on: in one process, and by a worker that nobody tells."""
    async with fresh_store() as store:
        runs = Runs(store)
        for number in range(WARM_UP + ANSWERS + ANSWERS_BY_WORKER):
            await runs.ask(f"run-{number}")
        async with Flows(store) as flows:
            runs.known_to(flows)
            here = [await runs.answer(f"run-{number}", flows) for number in range(WARM_UP + ANSWERS)]
        at_most(
            "milliseconds from resume to the next line of the flow, in one process",
            Spread.of(here[WARM_UP:]),
            MILLISECONDS,
        )
        flows = Flows(store)
        runs.known_to(flows)
        by_worker = []
        async with flows, flows.worker(poll=POLL_SECONDS):
            for number in range(WARM_UP + ANSWERS, WARM_UP + ANSWERS + ANSWERS_BY_WORKER):
                await asyncio.sleep(random.uniform(0, POLL_SECONDS))
                by_worker.append(await runs.answer(f"run-{number}") - POLL_SECONDS * 1e3)
    what = f"milliseconds beyond one poll until the next line of the flow, by a worker, most of {ANSWERS_BY_WORKER}"
    at_most(what, max(by_worker), MILLISECONDS_BEYOND_A_POLL)


async def measure_waiting_runs() -> None:
    """Measure what a worker does in a look while ten thousand runs wait."""
    async with fresh_store() as store:
        runs = Runs(store)
        await runs.ask("run")
        before = await look(store, runs)
        state = await store.load("run")
        assert state is not None
        await store.save_many({f"run-{number}": state for number in range(WAITING)})
        after = await look(store, runs)
    shown(f"CPU of a look of a worker while {WAITING:,} runs wait, times with one", cpu_ratio(after, before))
    shown("time of the same", wall_ratio(after, before))


async def look(store: FirestoreFlowStateStore, runs: Runs) -> list[Cost]:
    """Return what looks of a worker cost."""
    flows, costs = Flows(store), []
    runs.known_to(flows)
    worker = Worker(flows._engine, at_once=16, poll=1.0)
    for _ in range(LOOKS):
        gc.collect()
        began = spent()
        await worker._look()
        costs.append(since(began))
    return costs
