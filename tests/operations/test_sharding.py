"""A store over several shards keeps both contracts, and the number of shards can be raised under it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from pydantic import ValidationError

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate.testing import (
    ExpiringFlowStateStoreTests,
    FlowStateStoreMachine,
    VersionedFlowStateStoreTests,
)
from tests.support.query_log import QueryLog, Rounds, query_log
from tests.support.raw_documents import RawCollection

__all__ = ["query_log"]  # a fixture

IDS = [f"flow-{place:02}" for place in range(40)]

Store = Callable[..., FirestoreFlowStateStore]


def sharded(base: FlowStateSettings, **changes: Any) -> FlowStateSettings:
    return FlowStateSettings(**{**base.model_dump(), **changes})


@pytest.fixture
async def store_with(flow_state_settings: FlowStateSettings) -> AsyncIterator[Store]:
    """Opens stores on one collection with settings that differ."""
    async with AsyncExitStack() as stack:

        def open_store(**changes: Any) -> FirestoreFlowStateStore:
            store = FirestoreFlowStateStore(sharded(flow_state_settings, **changes))
            stack.push_async_callback(store.close)
            return store

        yield open_store


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    return RawCollection(flow_state_settings)


def states(ids: list[str]) -> dict[str, FlowState]:
    """Return a state for each id, four of them with each start."""
    found = {}
    for place, id in enumerate(ids):
        found[id] = FlowState.start(flow_id=id)
        found[id].start_time = 1000 + place // 4
    return found


async def listed(store: FirestoreFlowStateStore, *, limit: int = 7) -> list[str]:
    """Return the ids of all pages."""
    ids, query = [], FlowStateQuery(limit=limit)
    while True:
        page = await store.list(query)
        ids += [state.flow_id for state in page.flow_states]
        if page.continuation_token is None:
            return ids
        query = FlowStateQuery(limit=limit, continuation_token=page.continuation_token)


def shard_in(raw: RawCollection, id: str) -> int:
    return int(raw.read(id)["shard"]["integerValue"])


class TestShardedFlowStateStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self, store_with: Store) -> FirestoreFlowStateStore:
        return store_with(shards=8)


class TestExpiringShardedFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    def store_expiring_after(self, store_with: Store) -> Callable[[timedelta], FirestoreFlowStateStore]:
        return lambda expire_after: store_with(shards=8, expire_after=expire_after)


def test_agrees_with_a_dict(flow_state_settings: FlowStateSettings) -> None:
    """Whatever sequence of operations leads there, the shards together hold what a dict would."""
    store = FirestoreFlowStateStore(sharded(flow_state_settings, shards=8))
    machine = settings(max_examples=5, stateful_step_count=15, deadline=None)
    run_state_machine_as_test(lambda: FlowStateStoreMachine(store), settings=machine)
    asyncio.run(store.close())


@pytest.mark.parametrize("before", [1, 4])
async def test_more_shards_still_find_what_fewer_have_written(
    store_with: Store, raw: RawCollection, before: int
) -> None:
    """Shards 0 to n - 1 are among those that are asked then. Nothing needs to be written again."""
    old, new = store_with(shards=before), store_with(shards=8)
    await old.save_many(states(IDS))

    assert IDS[::-1] == await listed(new)
    assert IDS[::-1] == [state.flow_id async for state in new.iterate()]
    assert 40 == await new.count()
    assert {crc32(id.encode()) % before for id in IDS} == {shard_in(raw, id) for id in IDS}


async def test_tokens_outlive_a_change_of_shards(store_with: Store) -> None:
    """The order is the same whatever the shards, so a walk begun with 4 goes on with 8, and with none."""
    walk = [store_with(shards=4), store_with(shards=8), store_with(shards=1)]
    await walk[0].save_many(states(IDS))
    found, token = [], None
    for store in walk:
        page = await store.list(FlowStateQuery(limit=11, continuation_token=token))
        found += [state.flow_id for state in page.flow_states]
        token = page.continuation_token

    assert IDS[:6:-1] == found


async def test_a_state_saved_again_moves_to_its_new_shard(store_with: Store, raw: RawCollection) -> None:
    """It is listed once, from there."""
    old, new = store_with(shards=4), store_with(shards=8)
    await old.save_many(states(IDS))
    await new.save_many(states(IDS))

    assert {id: crc32(id.encode()) % 8 for id in IDS} == {id: shard_in(raw, id) for id in IDS}
    assert IDS[::-1] == await listed(new)


async def test_an_update_leaves_a_state_in_its_shard(store_with: Store, raw: RawCollection) -> None:
    """A partial write names what it writes, which the shard is not."""
    old, new = store_with(shards=4), store_with(shards=8)
    [id] = [id for id in IDS if crc32(id.encode()) % 8 >= 4][:1]
    await old.save(id, states([id])[id])
    await new.update(id, trace_context="trace")

    assert crc32(id.encode()) % 4 == shard_in(raw, id)
    assert [id] == await listed(new)


async def test_writers_follow_readers(store_with: Store, raw: RawCollection) -> None:
    """A store with write_shards asks the new shards before it writes to them, so stores of both kinds agree."""
    old, between, new = store_with(shards=4), store_with(shards=8, write_shards=4), store_with(shards=8)
    every = states(IDS)
    await between.save_many({id: every[id] for id in IDS[:20]})

    assert IDS[19::-1] == await listed(old)
    assert {0, 1, 2, 3} == {shard_in(raw, id) for id in IDS[:20]}

    await new.save_many({id: every[id] for id in IDS[20:]})

    assert IDS[::-1] == await listed(between)


async def test_migrate_moves_states_to_the_shards_that_writers_use(store_with: Store) -> None:
    """The number of shards can be lowered by that: write to fewer, migrate, then ask fewer."""
    many, fewer, few = store_with(shards=8), store_with(shards=8, write_shards=2), store_with(shards=2)
    await many.save_many(states(IDS))

    assert 40 > len(await listed(few))

    await fewer.migrate(fewer)

    assert IDS[::-1] == await listed(few)


async def test_native_states_come_into_sight_by_migration(store_with: Store) -> None:
    """They carry no shard: a list over shards cannot find them, load does."""
    native, store = store_with(layout="native"), store_with(shards=8)
    await native.save_many(states(IDS[:5]))

    assert [] == await listed(store)
    assert await store.load(IDS[0]) is not None

    await store.migrate(store)

    assert IDS[4::-1] == await listed(store)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"shards": 8, "layout": "native"}, "Migrate them first"),
        ({"shards": 4, "write_shards": 8}, "lists ask only the 4"),
        ({"write_shards": 2}, "lists ask only the 1"),
        ({"shards": 4, "write_shards": 0}, "greater than or equal to 1"),
        ({"shards": 501}, "less than or equal to 500"),
    ],
)
def test_refuses_settings_that_would_lose_states(wrong: dict[str, Any], says: str) -> None:
    """Whatever is written must be in a shard that lists ask."""
    with pytest.raises(ValidationError, match=says):
        FlowStateSettings(**wrong)


async def test_a_page_reads_not_much_more_than_it_shows(store_with: Store, query_log: QueryLog) -> None:
    """Each of the shards is asked for its share, not for a page."""
    store = store_with(shards=8)
    await store.save_many(states([f"flow-{place:03}" for place in range(200)]))
    query_log.clear()
    await store.list(FlowStateQuery(limit=40))

    assert 41 <= sum(query_log.documents) <= 120 < 8 * 41
    assert 8 <= len(query_log.queries) <= 16


async def test_a_page_over_many_shards_waits_a_few_times(store_with: Store, query_log: QueryLog) -> None:
    """Shards that run dry before the page is full are asked again together, not one after the other."""
    store = store_with(shards=100)
    await store.save_many(states([f"flow-{place:03}" for place in range(200)]))
    rounds = Rounds(query_log)
    page = await store.list(FlowStateQuery(limit=40))

    assert [f"flow-{place:03}" for place in range(199, 159, -1)] == [state.flow_id for state in page.flow_states]
    assert rounds.count <= 5


async def test_iterating_reads_each_state_once(store_with: Store, query_log: QueryLog) -> None:
    """What was fetched for one page and not shown is kept for the next."""
    store = store_with(shards=8)
    await store.save_many(states(IDS))
    query_log.clear()
    found = [state.flow_id async for state in store.iterate(FlowStateQuery(limit=5))]

    assert IDS[::-1] == found
    assert 40 == sum(query_log.documents)


async def test_a_state_that_moves_between_two_queries_is_listed_once(store_with: Store, query_log: QueryLog) -> None:
    """A page asks its shards one by one, and a state may be saved with another number of shards meanwhile."""
    old, new = store_with(shards=4), store_with(shards=8)
    [id] = [id for id in IDS if crc32(id.encode()) % 8 >= 4][:1]
    state = states(IDS)[id]
    await old.save_many(states(IDS))
    others_answered, moved = asyncio.Event(), asyncio.Event()

    async def hold_back_the_new_shard(query: Any) -> None:
        asked = [f.field_filter for f in query.where.composite_filter.filters]
        [shard] = [f.value.integer_value for f in asked if f.field.field_path == "shard"]
        if shard == crc32(id.encode()) % 8:
            await moved.wait()

    def note() -> None:
        if len(query_log.documents) == 7:
            others_answered.set()

    async def save() -> None:
        await others_answered.wait()
        await new.save(id, state)
        moved.set()

    query_log.clear()
    query_log.before_each = hold_back_the_new_shard
    query_log.after_each = note
    page, _ = await asyncio.gather(new.list(FlowStateQuery(limit=300)), save())

    assert IDS[::-1] == [state.flow_id for state in page.flow_states]
