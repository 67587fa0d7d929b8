"""What processes agree on, and what a fork does to drives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from firestore_flowstate.emulator import Emulator
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.readiness import claimable_at
from firestore_flowstate.flows.record import RunRecord
from tests.flows.counting_store import CountingStore
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
