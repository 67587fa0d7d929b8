"""What processes agree on, and what a fork does to drives."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate.emulator import Emulator
from firestore_flowstate.flows import FlowCancelledError, Flows, Run
from firestore_flowstate.flows.readiness import claimable_at
from firestore_flowstate.flows.record import RunRecord, ended_of
from firestore_flowstate.testing.durability.host import PAST_THE_LEASE, HostClock
from tests.flows.counting_store import CountingStore
from tests.flows.test_background import moved_on
from tests.flows.test_closing import NoTasks
from tests.flows.test_fence import abandoned

LEASE = 60_000
RECKON = """
import json
from firestore_flowstate.flows.readiness import claimable_at
from firestore_flowstate.flows.record import RunRecord
print(json.dumps([claimable_at("x", RunRecord(recoveries=k), 0, lease=60_000) for k in range(12)]))
"""


def reckoned_elsewhere(seed: str) -> list[int]:
    """Return when a run may be claimed after its lease, by its recoveries, as another process reckons it."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run([sys.executable, "-c", RECKON], env=environment, capture_output=True, text=True, check=True)
    return [int(moment) for moment in json.loads(told.stdout)]


def test_all_processes_reckon_the_same_moment_of_a_claim() -> None:
    """The grace is a tenth of the lease at first. Then pauses grow to five minutes, with one jitter for all."""
    here = [claimable_at("x", RunRecord(recoveries=k), 0, lease=LEASE) for k in range(12)]

    assert here == reckoned_elsewhere("1") == reckoned_elsewhere("2")
    assert 6_000 == here[0]
    assert sorted(here) == here or max(here) > 150_000
    assert all(
        max(6_000, min(500 * 2**k, 150_000)) <= here[k] <= max(6_000, min(1000 * 2**k, 300_000)) for k in range(12)
    )
    assert here[5] != claimable_at("y", RunRecord(recoveries=5), 0, lease=LEASE)


async def test_a_lease_that_has_just_ended_is_left_to_its_owner(store: CountingStore) -> None:
    """Another process is told when it may claim, and claims then."""
    armed: list[tuple[str, float]] = []

    class Tasks:
        async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
            assert at is not None
            armed.append((id, at.timestamp()))

        async def close(self) -> None: ...

    flows = Flows(store, dispatcher=Tasks())

    @flows.flow
    async def work(run: Run) -> int:
        return 1

    ended = round(time.time() * 1000) - 1_000
    state = abandoned("work", recoveries=3)
    state.wakeAt = ended
    await store.save("x", state)
    free_at = claimable_at("x", RunRecord(recoveries=3), ended, lease=LEASE)

    assert "busy" == await flows.drive("x")
    assert [("x", free_at / 1000)] == armed
    await store.update("x", extra={"wakeAt": ended - (free_at - ended)})
    assert "done" == await flows.drive("x")


class Held:
    """Flows that know one flow, in a process over a run of it whose owner has died.

    Args:
        store: The store.
        ended: Whether others may claim the run by now: its lease and the grace are over.
        about: What the run's record has.
    """

    def __init__(self, store: CountingStore, *, ended: bool, **about: Any) -> None:
        self.store, self.ended = store, ended
        self.flows = Flows(store)
        self.clock = self.flows._engine.clock = HostClock()
        self.state = abandoned("work", **about)
        self.state.wakeAt = 1 if ended else self.clock.now() + LEASE

        @self.flows.flow
        async def work(run: Run) -> int:
            return await run.interrupt("ok", int) if about else 7

        self.work = work

    @property
    def timers(self) -> list[str]:
        """The ids of the runs that this process is to look at later."""
        return [id for id, _ in self.flows._engine.dispatcher._timers]  # type: ignore[attr-defined]

    async def until_its_lease_has_ended(self) -> None:
        """Let the time pass, if the lease and the grace are not over."""
        if not self.ended:
            while not self.timers:  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.001)
            self.clock.move(PAST_THE_LEASE)


ASKED = {"waits": {"ok": {"kind": "interrupt", "n": 1, "schema": "{}"}}}


@pytest.mark.parametrize("how", ["start", "run"])
async def test_the_id_of_a_run_whose_owner_has_died_is_started_again(store: CountingStore, how: str) -> None:
    """As by a script that is started again soon after it crashed: it goes on when the lease has ended."""
    held = Held(store, ended=False)
    await store.save("x", held.state)
    starting = asyncio.ensure_future(
        held.flows.start(held.work, id="x") if how == "start" else held.flows.run(held.work, id="x")
    )
    await asyncio.wait_for(held.until_its_lease_has_ended(), 30)

    outcome = await asyncio.wait_for(starting, 30)
    assert 7 == (await outcome.result(timeout=30) if how == "start" else outcome)
    await held.flows.close()


async def test_the_id_of_a_run_that_sleeps_is_started_again(store: CountingStore) -> None:
    """The process that started it before is gone, and with it the timer of the sleep."""
    flows, before = Flows(store), Flows(store, dispatcher=NoTasks())
    clock = flows._engine.clock = before._engine.clock = HostClock()

    @flows.flow
    async def sleeping(run: Run) -> int:
        await run.sleep("nap", 3600)
        return 7

    before._engine.flows.update(flows._engine.flows)
    await before.start(sleeping, id="x")
    assert "waiting" == await before.drive("x")
    handle = await flows.start(sleeping, id="x")
    clock.move(3600)

    await asyncio.wait_for(moved_on(clock, store, "x"), 30)
    assert 7 == await handle.result()
    await flows.close()


async def test_a_start_again_arms_no_timer_for_a_run_that_is_driven_here(store: CountingStore) -> None:
    """Its drive extends the lease, and to look at it then would be a read for nothing."""
    held, began, go_on = Held(store, ended=False), asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        await go_on.wait()

    @held.flows.flow
    async def working(run: Run) -> None:
        await run.step("wait", wait)

    handle = await held.flows.start(working, id="x")
    await began.wait()
    await held.flows.start(working, id="x")
    await held.flows.resume("x", 1, step="later")
    timers = held.timers
    go_on.set()
    await handle.result(timeout=30)

    assert [] == timers
    await held.flows.close()


async def test_cancel_ends_a_run_whose_owner_has_died(store: CountingStore) -> None:
    """At once, if the time of the owner is over, also by a process that does not know the flow; else after it."""
    long_ago, lately = Held(store, ended=True, **ASKED), Held(store, ended=False, **ASKED)
    await store.save("a", long_ago.state)
    await store.save("b", lately.state)
    writes = len(store.writes)
    await Flows(store).cancel("a", "enough")

    assert writes + 1 == len(store.writes)
    assert "cancelled" == ended_of(await store.load("a"))
    await lately.flows.cancel("b", "enough")
    assert ended_of(await store.load("b")) is None
    await lately.until_its_lease_has_ended()
    with pytest.raises(FlowCancelledError, match="enough"):
        await lately.flows.result("b", timeout=30)
    await lately.flows.close()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("ended", [True, False])
async def test_an_answer_wakes_a_run_whose_owner_has_died(store: CountingStore, ended: bool, again: bool) -> None:
    """At once, if the time of the owner is over, else after it; also if who gave the answer first has died too."""
    held = Held(store, ended=ended, **ASKED)
    await store.save("x", held.state)
    if again:
        await Flows(store, dispatcher=NoTasks()).resume("x", 5, step="ok", key="form")
    await held.flows.resume("x", 5, step="ok", key="form")
    await asyncio.wait_for(held.until_its_lease_has_ended(), 30)

    assert 5 == await held.flows.result("x", timeout=30)
    await held.flows.close()


@pytest.mark.parametrize("ended", [True, False])
async def test_a_child_wakes_a_parent_whose_owner_has_died(store: CountingStore, ended: bool) -> None:
    """At once, if the time of the owner is over, else after it."""
    held = Held(store, ended=ended)

    @held.flows.flow
    async def parent(run: Run) -> int:
        return await run.child("c", held.work, id="child")

    others = Flows(store, dispatcher=NoTasks())
    others._engine.flows.update(held.flows._engine.flows)
    others._engine.clock = held.clock
    await others.start(parent, id="x")
    assert "waiting" == await others.drive("x")
    state = await store.load("x")
    state.operation.metadata["run"]["owner"] = "dead"
    state.wakeAt = held.state.wakeAt
    await store.save("x", state)
    await held.flows.drive("child")
    await asyncio.wait_for(held.until_its_lease_has_ended(), 30)

    assert 7 == await held.flows.result("x", timeout=30)
    await held.flows.close()


FORKED = """
import json, os, sys, threading
from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run

flows = Flows(FirestoreFlowStateStore())
begun, goes_on = threading.Event(), threading.Event()

def wait() -> int:
    begun.set()
    assert goes_on.wait(30)
    return os.getpid()

@flows.flow
async def long(run: Run) -> int:
    return await run.step("wait", wait)

@flows.flow
async def short(run: Run) -> int:
    return await run.step("one", os.getpid)

handle = flows.blocking.start(long, id="x")
assert begun.wait(30)
reading, writing = os.pipe()
pid = os.fork()
if pid == 0:
    busy = flows.blocking.drive("x")
    own = flows.blocking.run(short, id="y")
    os.write(writing, json.dumps([busy, own == os.getpid()]).encode())
    os._exit(0)
os.close(writing)
said = json.loads(os.fdopen(reading).read())
os.waitpid(pid, 0)
goes_on.set()
here = handle.result(timeout=20)
flows.blocking.close()
print(json.dumps([*said, here == os.getpid(), handle._handle._flows._engine.drives == {}]))
"""


def test_a_forked_child_leaves_its_parents_drives_alone(firestore_emulator: Emulator) -> None:
    """The child finds the run busy and drives runs of its own, and the parent finishes the run that it drives."""
    environment: dict[str, Any] = {
        **os.environ,
        **firestore_emulator.environment,
        "GRPC_VERBOSITY": "NONE",  # grpc says itself, in the parent, that a fork comes at a bad time
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    told = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert "" == told.stderr
    assert ["busy", True, True, True] == json.loads(told.stdout)
