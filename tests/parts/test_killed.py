from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._operations.orphans import collect
from tests.faults.dying import Dying

_WRITER = """
from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings

async def main(what, point, settings):
    async with FirestoreFlowStateStore(FlowStateSettings(**settings)) as store:
        state = await store.load("flow")
        await store._begin()
        die_at(point, store)
        large = FlowState.start(flow_id="flow")
        large.cache = {f"new-{i}": CacheEntry(value=str(i) * 500_000) for i in range(8)}
        if what == "blind":
            await store.save("flow", large)
        elif what == "versioned":
            await store.save("flow", large, if_version=state.version)
        elif what == "shrink":
            await store.save("flow", FlowState.start(flow_id="flow"), if_version=state.version)
        elif what == "update":
            await store.update("flow", cache=large.cache, if_version=state.version)
        elif what == "delete":
            await store.delete("flow")
"""


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"compress_over": 2**40})


@pytest.fixture
def writer() -> Iterator[Dying]:
    with Dying(_WRITER) as writer:
        yield writer


def old_state() -> FlowState:
    state = FlowState.start(flow_id="flow")
    state.cache = {f"old-{i}": CacheEntry(value=str(i) * 500_000) for i in range(4)}
    return state


@pytest.mark.parametrize("what", ["blind", "versioned", "shrink", "update", "delete"])
async def test_a_writer_killed_at_any_point_leaves_a_whole_state(
    flow_state_store: FirestoreFlowStateStore, writer: Dying, what: str
) -> None:
    """It is killed before each of its commits in turn. The state is the old or the new one. Gc removes orphans."""
    store = flow_state_store
    collection, _ = await store._begin()
    writers = {
        "emulator_host": store.settings.emulator_host,
        "project": store.settings.project,
        "collection": store.settings.collection,
        "max_request_bytes": 1024 * 1024,
        "compress_over": 2**40,
    }
    finished = False
    point = 0
    while not finished:
        await store.delete("flow")
        await store.save("flow", old_state())
        finished = await asyncio.to_thread(writer.ends, what, point, writers)
        point += 1

        loaded = await store.load("flow")
        steps = None if loaded is None else set(loaded.cache)
        old = {f"old-{i}" for i in range(4)}
        new: Any = {f"new-{i}" for i in range(8)}
        after = {"blind": new, "versioned": new, "shrink": set(), "update": old | new, "delete": None}[what]
        assert (after if finished else old) == steps, point
        await collect(collection, dry_run=False, min_age=timedelta(0))
        assert loaded == await store.load("flow")
        report = await store.gc(dry_run=True)
        assert (0, 0, ()) == (report.orphans, report.young, report.unreadable)

    assert point >= (6 if what in ("blind", "versioned", "update") else 2)
