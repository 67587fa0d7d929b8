"""What Firestore bills as reads: each document that it returns, and one for a query that returns none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
    FlowStatus,
    Operation,
)
from firestore_flowstate._operations.reading import read_base
from firestore_flowstate._operations.streams import streams
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from firestore_flowstate.testing.conformance.waking import waking
from tests.support.meter import Bill, Meter, meter
from tests.support.query_log import QueryLog, Rounds, query_log
from tests.support.raw_documents import RawCollection

__all__ = ["meter", "query_log"]  # fixtures

STATES = 230  # so that a walk takes several pages, and the last one is not full
INDEXES = 6  # of which doctor asks a query each, for one document


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    return RawCollection(flow_state_settings)


@pytest.fixture(params=[1, 16, 100])
async def store(
    request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings, meter: Meter
) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store over so many shards, with states in them."""
    settings = flow_state_settings.model_copy(update={"shards": request.param, "emulator_host": meter.host})
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({f"id-{place:03}": started(place) for place in range(STATES)})
        yield store


def started(place: int) -> FlowState:
    state = FlowState.start(flow_id=f"id-{place:03}")
    state.start_time = place
    return state


async def export(store: FirestoreFlowStateStore) -> int:
    return len([line async for line in export_states(store)])


async def iterate(store: FirestoreFlowStateStore) -> int:
    return len([state async for state in store.iterate(FlowStateQuery(limit=20))])


async def export_by(store: FirestoreFlowStateStore, query: FlowStateQuery) -> int:
    return len([line async for line in export_states(store, query)])


async def iterate_by(store: FirestoreFlowStateStore, query: FlowStateQuery) -> int:
    return len([state async for state in store.iterate(query)])


async def doctor(store: FirestoreFlowStateStore) -> int:
    return STATES + len([finding async for finding in examine(store)])


async def migrate(store: FirestoreFlowStateStore) -> int:
    return (await store.migrate(store)).unchanged


async def rewrap(store: FirestoreFlowStateStore) -> int:
    await store.rewrap()
    return STATES


async def purge_dry_run(store: FirestoreFlowStateStore) -> int:
    return await store.purge(older_than=timedelta(0), dry_run=True)


async def purge(store: FirestoreFlowStateStore) -> int:
    return await store.purge(older_than=timedelta(0))


@pytest.mark.parametrize("work", [export, iterate, doctor, migrate, rewrap, purge_dry_run, purge])
async def test_a_walk_over_all_states_reads_each_document_once(
    store: FirestoreFlowStateStore, meter: Meter, work: Callable[[FirestoreFlowStateStore], Awaitable[int]]
) -> None:
    """So it does over any number of shards. Each may have to be asked once more to tell that nothing is left."""
    meter.take()

    assert STATES == await work(store)

    shards = store.settings.shards if work in (export, iterate, purge_dry_run, purge) else 0
    over_one = {doctor: INDEXES}.get(work, 0)
    more = meter.take().reads - STATES
    assert more == over_one if store.settings.shards == 1 else 0 <= more <= shards + over_one


@pytest.mark.parametrize(("shards", "limit", "reads"), [(100, 1, 100), (16, 1, 16), (1, 1, 2), (1, 10, 11)])
async def test_a_page_reads_the_least_that_it_can(
    flow_state_settings: FlowStateSettings, meter: Meter, shards: int, limit: int, reads: int
) -> None:
    """It reads one state of each shard, since each must be asked. Over one shard it reads one more than it shows."""
    settings = flow_state_settings.model_copy(update={"shards": shards, "emulator_host": meter.host})
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({f"id-{place:03}": started(place) for place in range(STATES)})
        meter.take()
        page = await store.list(FlowStateQuery(limit=limit))

    assert [STATES - 1 - place for place in range(limit)] == [state.start_time for state in page.flow_states]
    assert page.continuation_token is not None
    assert Bill(reads=reads) == meter.take()


async def test_an_export_reads_each_part_once(
    flow_state_settings: FlowStateSettings, raw: RawCollection, meter: Meter
) -> None:
    """It reads each part once, and its root once."""
    large = started(0)
    large.cache = {f"step {step}": CacheEntry(value="x" * 900_000) for step in range(3)}
    settings = flow_state_settings.model_copy(update={"compress_over": 10**7, "emulator_host": meter.host})
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({"large": large, "small": started(1)})
        parts = int(raw.read("large")["_flowstate"]["mapValue"]["fields"]["parts"]["integerValue"])
        meter.take()

        assert 2 == await export(store)
        assert parts >= 3
        assert Bill(reads=2 + parts) == meter.take()


async def test_native_documents_by_status_are_billed_once(flow_state_settings: FlowStateSettings, meter: Meter) -> None:
    """They are read whole while all that are found have the status, and one read tells that no others have it.

    After one of another status a list asks for twice as many, and for no more of them than tells the status.
    """
    settings = flow_state_settings.model_copy(update={"layout": "native", "emulator_host": meter.host})
    scheduled = FlowStateQuery(status="scheduled", limit=20)
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({f"id-{place:03}": started(place) for place in range(STATES)})
        meter.take()
        bills = []
        for walk in (
            iterate_by(store, scheduled),
            export_by(store, scheduled),
            store.list(scheduled),
            store.list_summaries(scheduled),
        ):
            await walk
            bills.append(meter.take().reads)
        await store.update("id-220", blocked_on_step=BlockedOnStep(name="wait"))
        meter.take()
        for call in (store.list, store.list_summaries):
            await call(scheduled)
            bills.append(meter.take().reads)

    serialized = 1  # that there are none
    assert [STATES + serialized, STATES + serialized, 21 + serialized, 21 + serialized] == bills[:4]
    # The first 21 were read whole, with the one that waits among them; then twice as many, in one round trip.
    assert [21 + 42 + serialized] * 2 == bills[4:]


LAYOUTS = ["serialized", "native"]


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_count_by_status_is_billed_each_native_document(
    flow_state_settings: FlowStateSettings, meter: Meter, layout: str
) -> None:
    """It is two counts, and reads native documents: those that are done, or those that are not, or all if `failed`."""
    settings = flow_state_settings.model_copy(update={"layout": layout, "emulator_host": meter.host})
    statuses: list[FlowStatus] = ["scheduled", "running", "blocked", "done", "failed"]
    counts, bills = [], []
    async with FirestoreFlowStateStore(settings) as store:
        states = {f"id-{place:02}": started(place) for place in range(30)}
        for place in range(5):
            states[f"id-{place:02}"].operation = Operation(name="", done=True)
        await store.save_many(states)
        for status in statuses:
            meter.take()
            counts.append(await store.count(FlowStateQuery(status=status)))
            bills.append(meter.take().reads)

    assert [25, 0, 0, 5, 0] == counts
    native = [25, 25, 25, 5, 30] if layout == "native" else [1] * 5  # a query that finds nothing is one read
    assert [2 + reads for reads in native] == bills


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_conflict_is_billed_reads_alone(
    flow_state_settings: FlowStateSettings, meter: Meter, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """`modify` goes on from what its first conflict has read. After a later one, and in `update`, it is read again."""
    left = 0
    bills: list[Bill] = []

    async def be_first() -> None:
        nonlocal left
        if left:
            left -= 1
            write = other.update("id", extra={"before": len(bills), "left": left})
            await Context().run(asyncio.ensure_future, write)  # as if another process wrote: `modify` forbids its own

    async def change(state: FlowState) -> None:
        await be_first()
        state.cache["step"] = CacheEntry(value=len(bills))

    async def read_then_lose(*arguments: Any) -> Any:
        found = await read_base(*arguments)
        if arguments[0] is store._collection:
            await be_first()
        return found

    monkeypatch.setattr("firestore_flowstate._operations.updating.read_base", read_then_lose)
    settings = flow_state_settings.model_copy(update={"layout": layout})
    metered = settings.model_copy(update={"emulator_host": meter.host})
    async with FirestoreFlowStateStore(settings) as other, FirestoreFlowStateStore(metered) as store:
        await store.save("id", started(0))
        for call in (
            lambda: store.modify("id", change),
            lambda: store.update("id", cache={"step": CacheEntry(value=2)}),
        ):
            for conflicts in (0, 1, 2, 3):
                left = conflicts
                meter.take()
                await call()
                bills.append(meter.take())

    assert [Bill(reads=reads, writes=1) for reads in (1, 2, 4, 6)] == bills[:4]
    assert [Bill(reads=reads, writes=1) for reads in (1, 3, 5, 7)] == bills[4:]


async def test_whole_documents_are_read_by_the_hundred_after_parts_of_more(
    flow_state_settings: FlowStateSettings,
) -> None:
    """After one of another status parts of 202 are asked for, which all have it, and then whole ones again."""
    settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({f"id-{place:03}": started(place) for place in range(2 * STATES)})
        await store.update("id-450", blocked_on_step=BlockedOnStep(name="wait"))
        collection = store._collection
        assert collection is not None
        query = FlowStateQuery(status="scheduled")
        _, native = streams(collection, query, after=None, fields=None, deadline=collection.deadline(None))
        fetched = []
        for count in (101, 1):
            await native.fill(count)
            fetched.append([native.pop().partial for _ in range(len(native.ready))])

    assert [[False] * 100 + [True] * 202, [False] * 100] == fetched


DUE_FORMS: dict[str, dict[str, Any]] = {
    "serialized": {},
    "native": {"layout": "native"},
    "encrypted": {"keys": {"k": "A" * 43 + "="}},
    "sharded": {"shards": 3},
}


@pytest.mark.parametrize("form", DUE_FORMS.values(), ids=DUE_FORMS)
async def test_due_is_billed_what_it_returns(
    flow_state_settings: FlowStateSettings, meter: Meter, form: dict[str, Any]
) -> None:
    """A shard that has none is one read. Over shards it may also read some states that come next."""
    values = {**flow_state_settings.model_dump(), **form, "emulator_host": meter.host}
    async with FirestoreFlowStateStore(FlowStateSettings(**values)) as store:
        shards = store.settings.shards
        await store.save_many({f"id-{place:03}": waking(place // 4, f"id-{place:03}") for place in range(STATES)})
        await store.save_many({f"never-{place}": started(place) for place in range(5)})
        bills: list[int] = []
        found: list[list[str]] = []
        for before, limit in ((-1, 100), (0, 100), (10, 300), (10, 5)):
            meter.take()
            found.append([summary.id for summary in await store.due(before, limit=limit)])
            bills.append(meter.take().reads)
        after = (await store.due(10, limit=6))[-1]  # this one is in the middle of a tie
        meter.take()
        behind = [summary.id for summary in await store.due(2, after=after)]
        bills.append(meter.take().reads)

    ids = [f"id-{place:03}" for place in range(44)]
    assert [[], ids[:4], ids, ids[:5]] == found
    assert ids[6:12] == behind
    # Of five among more, each of three shards is asked for the five that it may have.
    assert bills == ([1, 4, 44, 5, 6] if shards == 1 else [3, 4, 44, 15, 6])


@pytest.mark.parametrize(
    ("shards", "limit", "expected"),
    [(1, 100, 1), (3, 100, 2), (16, 100, 2), (100, 100, 3), (100, 20, 3)],
)
async def test_due_over_shards_takes_few_rounds(
    flow_state_settings: FlowStateSettings, query_log: QueryLog, shards: int, limit: int, expected: int
) -> None:
    """The first query goes alone, the others together, and so do those of shards that will run dry too early.

    Over shards, to hear that nothing is due takes the two rounds that it takes to ask each of them.
    """
    settings = flow_state_settings.model_copy(update={"shards": shards})
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({f"id-{place:03}": waking(place, f"id-{place:03}") for place in range(STATES)})
        rounds = Rounds(query_log)
        found = [summary.id for summary in await store.due(STATES, limit=limit)]
        looks = Rounds(query_log)
        nothing = await store.due(-1)

    assert [f"id-{place:03}" for place in range(limit)] == found
    assert expected == rounds.count
    assert ([], min(shards, 2)) == (nothing, looks.count)
