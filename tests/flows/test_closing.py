"""The end of a process, of a budget, and functions that do not behave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from firestore_flowstate.flows import FlowFailedError, Flows, Retry, Run, budget, closing, current_run, current_step
from firestore_flowstate.flows.budget import Budget
from firestore_flowstate.flows.record import record_of
from firestore_flowstate.flows.signals import Termination
from firestore_flowstate.testing.virtual_clock import VirtualClock
from tests.flows.counting_store import CountingStore, lost_before
from tests.flows.test_waits import blocked


async def echo(value: Any) -> Any:
    return value


class NoTasks:
    """A queue that loses all tasks, so that nothing is driven but by the tests."""

    async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize(("seconds", "margin"), [(None, 8.0), (300, 8.0), (6, 6.0)])
def test_steps_in_flight_are_awaited_for_8_seconds(seconds: float | None, margin: float) -> None:
    """From a SIGTERM on no step begins, and those in flight get 8 s, or what is left of a shorter budget."""
    budget = Budget(VirtualClock(), seconds)
    budget.use_up()

    assert budget.is_used
    assert margin == budget.margin_left


async def test_a_budget_hands_the_run_over(store: CountingStore) -> None:
    """No step begins in its margin. The run is due at once, and another drive goes on."""
    steps: list[int] = []
    dispatched: list[Any] = []

    class Tasks:
        async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None:
            dispatched.append(at)

        async def close(self) -> None: ...

    flows = Flows(store, dispatcher=Tasks())

    @flows.flow
    async def long(run: Run) -> int:
        for number in range(8):
            await run.step("work", work, number)
        return 8

    async def work(number: int) -> int:
        steps.append(number)
        await asyncio.sleep(0.02)  # a budget of 0.05 s has room for two or three of these
        return number

    await flows.start(long, id="x")
    outcomes = [await flows.drive("x", budget=5.05)]  # 5 s of it are the margin
    while outcomes[-1] == "handed over":
        outcomes.append(await flows.drive("x", budget=5.05))

    assert len(outcomes) > 2
    assert "done" == outcomes[-1]
    assert list(range(8)) == steps
    assert [None] * len(outcomes) == dispatched


async def test_closing_hands_over_and_awaits_the_step(store: CountingStore) -> None:
    """The step in flight is recorded, without an owner and due at once."""
    flows = Flows(store)
    began = asyncio.Event()

    @flows.flow
    async def working(run: Run) -> None:
        async def work() -> int:
            began.set()
            await asyncio.sleep(0.05)
            return 1

        await run.step("work", work)
        await run.step("more", echo, 1)

    await flows.start(working, id="x")
    await began.wait()
    await flows.close()
    state = await store.load("x")

    assert ["work"] == list(state.cache)
    assert record_of(state).owner is None
    assert state.model_extra["wakeAt"] <= time.time() * 1000 + 1
    assert not record_of(state).fruitless


@pytest.mark.parametrize("how", ["start", "dispatch", "worker"])
async def test_closing_leaves_a_run_whose_last_write_fails_to_its_lease(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """Closing gives up after 9 s, here 0.1 s, and not after the 10 minutes for which results in hand are tried."""
    monkeypatch.setattr(closing, "CLOSING_SECONDS", 0.1)
    flows = Flows(store, dispatcher=Nobody() if how == "worker" else None)
    began = asyncio.Event()

    @flows.flow
    async def working(run: Run) -> None:
        store.faults = dict.fromkeys(range(store.updates + 1, 1000), lost_before)
        began.set()
        await run.interrupt("approve", bool)

    async def work() -> None:
        await flows.start(working, id="x", delay=timedelta(milliseconds=1 if how == "dispatch" else 0))
        await began.wait()

    if how == "worker":
        async with flows.worker(poll=0.01):
            await work()
    else:
        await work()
    await asyncio.wait_for(flows.close(), 5)

    assert "left to their lease" in caplog.text
    assert record_of(await store.load("x")).owner is not None


class Nobody:
    """A dispatcher that wakes nobody."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


async def test_a_handover_without_a_result_is_fruitless(store: CountingStore) -> None:
    """It counts as a recovery, so that a run with a step longer than every budget fails at last."""
    flows = Flows(store)

    @flows.flow
    async def waiting(run: Run) -> None:
        await asyncio.sleep(30)

    await flows.start(waiting, id="x")
    await asyncio.sleep(0.01)  # in which the function begins to wait
    await flows.close()

    assert record_of(await store.load("x")).fruitless


@pytest.mark.parametrize("how", ["cancelled", "returned", "timed out", "cannot be stored", "handed over"])
async def test_a_step_that_wants_another_one_does_not_keep_the_drive(store: CountingStore, how: str) -> None:
    """The inner step may not begin any more, so the outer one cannot end: it is not awaited."""
    flows = Flows(store, dispatcher=NoTasks())

    async def outer() -> int:
        await asyncio.sleep(0.2)
        inner: int = await current_run().step("inner", echo, 7)
        return inner

    async def unstorable() -> object:
        return object()

    @flows.flow(timeout=timedelta(seconds=0.1) if how == "timed out" else timedelta(days=1))
    async def nested(run: Run) -> int:
        step = asyncio.create_task(run.step("outer", outer))
        if how == "returned":
            await asyncio.sleep(0.1)
            return 5
        if how == "cannot be stored":
            await asyncio.gather(step, run.step("unstorable", unstorable))
        return await step

    await flows.start(nested, id="x")
    drive = asyncio.create_task(flows.drive("x"))
    await asyncio.sleep(0.1)
    if how == "cancelled":
        await flows.cancel("x")
    elif how == "handed over":
        await flows.close()
    endings = {"returned": "done", "cannot be stored": "failed", "handed over": "handed over"}
    assert endings.get(how, "cancelled") == await asyncio.wait_for(drive, 60)
    if how == "handed over":
        assert "done" == await flows.drive("x")
        assert 7 == await flows.result("x")


@pytest.mark.parametrize("inside", ["an interrupt", "a step"])
async def test_a_cancellation_records_no_failure_of_a_step_that_waits(store: CountingStore, inside: str) -> None:
    """What is inside of the step ends with the run, and the step does not fail by that: a retry goes on with it."""
    flows = Flows(store, dispatcher=NoTasks())

    async def outer() -> None:
        if inside == "a step":
            await asyncio.sleep(0.2)
            await current_run().step("inner", echo, 7)
        else:
            await current_run().interrupt("inner")

    @flows.flow
    async def tidying(run: Run) -> None:
        step = asyncio.create_task(run.step("outer", outer))
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.2)
            assert step.done()

    await flows.start(tidying, id="x")
    drive = asyncio.create_task(flows.drive("x"))
    await asyncio.sleep(0.05)
    await flows.cancel("x")

    assert "cancelled" == await drive
    assert {} == (await store.load("x")).cache


async def test_a_step_at_most_once_that_did_not_begin_begins_later(store: CountingStore) -> None:
    """A drive that ends just before the step does not leave its intent: nobody would begin the step again."""
    flows = Flows(store, dispatcher=NoTasks())
    charged: list[int] = []
    began = asyncio.Event()

    async def slow() -> None:
        began.set()
        await asyncio.sleep(0.2)

    @flows.flow
    async def charging(run: Run) -> int:
        await run.step("slow", slow)
        return await run.options(at_most_once=True).step("charge", charge)

    async def charge() -> int:
        charged.append(1)
        return 3

    await flows.start(charging, id="x")
    drive = asyncio.create_task(flows.drive("x"))
    await began.wait()
    await flows.close()

    assert "handed over" == await drive
    assert [] == record_of(await store.load("x")).intents
    assert "done" == await flows.drive("x")
    assert [1] == charged


async def test_a_handover_takes_back_an_intent_that_is_stored(store: CountingStore) -> None:
    """The process may be told to end while the intent is on its way to the store."""
    flows = Flows(store, dispatcher=NoTasks())
    charged: list[int] = []

    @flows.flow
    async def charging(run: Run) -> None:
        await run.options(at_most_once=True).step("charge", charged.append, 1)

    async def close_meanwhile(update: Callable[[], Awaitable[str]]) -> str:
        flows._hand_over()
        version = await update()
        await asyncio.sleep(0)  # in which the drive learns of it
        return version

    await flows.start(charging, id="x")
    store.faults[2] = close_meanwhile  # the first update is the claim
    assert "handed over" == await flows.drive("x")
    await flows.close()
    assert [] == record_of(await store.load("x")).intents
    assert "done" == await flows.drive("x")
    assert [1] == charged


@pytest.mark.parametrize("how", ["handed over", "cancelled", "returned"])
async def test_steps_are_awaited_for_the_margin_of_the_budget(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """After it the run is left to its lease, whatever is to become of it, since the request ends then."""
    monkeypatch.setattr(budget, "_LEAST_MARGIN_SECONDS", 0.5)
    monkeypatch.setattr(budget, "_CLOSING_MARGIN_SECONDS", 0.0)
    flows = Flows(store, dispatcher=NoTasks())

    async def slow() -> None:
        await asyncio.sleep(60)

    @flows.flow
    async def lingering(run: Run) -> None:
        step = asyncio.create_task(run.step("slow", slow))
        await asyncio.sleep(0.05)
        if how != "returned":
            await step

    await flows.start(lingering, id="x")
    drive = asyncio.create_task(flows.drive("x", budget=2))
    await asyncio.sleep(0.2)
    if how == "cancelled":
        await flows.cancel("x")
    assert "busy" == await asyncio.wait_for(drive, 30)


async def test_a_step_that_ends_within_the_margin_is_recorded(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the budget gives a step in flight the whole margin, not the 8 seconds of a process that is to end."""
    monkeypatch.setattr(budget, "_LEAST_MARGIN_SECONDS", 20.0)
    monkeypatch.setattr(budget, "_CLOSING_MARGIN_SECONDS", 0.0)
    flows = Flows(store, dispatcher=NoTasks())

    @flows.flow
    async def working(run: Run) -> None:
        await run.step("work", work)
        await run.step("next", work)

    async def work() -> None:
        await asyncio.sleep(2.5)

    await flows.start(working, id="x")

    assert "handed over" == await flows.drive("x", budget=22)
    assert {"work"} == set((await store.load("x")).cache)


async def test_the_margin_does_not_count_as_time_of_a_step(store: CountingStore) -> None:
    """A step inside may not begin any more. The one around it rests then, and does not fail by its timeout."""
    flows = Flows(store, dispatcher=NoTasks())

    async def outer() -> str:
        await asyncio.sleep(1)
        return await current_run().step("inner", echo, "in")

    @flows.flow
    async def working(run: Run) -> str:
        long = asyncio.ensure_future(run.step("long", asyncio.sleep, 4.5))
        result = await run.options(timeout=3).step("outer", outer)
        await long
        return result

    await flows.start(working, id="x")

    assert "handed over" == await flows.drive("x", budget=5.5)
    assert {"long"} == set((await store.load("x")).cache)
    assert "done" == await flows.drive("x")


@pytest.mark.parametrize("is_inside", [False, True])
async def test_a_step_that_pauses_before_its_next_attempt_is_not_awaited(store: CountingStore, is_inside: bool) -> None:
    """A process that is to end hands the run over at once: nothing works, also if a step around it is not over."""
    flows = Flows(store, dispatcher=Nobody())
    has_failed = asyncio.Event()

    async def flaky() -> None:
        has_failed.set()
        raise ConnectionError("not yet")

    async def outer() -> None:
        await current_run().options(retry=Retry(5, first=25, jitter=False)).step("flaky", flaky)

    @flows.flow
    async def working(run: Run) -> None:
        await (run.step("outer", outer) if is_inside else outer())

    await flows.start(working, id="x")
    drive = asyncio.ensure_future(flows.drive("x"))
    await has_failed.wait()
    flows._hand_over()  # what the handler of SIGTERM does

    assert "handed over" == await asyncio.wait_for(drive, 7)  # of the 8 s that a step in flight has
    await flows.close()


@pytest.mark.parametrize("how", ["cancelled", "returned"])
async def test_a_run_that_ends_does_not_wait_for_a_further_attempt(store: CountingStore, how: str) -> None:
    """The attempt under way is awaited, and fails. The pause of 25 s after it is not."""
    flows = Flows(store, dispatcher=Nobody())
    began, go_on = asyncio.Event(), asyncio.Event()

    async def flaky() -> None:
        began.set()
        await go_on.wait()
        raise ConnectionError("not yet")

    @flows.flow
    async def working(run: Run) -> None:
        step = asyncio.ensure_future(run.options(retry=Retry(5, first=25, jitter=False)).step("flaky", flaky))
        await began.wait()
        if how == "cancelled":
            await step

    await flows.start(working, id="x")
    drive = asyncio.ensure_future(flows.drive("x"))
    await began.wait()
    if how == "cancelled":
        await flows.cancel("x")
    await asyncio.sleep(0.05)  # in which the drive waits for the step
    go_on.set()

    assert ("cancelled" if how == "cancelled" else "done") == await asyncio.wait_for(drive, 15)
    await flows.close()


class Queue:
    """A dispatcher that notes what it is asked for."""

    def __init__(self) -> None:
        self.tasks: list[tuple[str, datetime | None]] = []

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Note the name of the task, and its time."""
        self.tasks.append((wake, at))

    async def close(self) -> None:
        """Do nothing."""


async def test_a_delivery_to_a_process_that_is_to_end_claims_nothing(store: CountingStore) -> None:
    """The run stays as it is, and the queue gets a task of another name, for when the process has ended."""
    queue = Queue()
    flows = Flows(store, dispatcher=queue)

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    await flows.start(one, id="x")
    flows._hand_over()  # what the handler of SIGTERM does
    writes, before = len(store.writes), time.time()

    assert ["handed over"] * 15 == [await flows.drive("x") for _ in range(15)]
    assert writes == len(store.writes)
    (first, _), (second, at), *_ = queue.tasks
    assert first != second
    assert at is not None
    assert 9 < at.timestamp() - before <= 20 + (time.time() - before)
    other = Flows(store, dispatcher=Nobody())
    other._engine.flows.update(flows._engine.flows)
    assert "done" == await other.drive("x")


@pytest.mark.parametrize("how", ["start", "run"])
async def test_what_is_started_in_a_process_that_is_to_end_is_left_to_others(store: CountingStore, how: str) -> None:
    """It is stored as due, without a claim."""
    flows, other = Flows(store), Flows(store, dispatcher=Nobody())

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    other._engine.flows.update(flows._engine.flows)
    flows._hand_over()  # what the handler of SIGTERM does
    starting = asyncio.ensure_future(flows.start(one, id="x") if how == "start" else flows.run(one, id="x"))
    while (stored := await store.load("x")) is None:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)
    record = record_of(stored)

    assert (None, 0, False) == (record.owner, record.drives, record.fruitless)
    assert "done" == await other.drive("x")
    outcome = await asyncio.wait_for(starting, 5)
    assert 1 == (await outcome.result(timeout=5) if how == "start" else outcome)


@pytest.mark.parametrize("meanwhile", ["nothing", "an answer", "a takeover", "a deletion"])
async def test_a_run_that_is_claimed_when_the_process_is_told_to_end_is_given_back(
    store: CountingStore, meanwhile: str
) -> None:
    """Its function is not called, and that does not count as a drive that recorded nothing."""
    queue, called = Queue(), list[str]()
    flows = Flows(store, dispatcher=queue)

    @flows.flow
    async def one(run: Run) -> int:
        called.append(run.id)
        return await run.interrupt("a", int)

    async def told(write: Callable[[], Any]) -> str:
        version: str = await write()
        flows._hand_over()  # what the handler of SIGTERM does
        store.faults.clear()
        if meanwhile == "an answer":
            await flows.resume("x", 7, step="a")
        elif meanwhile == "a takeover":
            state = await store.load("x")
            state.operation.metadata["run"]["owner"] = "another"
            await store.store.save("x", state)
        elif meanwhile == "a deletion":
            await store.store.delete("x")
        return version

    await flows.start(one, id="x")
    store.faults = {store.updates + 1: told}
    outcome = await flows.drive("x")
    stored = await store.load("x")

    assert [] == called
    if meanwhile == "a deletion":
        assert ("missing", None) == (outcome, stored)
    elif meanwhile == "a takeover":
        assert ("busy", "another") == (outcome, record_of(stored).owner)
    else:
        record = record_of(stored)
        assert ("handed over", None, False, 0) == (outcome, record.owner, record.fruitless, record.recoveries)
        assert stored.executions[-1].end_time is not None
        assert queue.tasks[-1][0].startswith(f"{stored.model_extra['wakeAt']}-")
        assert (meanwhile == "an answer") == ("a" in stored.events_triggered)


@pytest.mark.parametrize("interrupted", ["by a cancellation", "by an error of the dispatcher"])
async def test_a_close_that_is_interrupted_does_not_keep_the_flows_from_driving(
    store: CountingStore, interrupted: str
) -> None:
    """What is driven is handed over all the same. What is started later is driven, and SIGTERM is left alone."""

    class Stuck(Nobody):
        async def close(self) -> None:
            raise OSError("the client cannot be closed")

    is_cancelled = interrupted == "by a cancellation"
    flows = Flows(store, dispatcher=None if is_cancelled else Stuck())
    began, go_on = asyncio.Event(), asyncio.Event()

    @flows.flow
    async def working(run: Run) -> None:
        async def work() -> None:
            began.set()
            await go_on.wait()

        await run.step("work", work)
        await run.step("more", echo, 1)

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    await flows.__aenter__()
    await flows.start(working, id="x")
    if is_cancelled:
        await began.wait()
        close = asyncio.ensure_future(flows.close())
        await asyncio.sleep(0)
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
    else:
        with pytest.raises(OSError, match="cannot be closed"):
            await flows.close()

    assert not flows._termination.is_chained
    assert 1 == await asyncio.wait_for(flows.run(one, id="y"), 30)
    if is_cancelled:
        go_on.set()
        while flows._engine.drives:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.001)
        assert ["work"] == list((await store.load("x")).cache)
    else:
        await flows.start(one, id="z")
        assert "done" == await flows.drive("z")
    await asyncio.gather(flows.close(), return_exceptions=True)


@pytest.mark.parametrize("awaited", ["drive", "run"])
async def test_a_run_that_is_awaited_is_not_driven_here_again_after_the_close(
    store: CountingStore, awaited: str
) -> None:
    """It is handed over when its step has ended, which may be after the close, and others go on with it."""
    flows, others = Flows(store), Flows(store, dispatcher=Nobody())
    began, go_on = asyncio.Event(), asyncio.Event()

    @flows.flow
    async def working(run: Run) -> int:
        async def work() -> None:
            began.set()
            await go_on.wait()

        await run.step("work", work)
        return await run.step("more", echo, 1)

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    others._engine.flows.update(flows._engine.flows)
    if awaited == "drive":
        await others.start(working, id="x")
    driving = asyncio.ensure_future(flows.drive("x") if awaited == "drive" else flows.run(working, id="x"))
    await began.wait()
    await flows.close()
    go_on.set()
    while flows._engine.drives:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)
    if awaited == "drive":
        assert "handed over" == await driving
    for _ in range(100):
        await asyncio.sleep(0)

    state = await store.load("x")
    assert (None, 1, ["work"]) == (record_of(state).owner, record_of(state).drives, list(state.cache))
    assert 1 == await (await flows.start(one, id="y")).result(timeout=30)  # what is started later is driven here
    assert "done" == await others.drive("x")
    assert awaited == "drive" or 1 == await asyncio.wait_for(driving, 30)


async def test_a_parent_is_not_driven_here_after_the_close(store: CountingStore) -> None:
    """A child that ends after the close tells its parent, and leaves the parent to others."""
    flows, others = Flows(store), Flows(store, dispatcher=Nobody())
    began, go_on = asyncio.Event(), asyncio.Event()

    @flows.flow
    async def working(run: Run) -> int:
        async def work() -> int:
            began.set()
            await go_on.wait()
            return 1

        return await run.step("work", work)

    @flows.flow
    async def parent(run: Run) -> int:
        return await run.child("c", working, id="child")

    others._engine.flows.update(flows._engine.flows)
    await others.start(parent, id="x")
    assert "waiting" == await others.drive("x")
    driving = asyncio.ensure_future(flows.drive("child"))
    await began.wait()
    await flows.close()
    go_on.set()

    assert "done" == await driving
    for _ in range(100):
        await asyncio.sleep(0)
    assert (None, 1) == ((record := record_of(await store.load("x"))).owner, record.drives)
    assert "done" == await others.drive("x")


async def test_closing_begins_no_step_that_waits_for_a_thread(store: CountingStore) -> None:
    """Steps that have threads run to their end. The others begin in the next drive, which makes threads anew."""
    go_on, calls = threading.Event(), threading.Semaphore(0)
    flows = Flows(store, dispatcher=Nobody())

    def work() -> int:
        calls.release()
        assert go_on.wait(60)
        return 1

    @flows.flow
    async def many(run: Run) -> int:
        return sum(await asyncio.gather(*(run.step("work", work) for _ in range(40))))

    await flows.start(many, id="x")
    drive = asyncio.ensure_future(flows.drive("x"))
    await asyncio.to_thread(lambda: [calls.acquire(timeout=60) for _ in range(32)])
    await flows.close()
    go_on.set()

    assert "handed over" == await drive
    assert [{"value": 1}] * 32 == [{"value": entry.value} for entry in (await store.load("x")).cache.values()]
    assert "done" == await flows.drive("x")
    assert 40 == await flows.run(many, id="y")
    await flows.close()


async def test_a_step_gets_a_thread_though_another_thread_closes_them(flows: Flows) -> None:
    """Flows may be used by several event loops, of which one closes."""
    threads = flows._engine.pool
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    pools = iter([closed, threads.here()])
    threads.here = lambda: next(pools)  # type: ignore[method-assign]  # as another thread closes them in between

    assert 7 == await asyncio.get_running_loop().run_in_executor(threads, lambda: 7)


ENDING = """
import atexit, asyncio, threading, time
from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run

store = MemoryFlowStateStore()
flows = Flows(store)
begun = threading.Event()

def hold() -> None:
    begun.set()
    time.sleep(1)  # the interpreter awaits this thread

async def work(run: Run) -> None:
    for _ in range(5):
        await run.step("work", time.sleep, 0.1)

@flows.flow
async def long(run: Run) -> None:
    await asyncio.gather(work(run), run.step("hold", hold))

def tell() -> None:
    state = asyncio.run(store.load("x"))
    print(state.status, [key for key, entry in state.cache.items() if "error" in entry.model_extra])

atexit.register(tell)
flows.blocking.start(long, id="x")
assert begun.wait(30)
"""


def test_a_step_that_gets_no_thread_since_the_interpreter_ends_is_not_recorded() -> None:
    """The run is left to its lease, and does not fail."""
    told = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60, check=False)

    assert "running []\n" == told.stdout, told.stderr


CLOSED_LOOP = """
import asyncio, json, os, signal, threading
from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run

class Unwatched(MemoryFlowStateStore):
    watch = None  # so that a result is awaited by polls, which this process's own writes wake

store = Unwatched()
flows = Flows(store)
began, go_on, calls, told = threading.Semaphore(0), threading.Event(), [], []

def work() -> None:
    calls.append(1)
    began.release()
    assert go_on.wait(30)

@flows.flow
async def waits(run: Run) -> None:
    await run.step("long", asyncio.sleep, 1000)

@flows.flow
async def works(run: Run) -> None:
    await asyncio.gather(*(run.step("work", work) for _ in range(40)))

async def first() -> None:
    for id in "xyz":
        tasks.append(asyncio.ensure_future((await flows.start(waits, id=id)).result()))
    await flows.start(works, id="w")
    while not began.acquire(blocking=False) or len(calls) < 32:
        await asyncio.sleep(0.001)

async def second() -> None:
    await flows.cancel("x")
    told.append((await store.load("x")).operation.metadata["inbox"]["cancel"])
    told.append([flows._engine.has(id) for id in "xy"])
    async with flows:
        pass
    told.append([*flows._engine.drives])
    told.append("x" in flows._engine.wakers)

tasks = []
loop = asyncio.new_event_loop()
loop.run_until_complete(first())
loop.close()  # without an end of its tasks
asyncio.run(second())
go_on.set()
for thread in threading.enumerate():
    if thread.name.startswith("flow-step"):
        thread.join(30)
told.append(len(calls))
signal.signal(signal.SIGTERM, lambda *_: told.append("terminated"))
flows.blocking
os.kill(os.getpid(), signal.SIGTERM)
print(json.dumps(told))
os._exit(0)
"""


def test_a_drive_whose_event_loop_was_closed_under_it_is_forgotten() -> None:
    """Cancelling, closing and SIGTERM leave its run to the lease, and of its steps none begins any more."""
    told = subprocess.run([sys.executable, "-c", CLOSED_LOOP], capture_output=True, text=True, timeout=60, check=False)

    assert told.stdout, told.stderr
    assert ["", [False, False], [], False, 32, "terminated"] == json.loads(told.stdout)


OUTLIVING = """
import asyncio, os, threading
from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run

flows = Flows(MemoryFlowStateStore())
begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

@flows.flow
async def showing(run: Run) -> None:
    def step():
        begun.set()
        goes_on.wait(20)
        try:
            run.progress(percent=1)
            print("passed over", flush=True)
        finally:
            ended.set()
    await run.step("one", step)

async def begin():
    await flows.start(showing, id="x")
    await asyncio.to_thread(begun.wait, 20)

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
loop.close()
goes_on.set()
ended.wait(20)
os._exit(0)
"""


def test_a_thread_that_outlives_the_event_loop_may_tell_its_progress() -> None:
    """It is passed over, as nobody drives the run any more, and the step goes on without an error of the loop."""
    told = subprocess.run([sys.executable, "-c", OUTLIVING], capture_output=True, text=True, timeout=60, check=False)

    assert "passed over\n" == told.stdout, told.stderr


async def test_sigterm_hands_over_before_the_handler_that_is_there(store: CountingStore) -> None:
    """That handler is called afterwards, and put back at the end."""
    called: list[int] = []

    def handler(number: int, frame: object) -> None:
        called.append(number)

    before = signal.signal(signal.SIGTERM, handler)
    try:
        async with Flows(store) as flows:

            @flows.flow
            async def waiting(run: Run) -> None:
                await run.step("one", echo, 1)
                await asyncio.sleep(30)

            await flows.start(waiting, id="x")
            await asyncio.sleep(0.05)  # in which the step is recorded and the function waits
            os.kill(os.getpid(), signal.SIGTERM)
            by = time.monotonic() + 30
            while record_of(await store.load("x")).owner is not None:  # until the run is handed over
                assert time.monotonic() < by
                await asyncio.sleep(0.01)
        assert [signal.SIGTERM] == called
        assert handler is signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


class Handlers:
    """The handlers of SIGTERM of a test."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def named(self, name: str, before: Any = None) -> Callable[[int, Any], None]:
        """Return a handler that notes its name, and then calls the one before."""

        def handler(number: int, frame: Any) -> None:
            self.called.append(name)
            if before is not None:
                before(number, frame)

        return handler

    def termination(self, name: str) -> Termination:
        return Termination(lambda: self.called.append(name))

    def set(self, name: str, *, before: Any = None) -> None:
        """Set a handler, as a server does."""
        signal.signal(signal.SIGTERM, self.named(name, before))

    def at_sigterm(self) -> list[str]:
        """Return who is called by a SIGTERM now."""
        self.called.clear()
        signal.raise_signal(signal.SIGTERM)
        return list(self.called)


@pytest.fixture
def handlers() -> Iterator[Handlers]:
    handlers = Handlers()
    before = signal.signal(signal.SIGTERM, handlers.named("first"))
    yield handlers
    signal.signal(signal.SIGTERM, before)


def test_a_handler_that_a_server_sets_later_is_chained_by_the_next_use(handlers: Handlers) -> None:
    """The flows were used at import, before the server began; or the server has forked since."""
    ours = handlers.termination("ours")
    ours.chain()
    assert ["ours", "first"] == handlers.at_sigterm()

    handlers.set("server")
    assert ["server"] == handlers.at_sigterm()
    ours.chain()
    ours.chain()
    assert ["ours", "server"] == handlers.at_sigterm()

    ours.unchain()
    assert ["server"] == handlers.at_sigterm()
    ours.chain()
    assert ["ours", "server"] == handlers.at_sigterm()


def test_a_handler_that_is_set_meanwhile_stays_at_the_end(handlers: Handlers) -> None:
    """It may call ours, which does nothing more than to call the one before. The next use is told again."""
    ours = handlers.termination("ours")
    ours.chain()
    handlers.set("server", before=signal.getsignal(signal.SIGTERM))
    ours.unchain()
    assert ["server", "first"] == handlers.at_sigterm()

    ours.chain()
    assert ["ours", "server", "ours", "first"] == handlers.at_sigterm()


def test_no_chain_of_handlers_leads_back_to_itself(handlers: Handlers) -> None:
    """Several flows are used in turn. At the end the first handler is in place, in whatever order they end."""
    first = signal.getsignal(signal.SIGTERM)
    one, other = handlers.termination("one"), handlers.termination("other")
    for _ in range(3):
        one.chain()
        other.chain()
    assert ["other", "one", "first"] == handlers.at_sigterm()

    one.unchain()
    assert ["other", "first"] == handlers.at_sigterm()
    other.unchain()
    assert first is signal.getsignal(signal.SIGTERM)


async def test_sigterm_tells_each_drive_and_raises_nothing(store: CountingStore, handlers: Handlers) -> None:
    """The loop of a drive may be closed: the others are told, and so is the handler that was there before."""

    class Driven:
        def __init__(self, name: str, error: Exception | None = None) -> None:
            self.name = name
            self.error = error

        def leave(self) -> None:
            handlers.called.append(self.name)
            if self.error is not None:
                raise self.error

    async with Flows(store) as flows:
        drives: dict[str, Any] = flows._engine.drives
        drives.update(x=Driven("x", RuntimeError("Event loop is closed")), y=Driven("y"))
        assert ["x", "y", "first"] == handlers.at_sigterm()
        drives.update(y=Driven("y", ValueError()))
        assert ["x", "y", "first"] == handlers.at_sigterm()
        drives.clear()


async def nothing_more_is_written(flows: Flows, store: CountingStore, function: Callable[[Run], Any]) -> None:
    """Drive the function until it is suspended, and look whether anything is written afterwards."""

    @flows.flow(name="wild")
    async def wild(run: Run) -> None:
        await function(run)

    await flows.start(wild, id="x")
    await blocked(store, "x")
    writes = len(store.writes)
    await asyncio.sleep(1.3)  # longer than the second of calm after which a run is suspended

    assert writes == len(store.writes)


async def test_a_function_that_swallows_cancellations_writes_nothing(flows: Flows, store: CountingStore) -> None:
    """Every later call raises CancelledError, and at last waits for ever."""
    calls: list[int] = []
    over: list[int] = []

    async def swallow(run: Run) -> None:
        while not over:  # at the end of the test nothing else would end it
            try:
                await run.interrupt("a")
            except BaseException:  # noqa: BLE001  # the mistake under test
                calls.append(1)

    await nothing_more_is_written(flows, store, swallow)
    over.append(1)

    assert len(calls) <= 20


async def test_a_step_in_finally_writes_nothing(flows: Flows, store: CountingStore) -> None:
    """The step raises CancelledError."""
    seen: list[str] = []

    async def tidy(run: Run) -> None:
        try:
            await run.interrupt("a")
        finally:
            try:
                await run.step("tidy", echo, 1)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    await nothing_more_is_written(flows, store, tidy)

    assert ["cancelled"] == seen


async def test_steps_that_outlive_the_function_are_recorded(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """They are awaited, and a warning names them."""
    tasks = []

    @flows.flow
    async def leaving(run: Run) -> int:
        async def slow() -> int:
            while "slow" not in caplog.text:  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.001)
            return 1

        tasks.append(asyncio.ensure_future(run.step("slow", slow)))
        await run.step("quick", echo, 1)
        return 2

    assert 2 == await asyncio.wait_for(flows.run(leaving, id="x"), 30)
    assert ["quick", "slow"] == sorted((await store.load("x")).cache)
    assert "slow" in caplog.text
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_run_belongs_to_its_loop(flows: Flows) -> None:
    """An operation from a thread is a RuntimeError. `id`, `log`, `progress` and `current_step` work there."""

    @flows.flow
    async def threaded(run: Run) -> list[str]:
        def inside() -> list[str]:
            run.progress(at=1)
            run.log.info("inside")
            with pytest.raises(RuntimeError, match="thread"):
                run.step("no", str)
            return [run.id, current_run().id, current_step().key, threading.current_thread().name[:9]]

        return await run.step("inside", inside)

    assert ["x", "x", "inside", "flow-step"] == await flows.run(threaded, id="x")


async def test_a_step_that_was_left_cannot_use_the_run(flows: Flows) -> None:
    """A task that it left behind gets a RuntimeError."""
    errors: list[BaseException] = []

    @flows.flow
    async def leaving(run: Run) -> None:
        async def later() -> None:
            await asyncio.sleep(0.01)
            try:
                await run.step("late", echo, 1)
            except RuntimeError as error:
                errors.append(error)

        async def outer() -> None:
            tasks.append(asyncio.ensure_future(later()))

        tasks: list[asyncio.Future[None]] = []
        await run.step("outer", outer)
        await asyncio.wait(tasks)

    await flows.run(leaving)

    assert ["the step 'outer'"] == [str(error)[:16] for error in errors]


async def test_a_blocked_loop_is_a_warning_with_the_step(
    store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that was blocked for a quarter of the lease or longer is named in the log."""
    flows = Flows(store, lease=timedelta(seconds=1))

    @flows.flow
    async def blocking(run: Run) -> None:
        async def block() -> None:
            time.sleep(0.6)  # noqa: ASYNC251  # the mistake under test
            await asyncio.sleep(0.01)

        await run.step("block", block)

    await flows.run(blocking)
    await flows.close()

    assert "while block of the run" in caplog.text


async def test_a_step_may_be_longer_than_the_lease(store: CountingStore) -> None:
    """The lease is extended meanwhile, and nobody takes the run over."""
    flows = Flows(store, lease=timedelta(seconds=1))

    @flows.flow
    async def long(run: Run) -> int:
        return await run.step("long", asyncio.sleep, 1.5, 3)

    other = Flows(store)
    other._engine.flows.update(flows._engine.flows)
    handle = await flows.start(long, id="x")
    await asyncio.sleep(1.3)  # more than the lease of a second and its grace of a tenth

    assert "busy" == await other.drive("x")
    assert 3 == await handle.result(timeout=5)
    await flows.close()
    await other.close()


async def test_operations_other_than_steps_take_no_options(flows: Flows) -> None:
    """They are a ValueError."""

    @flows.flow
    async def wrong(run: Run) -> None:
        with pytest.raises(ValueError, match="options"):
            run.options(timeout=1).sleep("a", 1)
        with pytest.raises(ValueError, match="options"):
            run.options(timeout=1).interrupt("a")
        with pytest.raises(ValueError, match="options"):
            run.options(timeout=1).now()

    await flows.run(wrong)


async def test_a_step_at_most_once_cannot_wait(flows: Flows) -> None:
    """A step inside of it cannot wait either."""

    @flows.flow
    async def once(run: Run) -> None:
        async def outer() -> None:
            await run.step("inner", inner)

        async def inner() -> None:
            await run.interrupt("a")

        await run.options(at_most_once=True).step("outer", outer)

    with pytest.raises(FlowFailedError, match="at_most_once, which cannot wait"):
        await flows.run(once)


async def test_logs_are_silent_on_a_replay(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line is logged once, however often the function runs."""
    caplog.set_level("INFO")

    @flows.flow
    async def talking(run: Run) -> None:
        run.log.info("begin")
        await run.step("one", echo, 1)
        run.log.info("middle")
        await run.interrupt("a")
        run.log.info("end")

    handle = await flows.start(talking, id="x")
    await blocked(store, "x")
    await flows.resume("x")
    await handle.result(timeout=5)

    assert ["begin", "middle", "end"] == [
        record.message for record in caplog.records if record.name == "firestore_flowstate.flows.run"
    ]
