"""Processes are killed by SIGKILL before and after each write of four flows, and others go on with the runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows.record import ended_of
from firestore_flowstate.testing.durability import Journal, WatchedStore, violations
from tests.flows.processes import BY_NAME, PAST_THE_LEASE, Job, Nursery

_AT_ONCE = 6  # processes: one killed before and one killed after each of three writes
_KILLED = -9


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.mark.parametrize("layout", ["serialized", "native"])
@pytest.mark.parametrize("name", ["sequential", "racing", "asking_together", "parental"])
async def test_a_process_killed_at_any_write_leaves_what_others_go_on_with(
    flow_state_settings: FlowStateSettings, nursery: Nursery, tmp_path: Path, name: str, layout: str
) -> None:
    """Each run ends as it may, and every invariant holds."""
    settings = {
        "emulator_host": flow_state_settings.emulator_host,
        "project": flow_state_settings.project,
        "collection": flow_state_settings.collection,
        "layout": layout,
    }
    path, zero = tmp_path / "journal", time.time()
    killed: dict[str, str] = {}
    number, codes = 1, [_KILLED]
    while _KILLED in codes:
        jobs = []
        for at in range(number, number + _AT_ONCE // 2):
            for after in (False, True):
                id = f"{name}-{at}-{'after' if after else 'before'}"
                jobs.append(Job(settings, str(path), zero, {id: name}, die_at=at, after=after))
        codes = await asyncio.to_thread(nursery.run, jobs, at_once=_AT_ONCE)
        assert set(codes) <= {0, _KILLED}
        for job in jobs:
            killed.update(job.runs)
        number += _AT_ONCE // 2
    rest = [Job(settings, str(path), zero, killed, ahead=PAST_THE_LEASE)]
    assert [0] == await asyncio.to_thread(nursery.run, rest, at_once=1)

    journal = Journal(path)
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": layout})) as store:
        watched = WatchedStore(store, journal)
        for id in {event["run"] for event in journal.events()}:
            state = await watched.load(id)
            assert state is not None
            assert ended_of(state) is not None, id
            if id in killed:
                result = state.operation.result
                assert result is not None
                assert BY_NAME[name].accepts(result.response, None), id
    events = journal.events()
    journal.close()
    assert [] == violations(events)
    assert len(killed) > 8
