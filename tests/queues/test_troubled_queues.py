"""Everything that can be wrong with a queue, at once: each run ends right, and takes few tasks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest

from firestore_flowstate.flows import DispatchError, Flows, NotWaitingError, Retry, Run
from firestore_flowstate.flows.record import ended_of, record_of
from tests.queues.cloud_tasks_server import Faults
from tests.queues.world import DAY, Tasks, World, world

RUNS: Final = 4  # under way at once, so that the troubles of one meet those of others
MINUTES: Final = 12 * 60
"""How long a run may take, with a sweep in each of them."""


class Journal:
    """What was begun, and which wake times were asked for."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.asked: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, flows: Flows) -> None:
        """Add the flow: steps, one of which fails once, an answer, sleeps, and two steps in parallel."""

        @flows.flow(name="shop")
        async def shop(run: Run, item: str) -> list[Any]:
            async def once(name: str) -> str:
                self.begun[f"{run.id}:{name}"] += 1
                await asyncio.sleep(0)
                return f"{item} {name}"

            async def failing() -> str:
                self.begun[f"{run.id}:failing"] += 1
                if self.begun[f"{run.id}:failing"] == 1:
                    raise OSError("not yet")
                return "at last"

            first = await run.step("first", once, "first")
            second = await run.options(retry=Retry(3, first=600, jitter=False)).step("failing", failing)
            answer = await run.interrupt("approve", bool, timeout=timedelta(days=2))
            await run.sleep("nap", timedelta(minutes=40))
            both = await asyncio.gather(run.step("left", once, "left"), run.step("right", once, "right"))
            return [first, second, answer, *both]

    def too_many(self) -> Iterator[str]:
        """Yield the wake times that were asked for under more names than section 5 of the design allows."""
        for (id, wake), kinds in self.asked.items():
            if kinds - {"0", "e"} - {f"s{number}" for number in range(12)}:
                yield f"{id} at {wake}: {sorted(kinds)}"


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    journal = Journal()
    dispatch = Tasks.dispatch

    async def noted(self: Tasks, id: str, *, wake: str, at: Any = None) -> None:
        moment, _, kind = wake.partition("-")
        journal.asked[id, moment].add(kind)
        await dispatch(self, id, wake=wake, at=at)

    monkeypatch.setattr(Tasks, "dispatch", noted)
    monkeypatch.setattr("firestore_flowstate.flows.cloud_tasks.CALL_SECONDS", 0.1)
    monkeypatch.setattr("firestore_flowstate.flows.cloud_tasks.RETRY_SECONDS", 0.3)
    return journal


class Troubles:
    """What goes wrong for a minute: one thing, several, or nothing."""

    def __init__(self, there: World, seed: int) -> None:
        self._there = there
        self._random = random.Random(seed)
        self.seen: Counter[str] = Counter()

    def begin(self) -> None:
        """Have something go wrong."""
        faults = self._there.server.faults
        faults.hangs, faults.answer, faults.is_paused, faults.refusals = False, None, False, []
        for trouble in self._random.sample(
            ["nothing", "hangs", "deleted", "denied", "paused", "errors", "purged", "nothing", "nothing"], 2
        ):
            self.seen[trouble] += 1
            if trouble == "hangs":
                faults.hangs = True
            elif trouble == "deleted":
                faults.answer = 5
            elif trouble == "denied":
                faults.answer = 7
            elif trouble == "paused":
                faults.is_paused = True
            elif trouble == "errors":
                faults.refusals = self._random.choices([4, 8, 10, 13, 14], k=20)
            elif trouble == "purged":
                self._there.server.purge()

    def end(self) -> None:
        """Have all go well from now on."""
        faults = self._there.server.faults
        faults.hangs, faults.answer, faults.is_paused, faults.refusals = False, None, False, []


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.timeout(180)
async def test_all_troubles_at_once(journal: Journal, seed: int) -> None:
    """Deliveries are doubled or late. Clocks differ. The queue hangs, is deleted, paused, purged or closed to us."""
    faults = Faults(duplicates=0.3, late=30, backoff=20, slowdown=10)
    async with world(journal.add, faults, behind=(0.02, 3.0)[seed], seed=seed) as there:
        troubles = Troubles(there, seed)
        ids = [f"run-{number}" for number in range(RUNS)]
        for id in ids:
            with suppress(DispatchError):
                await there.outside.start("shop", id, id=id)
        for minute in range(MINUTES):
            if minute % 60 < 40:
                troubles.begin()
            else:
                troubles.end()
            await there.pass_time((there.clock.seconds - there.began + 60) / DAY)
            with suppress(DispatchError):  # as its scheduler would see
                await there.hosts[minute % 2].sweep()
            states = [await there.outside.store.load(id) for id in ids]
            for id, state in zip(ids, states, strict=True):
                if state is not None and "approve" in record_of(state).waits:
                    with suppress(DispatchError, NotWaitingError):
                        await there.outside.resume(id, True, step="approve", key="an answer")
            if all(state is not None and ended_of(state) for state in states):
                break
        troubles.end()
        results = [await there.outside.result(id, timeout=5) for id in ids]

    assert [[f"{id} first", "at last", True, f"{id} left", f"{id} right"] for id in ids] == results
    assert {1} == {count for key, count in journal.begun.items() if not key.endswith("failing")}
    assert {2} == {count for key, count in journal.begun.items() if key.endswith("failing")}
    assert [] == list(journal.too_many())
    assert {1} == set(there.server.counts.values())
    assert {"nothing", "hangs", "deleted", "denied", "paused", "errors", "purged"} == set(troubles.seen)
