"""What lists cost: how often they ask, what comes over the wire, and what they say of states nobody deletes."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
    FlowStateWarning,
    Operation,
)
from tests.support.query_log import QueryLog, query_log
from tests.support.raw_documents import RawCollection

__all__ = ["query_log"]  # a fixture


@pytest.fixture
async def expiring(flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store whose finished states have expired as soon as they are saved."""
    settings = flow_state_settings.model_copy(update={"expire_after": timedelta(microseconds=1)})
    store = FirestoreFlowStateStore(settings)
    yield store
    await store.close()


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    return RawCollection(flow_state_settings)


def started(id: str, start_time: int, *, done: bool = False) -> FlowState:
    state = FlowState.start(flow_id=id)
    state.start_time = start_time
    state.operation = Operation(name=id, done=done)
    return state


async def save_live_below_expired(store: FirestoreFlowStateStore, *, live: int, expired: int) -> list[str]:
    """Save states that have expired, and older ones that have not. Return the ids of these as they are listed."""
    states = {f"done-{place:04}": started("", 10_000 + place, done=True) for place in range(expired)}
    states |= {f"live-{place:04}": started(f"live-{place:04}", place) for place in range(live)}
    await store.save_many(states)
    return [f"live-{place:04}" for place in reversed(range(live))]


async def test_a_page_reaches_live_states_below_many_expired_ones(
    expiring: FirestoreFlowStateStore, query_log: QueryLog
) -> None:
    """A page asks until it is full, for twice as many each time: round trips do not grow with what expired."""
    ids = await save_live_below_expired(expiring, live=4, expired=1200)
    query_log.clear()
    page = await expiring.list(FlowStateQuery(limit=3))

    assert ids[:3] == [state.flow_id for state in page.flow_states]
    assert page.continuation_token is not None
    assert 18 >= len(query_log.queries)
    assert 1204 >= sum(query_log.documents)


async def test_summaries_reach_them_in_fewer_round_trips(
    expiring: FirestoreFlowStateStore, query_log: QueryLog
) -> None:
    """Summaries throw away heads alone, so they may ask for more at once."""
    ids = await save_live_below_expired(expiring, live=4, expired=1200)
    query_log.clear()
    page = await expiring.list_summaries(FlowStateQuery(limit=4))

    assert ids == [summary.flow_id for summary in page.summaries]
    assert page.continuation_token is None
    assert 11 >= len(query_log.queries)


async def test_a_page_without_expired_states_is_one_query(
    expiring: FirestoreFlowStateStore, query_log: QueryLog
) -> None:
    """It asks for one more than it shows, which tells whether there is another page."""
    await save_live_below_expired(expiring, live=30, expired=0)
    query_log.clear()
    await expiring.list(FlowStateQuery(limit=10))

    assert [11] == query_log.documents


async def test_iterating_reads_one_page_ahead(flow_state_store: FirestoreFlowStateStore, query_log: QueryLog) -> None:
    """While a page is being used the next one is fetched, and no more."""
    await save_live_below_expired(flow_state_store, live=30, expired=0)
    answered = asyncio.Semaphore(0)
    query_log.clear()
    query_log.after_each = answered.release
    walk = flow_state_store.iterate(FlowStateQuery(limit=5))
    await anext(walk)
    for _ in range(2):
        await answered.acquire()
    for _ in range(4):
        await anext(walk)

    assert [6, 5] == query_log.documents

    await anext(walk)
    await answered.acquire()

    assert [6, 5, 5] == query_log.documents
    await walk.aclose()


async def test_iterating_reads_each_state_once(flow_state_store: FirestoreFlowStateStore, query_log: QueryLog) -> None:
    """The state that tells of another page is the first of that page, and is not read again."""
    await save_live_below_expired(flow_state_store, live=30, expired=0)
    query_log.clear()

    assert 30 == len([state async for state in flow_state_store.iterate(FlowStateQuery(limit=5))])
    assert 30 == sum(query_log.documents)


async def test_summaries_read_no_payload(flow_state_store: FirestoreFlowStateStore, query_log: QueryLog) -> None:
    """Less than a kilobyte of each state crosses the wire, whatever is in it."""
    for place in range(5):
        state = started(f"id-{place}", place)
        state.cache = {f"step {step}": CacheEntry(value="x" * 5_000) for step in range(20)}
        await flow_state_store.save(f"id-{place}", state)
    query_log.clear()
    page = await flow_state_store.list_summaries()

    assert [20] * 5 == [summary.step_count for summary in page.summaries]
    assert 5 * 1024 > query_log.received


def expired_at(raw: RawCollection, id: str, moment: datetime) -> None:
    raw.write(id, {**raw.read(id), "expireAt": {"timestampValue": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}})


async def test_warns_once_of_states_that_nobody_deletes(expiring: FirestoreFlowStateStore, raw: RawCollection) -> None:
    """A state that is there 72 hours after its expiry shows that no TTL policy deletes it."""
    await save_live_below_expired(expiring, live=1, expired=2)
    for id in ("done-0000", "done-0001"):
        expired_at(raw, id, datetime.now(timezone.utc) - timedelta(hours=73))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        await expiring.list()
        await expiring.list_summaries()

    assert [(FlowStateWarning, True)] == [(one.category, "no TTL policy" in str(one.message)) for one in seen]


async def test_says_nothing_of_states_that_have_just_expired(
    expiring: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """Firestore takes a day or more to delete what has expired."""
    await save_live_below_expired(expiring, live=1, expired=1)
    expired_at(raw, "done-0000", datetime.now(timezone.utc) - timedelta(hours=71))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        await expiring.list()

    assert [] == seen
