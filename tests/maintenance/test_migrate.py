from __future__ import annotations

import asyncio
import json
from dataclasses import astuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateEncodeError,
    FlowStateQuery,
    FlowStateSettings,
)
from firestore_flowstate._operations import migrating
from firestore_flowstate.testing import exactly
from tests.parts.interleaving import before_commits

GOLDEN = sorted((Path(__file__).parent.parent / "data" / "genkit-js").glob("*.json"))


def store_of(settings: FlowStateSettings, **changes: Any) -> FirestoreFlowStateStore:
    return FirestoreFlowStateStore(settings.model_copy(update=changes))


def flow(number: int) -> FlowState:
    state = FlowState.start(name="flow", flow_id=f"flow-{number}", input={"number": number})
    state.start_time = number
    state.cache = {"first": CacheEntry(value=[number, None, {"a": 0.5}]), "empty": CacheEntry(empty=True)}
    return state


async def layouts(store: FirestoreFlowStateStore) -> list[bool]:
    """Return for each document, by id, whether it is in the serialized layout."""
    from firestore_flowstate._operations.reading import scan

    collection, _ = await store._begin()
    return [document.layout == "serialized" async for page in scan(collection) for document in page]


async def test_in_place_and_back(flow_state_settings: FlowStateSettings) -> None:
    """Every document changes its layout and keeps its state. A second run changes nothing. A run back restores it."""
    native, serialized = (store_of(flow_state_settings, layout=layout) for layout in ("native", "serialized"))
    async with native, serialized:
        states = {f"id-{i:03}": flow(i) for i in range(120)}
        await native.save_many(states)
        seen: list[int] = []

        dry = await native.migrate(serialized, dry_run=True)
        assert (120, 0, {}) == (dry.migrated, dry.unchanged, dry.failed)
        assert not any(await layouts(native))
        done = await native.migrate(serialized, progress=seen.append)
        assert (120, 0, {}) == (done.migrated, done.unchanged, done.failed)
        assert all(await layouts(native))
        assert list(range(1, 121)) == seen
        again = await native.migrate(serialized)
        assert (0, 120) == (again.migrated, again.unchanged)
        assert states == await serialized.load_many(states)
        back = await serialized.migrate(native)
        assert (120, 0, {}) == (back.migrated, back.unchanged, back.failed)
        assert not any(await layouts(native))
        assert states == await native.load_many(states)


async def test_what_native_cannot_hold_is_reported(flow_state_settings: FlowStateSettings) -> None:
    """It has the path of the value. The rest is migrated, and what failed is as it was. A dry run says so too."""
    native, serialized = (store_of(flow_state_settings, layout=layout) for layout in ("native", "serialized"))
    async with native, serialized:
        bad = flow(1)
        bad.cache["nested"] = CacheEntry(value=[[1]])
        await serialized.save("bad", bad)
        await serialized.save("good", flow(2))
        for dry_run in (True, False):
            report = await serialized.migrate(native, dry_run=dry_run)
            assert 1 == report.migrated
            assert ["bad"] == list(report.failed)
            error = report.failed["bad"]
            assert isinstance(error, FlowStateEncodeError)
            assert error.flow_id == "bad"
            assert "nested" in str(error.path)
        assert [True, False] == await layouts(native)
        assert bad == await native.load("bad")


async def test_to_another_collection(flow_state_settings: FlowStateSettings) -> None:
    """States are copied. A second run copies only what was written since, and never over what is newer there."""
    source, destination = (
        store_of(flow_state_settings, layout="native"),
        store_of(flow_state_settings, collection="moved"),
    )
    async with source, destination:
        states = {f"id-{i}": flow(i) for i in range(10)}
        await source.save_many(states)
        assert 10 == (await source.migrate(target=destination)).migrated
        assert states == await destination.load_many(states)
        await source.update("id-3", cache={"later": CacheEntry(value=3)})
        await destination.update("id-4", cache={"resumed there": CacheEntry(value=4)})

        await source.delete("id-5")

        report = await source.migrate(destination)
        assert (1, 8, {}) == (report.migrated, report.unchanged, report.failed)
        assert states["id-5"] == await destination.load("id-5"), "a deletion is not repeated"
        assert ["first", "empty", "later"] == sorted(
            (await _load(destination, "id-3")).cache, key="first empty later".find
        )
        assert "resumed there" in (await _load(destination, "id-4")).cache


@pytest.mark.parametrize("layout", ["native", "serialized"])
async def test_what_is_written_while_it_is_copied(flow_state_settings: FlowStateSettings, layout: str) -> None:
    """It is copied too, by the same run: for a second run the copy would be newer than what was written meanwhile."""
    source = store_of(flow_state_settings, layout=layout)
    destination = store_of(flow_state_settings, collection="moved")
    async with source, destination, store_of(flow_state_settings, layout=layout) as writer:
        await source.save("id", flow(1))
        written: list[str] = []

        async def write() -> None:
            written.append(f"step-{len(written)}")
            await writer.update("id", cache={written[-1]: CacheEntry(value=1)})

        sent = await before_commits(destination, "id", write, times=3)

        assert (1, 0, {}) == astuple(await source.migrate(destination))
        assert (3, 4) == (len(written), len(sent))
        assert exactly(await source.load("id")) == exactly(await destination.load("id"))
        assert (0, 1, {}) == astuple(await source.migrate(destination))


async def test_what_is_deleted_while_it_is_copied(flow_state_settings: FlowStateSettings) -> None:
    """The copy stays: a deletion is not repeated."""
    source, destination = store_of(flow_state_settings), store_of(flow_state_settings, collection="moved")
    async with source, destination, store_of(flow_state_settings) as writer:
        await source.save("id", flow(1))
        sent = await before_commits(destination, "id", lambda: writer.delete("id"), times=1)

        assert (1, 0, {}) == astuple(await source.migrate(destination))
        assert 1 == len(sent)
        assert flow(1).cache == (await _load(destination, "id")).cache


async def test_what_is_written_there_while_it_is_copied_again(flow_state_settings: FlowStateSettings) -> None:
    """It stays, since it was written later than what is in the source."""
    source, destination = store_of(flow_state_settings), store_of(flow_state_settings, collection="moved")
    async with (
        source,
        destination,
        store_of(flow_state_settings) as writer,
        store_of(flow_state_settings, collection="moved") as resumed,
    ):
        await source.save("id", flow(1))

        async def write() -> None:
            if len(sent) == 1:
                await writer.update("id", cache={"in the source": CacheEntry(value=1)})
            else:
                await resumed.update("id", cache={"resumed there": CacheEntry(value=1)})

        sent = await before_commits(destination, "id", write, times=2)

        assert (1, 0, {}) == astuple(await source.migrate(destination))
        assert 2 == len(sent)
        steps = (await _load(destination, "id")).cache
        assert (True, False) == ("resumed there" in steps, "in the source" in steps)


async def test_a_state_that_others_keep_writing_while_it_is_copied(
    flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has failed after so many tries, and the report says so."""
    monkeypatch.setattr(migrating, "_TRIES", 3)
    source, destination = store_of(flow_state_settings), store_of(flow_state_settings, collection="moved")
    async with source, destination, store_of(flow_state_settings) as writer:
        await source.save("id", flow(1))
        sent = await before_commits(
            destination, "id", lambda: writer.update("id", cache={"again": CacheEntry(value=1)}), times=9
        )

        report = await source.migrate(destination)

        assert (0, 0, ["id"]) == (report.migrated, report.unchanged, list(report.failed))
        assert "was written 3 times while it was migrated" in str(report.failed["id"])
        assert 3 == len(sent)


@pytest.mark.parametrize("differs", ["project", "database"])
async def test_to_another_project_or_database(flow_state_settings: FlowStateSettings, differs: str) -> None:
    """If only the project or the database differs, the states are copied too."""
    source = store_of(flow_state_settings, layout="native")
    destination = store_of(flow_state_settings, **{differs: "demo-other"})
    async with source, destination:
        states = {f"id-{i}": flow(i) for i in range(3)}
        await source.save_many(states)

        assert 3 == (await source.migrate(destination)).migrated
        assert states == await destination.load_many(states)
        assert [False, False, False] == await layouts(source)


@pytest.mark.parametrize("there", [{}, {"collection": "moved"}], ids=["in place", "copied"])
@pytest.mark.parametrize("layout", ["native", "serialized"])
async def test_expiry_is_kept(flow_state_settings: FlowStateSettings, layout: str, there: dict[str, str]) -> None:
    """It is that of the source's settings, or of the state alone, whatever the settings of the destination say."""
    other = "serialized" if layout == "native" else "native"
    source = store_of(flow_state_settings, layout=layout, expire_after=timedelta(days=1))
    destination = store_of(flow_state_settings, layout=other, expire_after=timedelta(days=90), **there)
    async with source, destination:
        for id, options in (
            ("usual", {}),
            ("own", {"expire_after": timedelta(days=7)}),
            ("never", {"expire_after": None}),
        ):
            state = flow(1)
            state.operation.done = True
            await source.save(id, state, **options)
        before = {id: state.expire_at for id, state in (await source.load_many(["usual", "own", "never"])).items()}
        assert 3 == (await source.migrate(destination)).migrated
        after = {id: state.expire_at for id, state in (await destination.load_many(before)).items()}

    assert before == after
    assert [False, False, True] == [moment is None for moment in before.values()]


async def test_live(flow_state_settings: FlowStateSettings) -> None:
    """Flows write all the while: no step is lost, and every document ends in the new layout."""
    native, serialized = (store_of(flow_state_settings, layout=layout) for layout in ("native", "serialized"))
    async with native, serialized:
        ids = [f"id-{i}" for i in range(5)]
        await native.save_many({id: flow(i) for i, id in enumerate(ids)})
        stop = asyncio.Event()
        written = dict.fromkeys(ids, 0)

        async def write(id: str, store: FirestoreFlowStateStore) -> None:
            while not stop.is_set() or written[id] < 3:
                await store.update(id, cache={f"step-{written[id]}": CacheEntry(value=written[id])})
                written[id] += 1

        writers = [asyncio.create_task(write(id, (native, serialized)[i % 2])) for i, id in enumerate(ids)]
        report = await native.migrate(serialized)
        stop.set()
        await asyncio.gather(*writers)

        assert {} == report.failed
        assert all(await layouts(native))
        for id in ids:
            steps = (await _load(serialized, id)).cache
            assert written[id] + 2 == len(steps)


async def test_goes_on_after_a_crash(flow_state_settings: FlowStateSettings) -> None:
    """Half a migration is a mixed collection, which every store reads. The next run does the rest."""
    native, serialized = (store_of(flow_state_settings, layout=layout) for layout in ("native", "serialized"))
    async with native, serialized:
        states = {f"id-{i}": flow(i) for i in range(30)}
        await native.save_many(states)

        def crash(done: int) -> None:
            if done == 10:
                raise RuntimeError("crash")

        with pytest.raises(RuntimeError, match="crash"):
            await native.migrate(serialized, progress=crash)
        assert states == await native.load_many(states)
        assert 30 == len((await native.list(FlowStateQuery(limit=300, status="scheduled"))).flow_states)
        report = await native.migrate(serialized)
        assert 30 == report.migrated + report.unchanged
        assert all(await layouts(serialized))


async def test_more_shards(flow_state_settings: FlowStateSettings) -> None:
    """Migrating to itself with more shards spreads what is stored, states in parts too."""
    one, many = store_of(flow_state_settings, compress_over=2**40), store_of(flow_state_settings, shards=8)
    async with one, many:
        states = {f"id-{i}": flow(i) for i in range(40)}
        large = flow(41)
        large.cache["large"] = CacheEntry(value="x" * 2_000_000)
        await one.save_many({**states, "large": large})
        assert 41 == len((await many.list(FlowStateQuery(limit=300))).flow_states)
        report = await one.migrate(many)

        assert 41 == report.migrated + report.unchanged
        assert report.migrated > 25
        assert exactly(large) == exactly(await many.load("large"))
        assert 0 == (await many.gc(dry_run=True)).young


async def test_golden_documents(flow_state_settings: FlowStateSettings) -> None:
    """What Genkit JS wrote, broken documents too, becomes serialized and is what it was."""
    from google.protobuf.json_format import ParseDict

    from firestore_flowstate._rpc.messages import Write

    native, serialized = (store_of(flow_state_settings, layout=layout) for layout in ("native", "serialized"))
    async with native, serialized:
        collection, _ = await native._begin()
        for path in GOLDEN:
            write = Write()
            ParseDict({"fields": json.loads(path.read_text())["document"]["fields"]}, write.update)
            write.update.name = collection.name(path.stem)
            await collection.connection.commit([write], deadline=collection.deadline(), flow_id=None)
        before = await native.load_many(path.stem for path in GOLDEN)
        report = await native.migrate(serialized)

        assert (len(GOLDEN), {}) == (report.migrated, report.failed)
        after = await serialized.load_many(before)
        for id, state in before.items():
            if id != "done-rich":  # it has a date and bytes, and comes back with their JSON form
                assert state == after[id]
        rich = after["done-rich"].cache
        assert ("2023-11-14T22:13:20.123000Z", "aGk=") == (rich["date"].value, rich["bytes"].value)


async def _load(store: FirestoreFlowStateStore, id: str) -> FlowState:
    state = await store.load(id)
    assert state is not None
    return state
