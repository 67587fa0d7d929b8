"""Runs woken by Cloud Tasks over months, by a clock that is moved: names are used up, and free again after a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from google.cloud.tasks_v2.types import Task

from firestore_flowstate.flows import FlowCancelledError, Flows, Run
from tests.queues import world as worlds
from tests.queues.cloud_tasks_server import Faults
from tests.queues.world import DAY, World


def add(flows: Flows) -> None:
    """Add a flow that sleeps, and one that asks."""

    @flows.flow(name="sleeping")
    async def sleeping(run: Run, days: float) -> str:
        await run.sleep("long", timedelta(days=days))
        return "awake"

    @flows.flow(name="asking", timeout=timedelta(days=100))
    async def asking(run: Run, count: int) -> list[bool]:
        return [await run.interrupt("ok", bool) for _ in range(count)]

    @flows.flow(name="asking for ever")
    async def asking_for_ever(run: Run) -> bool:
        return await run.interrupt("ok", bool)


@asynccontextmanager
async def world(*arguments: Any, **options: Any) -> AsyncIterator[World]:
    """Give a world with these flows."""
    async with worlds.world(add, *arguments, **options) as there:
        yield there


async def test_one_task_waits_with_a_run_that_waits_for_a_time() -> None:
    """None waits with a run that waits for an answer alone, and no sweep is to find that one."""
    async with world() as there:
        await there.outside.start("asking for ever", id="answer")
        await there.outside.start("sleeping", 10.0, id="time")
        await there.pass_time(1)
        days = there.days()
        stored = [await there.outside.store.load(id) for id in ("answer", "time")]

    assert [0.0, 0.0, 10.0] == days  # a task has each driven at first
    assert [False, True] == [state is not None and "wakeAt" in (state.model_extra or {}) for state in stored]


@pytest.mark.parametrize("duplicates", [0.0, 1.0])
async def test_a_sleep_of_200_days_is_a_task_for_each_hop(duplicates: float) -> None:
    """The start, six hops and the end of it are a task each, also if each delivery comes twice.

    One of two that begin a drive at a time finds the run busy, and asks for a task at the end of the lease.
    """
    async with world(Faults(duplicates=duplicates)) as there:
        handle = await there.outside.start("sleeping", 200.0, id="a")
        await there.pass_time(199.99)
        assert [0.0, *(200.0 - 29 * hops for hops in (6, 5, 4, 3, 2, 1, 0))] == [
            day for day in there.days() if day == 0 or day > 1
        ]
        await there.pass_time(201)
        result = await handle.result(timeout=5)
        created = there.server.counts

    assert "awake" == result
    assert {1} == set(created.values())
    assert len(created) == 8 if not duplicates else 8 <= len(created) <= 10


async def test_one_deadline_for_many_waits_is_one_task_for_each_hop() -> None:
    """Each answer is a task. That the run waits for the same deadline again makes no other."""
    async with world() as there:
        handle = await there.outside.start("asking", 4, id="a")
        for number, day in enumerate((1, 40, 80)):
            await there.pass_time(day)
            await there.outside.resume("a", True, step=["ok", "ok-1", "ok-2"][number])
        await there.pass_time(99.99)
        waiting = await there.outside.store.load("a")
        days, created = there.days(), there.server.counts
        await there.pass_time(101)
        with pytest.raises(FlowCancelledError):
            await handle.result(timeout=5)

    assert waiting is not None
    assert ["ok-3"] == list(waiting.operation.metadata["run"]["waits"])
    assert [0.0, 0.0, 0.0, 0.0, 13.0, 42.0, 71.0, 100.0] == days  # what is to be delivered at once has no time
    assert {1} == set(created.values())


async def test_what_is_woken_in_one_millisecond_is_woken_each_time() -> None:
    """A wake time of now is later than those before, so that no name is used twice, and no answer waits for a sweep.

    The clock of those who answer shows that millisecond. That of those who drive goes on by one with each drive.
    """
    async with world() as there:
        frozen = there.clock.now()
        there.outside._engine.clock.now = lambda: frozen  # type: ignore[method-assign]  # of them alone
        handle = await there.outside.start("asking", 5, id="a")
        for number in range(5):
            await there.settle()
            await there.pass_time((there.clock.seconds - there.began + 0.001) / DAY)
            await there.outside.resume("a", number % 2 == 0, step=f"ok-{number}" if number else "ok")
        await there.settle()
        result = await handle.result(timeout=5)
        created = there.server.counts

    assert [True, False, True, False, True] == result
    assert {1} == set(created.values())
    # The start, the deadline of the run, and the answers.
    assert 1 + 1 + 5 == len(created)


async def test_a_name_is_free_after_a_day() -> None:
    """Who asks for a wake time once more then makes another task, whose delivery finds nothing to do."""
    async with world() as there:
        await there.outside.start("sleeping", 1.0, id="a")
        await there.pass_time(1.5)
        state = await there.outside.store.load("a")
        names = list(there.server.created)
        ask = there.outside._engine.dispatcher.dispatch
        wakes = [f"{round((there.began + day * DAY) * 1000)}-0" for day in (0, 1)]
        for wake in wakes:
            await ask("a", wake=wake)
        early = Counter(there.server.counts)
        await there.pass_time(2.5)
        for wake in wakes:
            await ask("a", wake=wake)
        await there.settle()
        again = await there.outside.store.load("a")

    assert state is not None
    assert again is not None
    assert (True, state.version) == (state.operation.done, again.version)
    assert dict.fromkeys(names, 1) | {names[0]: 2} == early  # the start was over a day ago
    assert {names[0]: 3, names[1]: 2} == there.server.counts


@pytest.mark.parametrize("behind", [0.02, 1.5, 4.9, 50.0])
async def test_hosts_whose_clocks_are_a_little_behind(behind: float) -> None:
    """What is delivered before it is due there is woken again when it is: its own name is used up."""
    async with world(behind=behind) as there:
        handle = await there.outside.start("sleeping", 1 / 24, id="a")
        await there.pass_time(0.01)
        slept = 2 * max(behind, 0.5) / DAY  # days: the start was late by that, at most
        await there.pass_time(1 / 24 + 3 * slept)
        result = await handle.result(timeout=5)

    assert "awake" == result
    assert {1} == set(there.server.counts.values())
    assert (3 if behind < 5 else 4) == len(there.server.counts)  # a wait that ends within 5 s is due


async def test_hosts_whose_clocks_are_far_behind() -> None:
    """A run is delivered before it is due there. A sweep wakes it when that clock has come so far."""
    async with world(behind=120.0) as there:
        handle = await there.outside.start("sleeping", 1 / 24, id="a")
        await there.settle()
        assert 1 == len(there.server.created)
        await there.sweep(minutes=70)
        result = await handle.result(timeout=5)

    assert "awake" == result
    # The start and the sleep, and for each a task of the sweep.
    assert [1, 1, 1, 1] == list(there.server.counts.values())


async def test_what_is_overdue_takes_fewer_and_fewer_tasks() -> None:
    """A run whose deliveries all come to nothing gets one after 1, 2, 4, ... minutes: 11 in a day, then one a day."""

    async def lost(_: Task) -> int:
        return 200

    async with world(deliver=lost) as there:
        await there.outside.start("sleeping", 1.0, id="a")
        there.server.counts.clear()
        bills: list[int] = []
        for minute in range(2 * 24 * 60):
            if minute % (24 * 60) == 0:
                bills.append(0)
            before = there.server.counts.total()
            there.clock._seconds += 60
            await there.hosts[0].sweep()
            bills[-1] += there.server.counts.total() - before

    assert [11, 1] == bills
