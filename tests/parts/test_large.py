from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateConflictError,
    FlowStateQuery,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate._document.stored_values import PART_BYTES, PARTS
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate._rpc.calling import serialized_commit
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.testing import exactly

from .interleaving import before_commits

MB = 980_000  # so that a state of n of them has n parts


def state_of(size: int, seed: int = 0, *, step: int = 200_000) -> FlowState:
    """Return a state of about so many bytes of text that does not compress much."""
    source = random.Random(seed)
    state = FlowState.start(name="large", flow_id="flow", input={"seed": seed})
    state.start_time = 1
    for number in range(max(1, size // step)):
        state.cache[f"step {number}"] = CacheEntry(value=source.randbytes(min(step, size) // 2).hex())
    return state


@pytest.fixture
def raw_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    """Settings without compression, so that sizes are what they seem."""
    return flow_state_settings.model_copy(update={"compress_over": 2**40})


async def parts_below(store: FirestoreFlowStateStore, id: str = "flow") -> list[str]:
    from firestore_flowstate._operations.deleting import part_names

    collection, _ = await store._begin()
    return await part_names(collection, id, collection.deadline())


@pytest.mark.parametrize("size", [1_200_000, 5 * MB, 50 * MB])
@pytest.mark.parametrize("compressed", [True, False])
async def test_a_state_of_any_size_comes_back_equal(
    flow_state_settings: FlowStateSettings, size: int, compressed: bool
) -> None:
    """It does beyond what a document and a request hold, with and without compression."""
    settings = flow_state_settings if compressed else flow_state_settings.model_copy(update={"compress_over": 2**40})
    async with FirestoreFlowStateStore(settings) as store:
        state = state_of(size)
        await store.save("flow", state)

        loaded = await store.load("flow")
        assert state == loaded
        assert loaded is not None
        assert state.version == loaded.version
        assert await parts_below(store) != []
        listed = await store.list(FlowStateQuery(limit=1))
        assert [state] == list(listed.flow_states)


@pytest.mark.parametrize("limit", [256 * 1024, 1024 * 1024, 10 * 1024 * 1024])
async def test_a_request_has_at_most_what_the_settings_say(flow_state_settings: FlowStateSettings, limit: int) -> None:
    """A request to the emulator never has more than the emulator's 4 MiB."""
    settings = flow_state_settings.model_copy(update={"max_request_bytes": limit, "compress_over": 2**40})
    async with FirestoreFlowStateStore(settings) as store:
        sizes = measured_commits(store)
        state = state_of(9 * MB)
        await store.save("flow", state)

        assert state == await store.load("flow")
        # A part has a million bytes: a lower limit than that cannot be kept, and goes part by part.
        assert max(sizes) <= max(min(limit, 4 * 1024 * 1024), PART_BYTES + 1000)


async def test_a_batch_has_at_most_what_the_settings_say(flow_state_settings: FlowStateSettings) -> None:
    """Many small states go in as many requests as that takes."""
    limit = 128 * 1024
    settings = flow_state_settings.model_copy(update={"max_request_bytes": limit, "compress_over": 2**40})
    async with FirestoreFlowStateStore(settings) as store:
        sizes = measured_commits(store)
        states = {str(number): state_of(10_000, seed=number) for number in range(60)}
        await store.save_many(states)

        assert states == dict(await store.load_many(list(states)))
        assert max(sizes) <= limit
        assert len(sizes) <= 7, "no more requests than that takes"


def measured_commits(store: FirestoreFlowStateStore) -> list[int]:
    """Return a list that gets the bytes of each commit of the store."""
    sizes: list[int] = []
    commit = store._connection.commit

    async def measured(writes: Any, **options: Any) -> Any:
        sizes.append(len(serialized_commit("", writes)))
        return await commit(writes, **options)

    store._connection.commit = measured  # type: ignore[method-assign]  # looks at the writes, sends them on
    return sizes


async def test_growing_and_shrinking_leave_no_part_behind(raw_settings: FlowStateSettings) -> None:
    """A state that a version is known of takes its parts with it: grown, shrunk to a document, replaced, deleted."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        state = state_of(2 * MB)
        await store.save("flow", state)
        assert len(await parts_below(store)) == 2
        grown = state_of(6 * MB, seed=1)
        await store.save("flow", grown, if_version=state.version)
        assert len(await parts_below(store)) == 6
        async with store.edit("flow") as edited:
            edited.name = "renamed"
        assert len(await parts_below(store)) == 6
        small = state_of(1000)
        await store.save("flow", small, if_version=edited.version)
        assert await parts_below(store) == []
        await store.save("flow", state_of(3 * MB))
        await store.save("flow", state_of(4 * MB, seed=2))  # blind over large: it reads what it replaces
        assert len(await parts_below(store)) == 4
        await store.delete("flow")
        assert await parts_below(store) == []


async def test_an_edit_whose_block_has_saved_the_state_leaves_no_part_behind(raw_settings: FlowStateSettings) -> None:
    """The parts that the block itself has stored go with the values that it takes back, and no others do."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        await store.save("flow", state_of(1_500_000))
        kept = await parts_below(store)
        async with store.edit("flow") as state:
            state.input = state_of(1_500_000, seed=1).model_dump()["cache"]
            await store.save("flow", state)
            state.input = None
        loaded = await store.load("flow")

        assert exactly(state) == exactly(loaded)
        assert len(kept) == len(await parts_below(store))
        assert 0 == (await collect((await store._begin())[0], dry_run=True, min_age=timedelta(0))).orphans


async def test_an_update_of_a_full_root_compacts_it_and_is_sent_again(
    raw_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is stored, though nobody compacted the log before. Each step is as large as may stay in the root."""
    monkeypatch.setattr("firestore_flowstate._operations.updating.COMPACT_WEIGHT", 10**12)
    async with FirestoreFlowStateStore(raw_settings) as store:
        state = FlowState.start(flow_id="flow")
        await store.save("flow", state)
        version = state.version or ""
        parts = []
        for number in range(18):
            step = {f"step {number}": CacheEntry(value="x" * 60_000)}
            version = await store.update("flow", cache=step, if_version=version)
            parts.append(len(await parts_below(store)))
        loaded = await store.load("flow")

    assert [0] * 17 == parts[:17]  # 17 steps of 60,000 bytes have room in the 1 MiB of a document, and 18 do not
    assert parts[17] > 0
    assert loaded is not None
    assert (version, [f"step {number}" for number in range(18)]) == (loaded.version, list(loaded.cache))


async def test_gc_finds_what_a_blind_save_left(raw_settings: FlowStateSettings) -> None:
    """A small blind save over a large state leaves parts. Gc leaves young ones alone, and removes the rest."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        await store.save("flow", state_of(3 * MB))
        await store.save("kept", state_of(2 * MB, seed=1))
        await store.save("flow", state_of(1000))
        assert len(await parts_below(store)) == 3

        young = await store.gc()
        assert (0, 0, 3) == (young.orphans, young.deleted, young.young)
        collection, _ = await store._begin()
        dry = await collect(collection, dry_run=True, min_age=timedelta(0))
        assert (3, 0) == (dry.orphans, dry.deleted)
        assert len(await parts_below(store)) == 3
        done = await collect(collection, dry_run=False, min_age=timedelta(0))
        assert (3, 3) == (done.orphans, done.deleted)
        assert await parts_below(store) == []
        assert state_of(2 * MB, seed=1) == await store.load("kept")


async def test_a_blind_save_whose_parts_vanish_writes_them_again(raw_settings: FlowStateSettings) -> None:
    """If a save takes longer than gc waits, its parts may be gone when its root is sent. The caller sees none of it."""
    large = state_of(MB)
    in_requests = raw_settings.model_copy(update={"max_request_bytes": 256 * 1024})
    async with FirestoreFlowStateStore(in_requests) as store, FirestoreFlowStateStore(raw_settings) as others:
        collection, _ = await others._begin()
        deleted: list[int] = []

        async def vanish() -> None:
            deleted.append((await collect(collection, dry_run=False, min_age=timedelta(0))).deleted)

        sent = await before_commits(store, "flow", vanish, times=1)
        await store.save("flow", large)

        assert deleted[0] > 0
        assert 2 == len(sent)
        assert large == await others.load("flow")


async def test_large_values_of_an_update_go_to_parts(raw_settings: FlowStateSettings) -> None:
    """A step or a result of megabytes is one update. Replacing the result takes its parts with it."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        state = state_of(1000)
        await store.save("flow", state)
        text = random.Random(3).randbytes(1_500_000).hex()
        version = await store.update("flow", cache={"large": CacheEntry(value=text)}, if_version=state.version or "")
        operation = Operation(name="flow", done=True, result=FlowResult(response=text))
        version = await store.update("flow", operation=operation, if_version=version)
        assert len(await parts_below(store)) == 8
        version = await store.update("flow", operation=Operation(name="flow", done=True), if_version=version)

        loaded = await store.load("flow")
        assert loaded is not None
        assert version == loaded.version
        assert text == loaded.cache["large"].value
        assert ["step 0", "large"] == list(loaded.cache)
        assert len(await parts_below(store)) == 4
        await store.delete("flow", if_version=version)
        assert await parts_below(store) == []


async def test_of_two_large_writers_one_wins_whole(raw_settings: FlowStateSettings) -> None:
    """Readers during the writes see one state or another, never a mixture, and never a failure."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        states = [state_of(2 * MB, seed=seed) for seed in range(3)]
        expected = [exactly(state) for state in states]
        await store.save("flow", states[0])
        seen: list[int] = []
        writing = [asyncio.create_task(_save_often(store, states[seed], seen)) for seed in (1, 2)]
        while not all(task.done() for task in writing):
            loaded = await store.load("flow")
            assert loaded is not None
            seen.append(expected.index(exactly(loaded)))
        await asyncio.gather(*writing)

        last = await store.load("flow")
        assert last is not None
        assert exactly(last) in expected[1:]
        assert len(seen) > 3
        with pytest.raises(FlowStateConflictError):
            await store.save("flow", states[0], if_version=states[0].version)


async def _save_often(store: FirestoreFlowStateStore, state: FlowState, seen: list[int]) -> None:
    """Save at least 8 times, and for as long as a reader on a busy machine has hardly looked."""
    saved = 0
    while saved < 8 or len(seen) <= 3:
        await store.save("flow", state.model_copy(deep=True))
        saved += 1


async def test_summaries_fetch_no_part(raw_settings: FlowStateSettings) -> None:
    """A summary of a large state is read from the head alone."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        await store.save("flow", state_of(3 * MB))
        store._connection.batch_get = None  # type: ignore[assignment,method-assign]  # so that fetching a part fails

        page = await store.list_summaries()
        assert [("flow", 14)] == [(summary.id, summary.step_count) for summary in page.summaries]
        assert page.summaries[0].size_bytes > 2_700_000


async def test_loading_parts_takes_two_round_trips(raw_settings: FlowStateSettings) -> None:
    """One is for the root, and one for all parts together."""
    async with FirestoreFlowStateStore(raw_settings) as store:
        await store.save("flow", state_of(20 * MB))
        calls: list[str] = []
        for name in ("get", "batch_get", "run_query"):
            _count(store, name, calls)

        assert await store.load("flow") is not None
        assert ["get", "batch_get"] == calls


def _count(store: FirestoreFlowStateStore, name: str, calls: list[str]) -> None:
    method = getattr(store._connection, name)

    async def counted(*args: Any, **options: Any) -> Any:
        calls.append(name)
        return await method(*args, **options)

    setattr(store._connection, name, counted)


_MEASURE = """
import asyncio, resource, sys
from firestore_flowstate import FirestoreFlowStateStore, FlowState, CacheEntry, FlowStateSettings
import random

async def main():
    what, size, host, project = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    settings = FlowStateSettings(emulator_host=host, project=project, collection="memory")
    async with FirestoreFlowStateStore(settings) as store:
        await store.ping()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if what == "save":
            state = FlowState.start(flow_id="flow")
            for i in range(size // 200_000):
                state.cache[str(i)] = CacheEntry(value=random.randbytes(100_000).hex())
            await store.save("flow", state)
        else:
            state = await store.load("flow")
        assert len(state.cache) == size // 200_000
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


def test_memory_stays_within_three_times_the_state(flow_state_settings: FlowStateSettings) -> None:
    """The peaks of a process that saves and of one that loads count from before, in multiples of the state."""
    size = 60 * MB
    for what in ("save", "load"):
        arguments = [what, str(size), flow_state_settings.emulator_host or "", flow_state_settings.project or ""]
        run = subprocess.run(
            [sys.executable, "-c", _MEASURE, *arguments], check=True, capture_output=True, text=True, timeout=100
        )
        assert int(run.stdout) * 1024 <= 3 * size, what


def test_parts_have_one_fixed_name() -> None:
    """Rules, exemptions and TTL policies of users name the subcollection."""
    assert PARTS == "flowstate-parts"


async def test_two_hundred_megabytes(flow_state_settings: FlowStateSettings) -> None:
    """Nothing but time and memory limits the size of a state."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"timeout": 60.0})) as store:
        state = state_of(200_000_000, step=1_000_000)
        await store.save("flow", state)

        assert state == await store.load("flow")
        await store.delete("flow")
        assert await parts_below(store) == []


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the deadline of each commit leaves to its call in all."""
    seconds: list[float] = []
    commit = Connection.commit

    async def note(self: Connection, writes: Any, *, deadline: Deadline, **options: Any) -> object:
        seconds.append(deadline.allowed)
        return await commit(self, writes, deadline=deadline, **options)

    monkeypatch.setattr(Connection, "commit", note)
    return seconds


@pytest.mark.parametrize("by", ["save", "update", "save_many", "save_many of small ones", "rewrap"])
@pytest.mark.parametrize(("mib", "seconds"), [(1, 10), (3, 12)])
async def test_a_call_gets_a_second_for_each_mib_beyond_the_first(
    raw_settings: FlowStateSettings, allowed: list[float], by: str, mib: int, seconds: int
) -> None:
    """It does so once, whether they are in one state or in many. Names and the rest of a write count a little too."""
    ten_seconds = raw_settings.model_copy(update={"timeout": 10})
    keyed = ten_seconds.model_copy(update={"keys": {"key": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="}})
    text = "x" * (mib * 2**20)
    async with FirestoreFlowStateStore(ten_seconds) as store, FirestoreFlowStateStore(keyed) as encrypting:
        if by in ("update", "rewrap"):
            await store.save("flow", FlowState.start(input=text if by == "rewrap" else None))
            allowed.clear()
        if by == "save":
            await store.save("flow", FlowState.start(input=text))
        elif by == "update":
            await store.update("flow", cache={"step": CacheEntry(value=text)})
        elif by == "save_many":
            await store.save_many({"flow": FlowState.start(input=text)})
        elif by == "save_many of small ones":
            await store.save_many({str(n): FlowState.start(input="x" * 2**18) for n in range(4 * mib)})
        else:
            await encrypting.rewrap()

    assert seconds <= max(allowed) < seconds + 0.1
