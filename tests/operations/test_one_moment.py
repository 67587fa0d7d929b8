"""A page of several queries is of one moment: no state that moves between them is missed, or shown twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from zlib import crc32

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate._rpc import deadline as deadlines
from firestore_flowstate._rpc import read_time
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.messages import Timestamp
from firestore_flowstate._rpc.read_time import ReadTime
from tests.support.query_log import QueryLog, query_log

__all__ = ["query_log"]  # a fixture

SHARDS = 3  # a first, a last and one in between
ASKED_AT_MOST = 12  # queries of one way to list, of nine states in three shards

Listing = Callable[[FirestoreFlowStateStore, FlowStateQuery], Awaitable[Counter[str]]]


async def by_list(store: FirestoreFlowStateStore, query: FlowStateQuery) -> Counter[str]:
    return Counter(state.flow_id for state in (await store.list(query)).flow_states)


async def by_summaries(store: FirestoreFlowStateStore, query: FlowStateQuery) -> Counter[str]:
    return Counter(summary.id for summary in (await store.list_summaries(query)).summaries)


async def by_iterate(store: FirestoreFlowStateStore, query: FlowStateQuery) -> Counter[str]:
    pages_of_two = FlowStateQuery(status=query.status, limit=2)
    return Counter([state.flow_id async for state in store.iterate(pages_of_two)])


async def by_count(store: FirestoreFlowStateStore, query: FlowStateQuery) -> Counter[str]:
    return Counter(IDS[: await store.count(query)])


async def by_due(store: FirestoreFlowStateStore, query: FlowStateQuery) -> Counter[str]:
    return Counter(summary.id for summary in await store.due())


LISTINGS = {"list": by_list, "summaries": by_summaries, "iterate": by_iterate, "count": by_count, "due": by_due}
IDS = [f"id{number}" for number in range(9)]
MOVING = next(id for id in IDS[4:] if crc32(id.encode()) % SHARDS == SHARDS - 1)


def state(id: str) -> FlowState:
    found = FlowState.start(flow_id=id)
    found.start_time = -IDS.index(id)
    return FlowState.model_validate({**found.model_dump(by_alias=True), "wakeAt": IDS.index(id)})


class Moves:
    """Two stores on one collection, whose settings put a state in different shards or layouts."""

    def __init__(self, here: FirestoreFlowStateStore, there: FirestoreFlowStateStore, query: FlowStateQuery) -> None:
        self.stores = (here, there)
        self.query = query

    async def to(self, side: int) -> None:
        await self.stores[side].save(MOVING, state(MOVING))

    async def begin(self, side: int) -> None:
        await self.stores[0].save_many({id: state(id) for id in IDS})
        await self.to(side)


@pytest.fixture(params=["shards", "layouts"])
async def moves(request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings) -> AsyncIterator[Moves]:
    """A state moves between the shard that is asked last and the first one, or between the layouts."""
    async with AsyncExitStack() as stack:

        async def store(**changes: Any) -> FirestoreFlowStateStore:
            settings = FlowStateSettings(**{**flow_state_settings.model_dump(), **changes})
            return await stack.enter_async_context(FirestoreFlowStateStore(settings))

        if request.param == "shards":
            yield Moves(await store(shards=SHARDS), await store(shards=SHARDS, write_shards=1), FlowStateQuery())
        else:
            yield Moves(await store(), await store(layout="native"), FlowStateQuery(status="scheduled"))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("listing", [*LISTINGS, "iterate, each page of another moment"])
async def test_a_state_that_moves_before_any_query_is_shown_once(
    moves: Moves, query_log: QueryLog, monkeypatch: pytest.MonkeyPatch, listing: str, side: int
) -> None:
    """It may move in either direction, before any of the queries."""
    if listing not in LISTINGS:
        monkeypatch.setattr(ReadTime, "is_old", lambda self: True)
    ids_by = LISTINGS.get(listing, by_iterate)
    await moves.begin(side)
    for place in range(ASKED_AT_MOST):
        asked = 0
        moved: asyncio.Future[None] | None = None

        async def move_before(query: Any, *, place: int = place) -> None:
            nonlocal asked, moved
            asked += 1
            if asked > place:
                moved = moved or asyncio.ensure_future(moves.to(1 - side))
                await moved

        await moves.to(side)
        query_log.before_each = move_before
        found = await ids_by(moves.stores[0], moves.query)
        query_log.before_each = None

        assert Counter(IDS) == found, place


@pytest.mark.parametrize(
    ("moves", "listing"),
    [("shards", by) for by in LISTINGS.values()]
    + [("layouts", by) for name, by in LISTINGS.items() if name != "due"],  # which asks for both layouts by one query
    indirect=["moves"],
)
async def test_the_first_answer_says_when(
    moves: Moves, query_log: QueryLog, monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    """The first query asks alone for what is there now. All others ask as of the server's time of its answer."""

    async def now(*_: object) -> None:
        return None  # what it returns of Firestore itself: only the emulator needs more

    monkeypatch.setattr("firestore_flowstate._collection.collection.settled_time", now)
    await moves.begin(0)
    query_log.clear()
    await listing(moves.stores[0], moves.query)
    first, *others = query_log.read_times

    assert first is None
    assert others, "more than one query"
    assert [query_log.answered_as_of[0]] * len(others) == others


@pytest.mark.parametrize(("seconds", "expected"), [(299, False), (301, True)])
async def test_a_moment_serves_for_five_minutes(monkeypatch: pytest.MonkeyPatch, seconds: int, expected: bool) -> None:
    """Then what was kept of it is dropped, and read again as of a new one."""
    clock = [0.0]
    monkeypatch.setattr(deadlines, "monotonic", lambda: clock[0])

    async def present(_: Deadline) -> None:
        """Ask Firestore itself, which needs no other time."""

    async def ask(_: object) -> tuple[str, Timestamp]:
        return "answer", Timestamp(seconds=1)

    moment = ReadTime(present)
    assert "answer" == await moment.read(ask, Deadline.after(10))
    clock[0] = seconds

    assert expected == moment.is_old()


async def test_a_page_of_one_query_is_of_now(flow_state_store: FirestoreFlowStateStore, query_log: QueryLog) -> None:
    """What moves stays in the list of one query, so each page of it is as new as can be."""
    await flow_state_store.save_many({id: state(id) for id in IDS})
    async for _ in flow_state_store.iterate(FlowStateQuery(limit=2)):
        pass

    assert len(query_log.read_times) > 1
    assert {None} == set(query_log.read_times)


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=list(LISTINGS))
async def test_a_state_that_never_rests_is_always_shown_once(
    moves: Moves, monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    """It is while a writer moves it as fast as it can, on an emulator with time to show what it has stored."""
    monkeypatch.setattr(read_time, "_EMULATOR_SETTLES", 0.1)
    monkeypatch.setattr(read_time, "_EMULATOR_SETTLES_AT_MOST", 2.0)
    await moves.begin(0)
    resting = asyncio.Event()

    async def move() -> None:
        while not resting.is_set():
            await moves.to(1)
            await moves.to(0)

    moving = asyncio.ensure_future(move())
    found = [await listing(moves.stores[0], moves.query) for _ in range(10)]
    resting.set()
    await moving

    assert [Counter(IDS)] * 10 == found


@pytest.mark.parametrize(("took", "allowed"), [(0.01, 0.05), (0.5, 0.25), (9.8, 0.1), (20.0, 0.0)])
async def test_the_wait_for_the_emulator_keeps_to_the_deadline(
    flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch, took: float, allowed: float
) -> None:
    """The wait is longer if a call takes longer, and takes at most half of the time that is left of ten seconds."""
    clock, waits = [0.0], []

    async def slow(self: Connection, name: str, *, deadline: Deadline) -> None:
        clock[0] += took

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    real = Connection(flow_state_settings)
    await real.documents(Deadline.after(10))
    monkeypatch.setattr(read_time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(deadlines, "monotonic", lambda: clock[0])
    monkeypatch.setattr(read_time, "sleep", wait)
    monkeypatch.setattr(Connection, "time_of", slow)
    await read_time.settled_time(real, "any", Deadline(10.0, 10.0))
    await real.close()

    assert len(waits) == 1
    assert 0 <= waits[0] <= allowed + 0.021
