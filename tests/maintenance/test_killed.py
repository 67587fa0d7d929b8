"""Maintenance killed before each of its commits in turn: nothing is lost on the way, and the next run does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings, Operation
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate.testing import exactly
from tests.faults.dying import Dying

_KEYS: Final = {"old": "MDEyMzQ1Njc4OWFiY2RlZg==", "new": "ZmVkY2JhOTg3NjU0MzIxMA=="}
_JOB: Final = """
from datetime import timedelta
from firestore_flowstate import FirestoreFlowStateStore, FlowStateQuery, FlowStateSettings

async def main(what, point, settings, others):
    store, other = (FirestoreFlowStateStore(FlowStateSettings(**given)) for given in (settings, others))
    async with store, other:
        for one in (store, other):
            await one._begin()
        die_at(point, store, other)
        if what == "purge":
            await store.purge(FlowStateQuery(status="done"), older_than=timedelta(0))
        elif what == "rewrap":
            await other.rewrap()
        elif what == "delete_many":
            await store.delete_many([f"done-{i}" for i in range(120)])
        else:
            await store.migrate(other)
"""


@dataclass(frozen=True)
class Job:
    """A job of maintenance.

    Attributes:
        before: The settings that states are written with.
        after: The settings whose form the job is to leave them in, in the same collection unless these name another.
        deletes: Whether it deletes what is done.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    deletes: bool = False


JOBS: Final = {
    "purge": Job({}, {}, deletes=True),
    "delete_many": Job({}, {}, deletes=True),
    "migrate": Job({"layout": "native"}, {}),
    "migrate to native": Job({}, {"layout": "native"}),
    "migrate elsewhere": Job({}, {"collection": "elsewhere"}),
    "rewrap": Job({"keys": {"old": _KEYS["old"]}}, {"keys": _KEYS, "current_key": "new"}),
}


def states_of(job: Job) -> dict[str, FlowState]:
    """Return states of which some are done, and some in parts, if the layout has parts."""
    states = {}
    for number in range(120 if job.deletes else 3):  # a job that deletes does so 100 at a time
        for name, done in (("done", True), ("running", False)):
            state = FlowState.start(name=name, flow_id=f"{name}-{number}")
            state.start_time = number
            state.cache = {"step": CacheEntry(value=[number, None, 0.5])}
            state.operation = Operation(name=state.flow_id, done=done)
            states[f"{name}-{number}"] = state
    if "native" not in (job.before.get("layout"), job.after.get("layout")):
        for id in ("done-1", "running-2"):
            states[id].cache["large"] = CacheEntry(value="x" * 1_100_000)
    return states


@pytest.fixture
def run() -> Iterator[Dying]:
    with Dying(_JOB) as run:
        yield run


@pytest.mark.parametrize("what", JOBS)
async def test_killed_before_each_commit(flow_state_settings: FlowStateSettings, run: Dying, what: str) -> None:
    """What is not done yet is whole, as it was. The next run does it, and gc then leaves no part that nobody names."""
    job = JOBS[what]
    common = {
        "emulator_host": flow_state_settings.emulator_host,
        "project": flow_state_settings.project,
        "collection": flow_state_settings.collection,
        "compress_over": 2**40,
    }
    settings = {**common, **job.before}, {**common, **job.after}
    before, after = (FirestoreFlowStateStore(FlowStateSettings(**given)) for given in settings)
    states = states_of(job)
    left = {id: state for id, state in states.items() if not (job.deletes and id.startswith("done"))}
    kills = 0
    async with before, after:
        await _save_again(before, after, states)
        while not await asyncio.to_thread(run.ends, what, kills, *settings):
            reader = before if what == "migrate elsewhere" else after
            found = {id: state for id, state in (await reader.load_many(states)).items() if state is not None}
            assert found.keys() >= left.keys()
            assert exactly({id: states[id] for id in found}) == exactly(found)

            assert await asyncio.to_thread(run.ends, what, -1, *settings)
            await _check_done(after, states, left)
            kills += 1
            await _save_again(before, after, states)
    assert kills >= (2 if job.deletes else 6)


async def _save_again(
    before: FirestoreFlowStateStore, after: FirestoreFlowStateStore, states: dict[str, FlowState]
) -> None:
    await after.delete_many(list(states))
    await before.delete_many(list(states))
    await before.save_many(states)


async def _check_done(store: FirestoreFlowStateStore, states: dict[str, FlowState], left: dict[str, FlowState]) -> None:
    found = {id: state for id, state in (await store.load_many(states)).items() if state is not None}
    assert exactly(left) == exactly({id: found[id] for id in left})
    assert left.keys() == found.keys()
    collection, _ = await store._begin()
    await collect(collection, dry_run=False, min_age=timedelta(0))
    assert exactly(found) == exactly(await store.load_many(left))
    report = await store.gc(dry_run=True)
    assert (0, 0, ()) == (report.orphans, report.young, report.unreadable)
