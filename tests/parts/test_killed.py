from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._operations.gc import collect

_WRITER = """
import asyncio, os, signal, sys
from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings

async def main():
    host, project, collection, what, point = sys.argv[1:]
    settings = FlowStateSettings(
        emulator_host=host, project=project, collection=collection, max_request_bytes=1024 * 1024, compress_over=2**40
    )
    async with FirestoreFlowStateStore(settings) as store:
        state = await store.load("flow")
        await store._ready(store._deadline(None))
        left = int(point)
        commit = store._connection.commit

        async def killing(writes, **options):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return await commit(writes, **options)

        store._connection.commit = killing
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
        print("done")

asyncio.run(main())
"""


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"compress_over": 2**40})


def old_state() -> FlowState:
    state = FlowState.start(flow_id="flow")
    state.cache = {f"old-{i}": CacheEntry(value=str(i) * 500_000) for i in range(4)}
    return state


@pytest.mark.parametrize("what", ["blind", "versioned", "shrink", "update", "delete"])
async def test_a_writer_killed_at_any_point_leaves_a_whole_state(
    flow_state_store: FirestoreFlowStateStore, what: str
) -> None:
    """Before each of its commits in turn: the old state or the new one, and at most orphans, which gc removes."""
    store = flow_state_store
    collection = await store._ready(store._deadline(None))
    finished = False
    point = 0
    while not finished:
        await store.delete("flow")
        await store.save("flow", old_state())
        finished = await asyncio.to_thread(_write_and_die, store.settings, what, point)
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


def _write_and_die(settings: FlowStateSettings, what: str, point: int) -> bool:
    """Return whether the writer ended before it was to die."""
    arguments = [settings.emulator_host or "", settings.project or "", settings.collection, what, str(point)]
    run = subprocess.run(
        [sys.executable, "-c", _WRITER, *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    if run.returncode == 0:
        assert run.stdout == "done\n"
        return True
    assert run.returncode == -9, run.stderr
    return False
