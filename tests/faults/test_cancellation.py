"""A cancelled call leaves the old state or the new one, whole, a store that goes on working, and nothing running."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest

from firestore_flowstate import (
    CacheEntry,
    DeadlineError,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
    StoreUnavailableError,
)
from tests.faults.cancelling import (
    CANCELLED,
    background,
    cancelled_after_chunks,
    cancelled_after_turns,
    chunks,
    nothing_left,
    ours,
    turns,
)
from tests.faults.writes import MARK, SAVE, UPDATE, WRITES, Store, Write, a_state, incompressible, outcome_of
from tests.rpc.tcp_proxy import TcpProxy

SMALL: Final = 1  # a value that stays in the root document
LARGE: Final = incompressible(1_100_000)  # into parts, in many commits if a request has 256 KiB
LARGE_BEFORE: Final = incompressible(500_000)
MANY_REQUESTS: Final = {"max_request_bytes": 256 * 1024, "compress_over": 2**40}


@pytest.fixture(params=["bound", "background"])
async def store(
    request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings, proxy: TcpProxy
) -> AsyncIterator[Store]:
    """A store through the proxy that has called before: on the loop of the test, and on one in the background."""
    store = Store(flow_state_settings.model_copy(update={"emulator_host": proxy.host, **MANY_REQUESTS}))
    if request.param == "bound":
        await store.__aenter__()
    await store.load("any")
    assert (background(store) is None) == (request.param == "bound")
    yield store
    await store.close()


class Cancelled:
    """A write that is cancelled once for each point, each time about a state of its own."""

    def __init__(self, direct: Store, store: Store, write: Write, value: Any) -> None:
        self._direct = direct
        self._store = store
        self._write = write
        self._value = value
        self.outcomes: set[str] = set()

    async def once(self, id: str, cancel: Callable[[Awaitable[str]], Awaitable[str]]) -> None:
        """Prepare a state, write to it, cancel that, and look at what is there then."""
        read = a_state(id)
        if self._value is LARGE:
            read.cache["large before"] = CacheEntry(value=LARGE_BEFORE)
        if self._write.creates:
            old: FlowState | None = None
        else:
            await self._direct.save(id, read)
            old = read
        new = None if self._write.deletes else _with_mark(read, self._value)

        async def write() -> str:
            return await outcome_of(self._write.run(self._store, id, read, self._value))

        outcome = await cancel(write())
        found = await self._store.load(id)

        assert outcome in (CANCELLED, "stored")
        assert found in ([new] if outcome == "stored" else [old, new])
        self.outcomes.add(outcome)


def _with_mark(read: FlowState, value: Any) -> FlowState:
    new = read.model_copy(deep=True)
    new.cache[MARK] = CacheEntry(value=value)
    return new


@pytest.mark.parametrize("write", WRITES, ids=str)
async def test_a_small_write(direct: Store, store: Store, proxy: TcpProxy, write: Write) -> None:
    """It is cancelled after any number of turns of the loop, or with any chunk on the wire, and leaves nothing half."""
    cancelled = Cancelled(direct, store, write, SMALL)
    async with nothing_left(store):
        for count in turns():
            await cancelled.once(f"turns {count}", lambda call, count=count: cancelled_after_turns(call, count))
        await _at_every_chunk(proxy, cancelled)
        assert {CANCELLED, "stored"} == cancelled.outcomes
    await store.save("again", a_state("again"))


@pytest.mark.parametrize(
    ("store", "write"),
    [*(("bound", write) for write in WRITES), ("background", SAVE), ("background", UPDATE)],
    indirect=["store"],
    ids=str,
)
async def test_a_write_in_parts(direct: Store, store: Store, proxy: TcpProxy, write: Write) -> None:
    """A state that goes in many requests is there whole or not at all, whichever of them was the last."""
    cancelled = Cancelled(direct, store, write, LARGE)
    async with nothing_left(store):
        await _at_every_chunk(proxy, cancelled)
        assert {CANCELLED, "stored"} == cancelled.outcomes
    await store.save("again", a_state("again"))


async def _load(store: Store) -> object:
    return (await store.load("large")) is not None


async def _iterate(store: Store) -> list[str]:
    return [state.flow_id async for state in store.iterate(FlowStateQuery(limit=2))]


READS: Final[dict[str, Callable[[Store], Awaitable[object]]]] = {
    "load": _load,
    "load_many": lambda store: store.load_many(["large", "small-1", "missing"]),
    "list": lambda store: store.list(),
    "list by status": lambda store: store.list(FlowStateQuery(status="scheduled")),
    "list_summaries": lambda store: store.list_summaries(),
    "count": lambda store: store.count(),
    "iterate": _iterate,
    "gc": lambda store: store.gc(dry_run=True),
    "purge": lambda store: store.purge(older_than=timedelta(0), dry_run=True),
    "migrate": lambda store: store.migrate(store, dry_run=True),
    "rewrap": lambda store: store.rewrap(),
    "ping": lambda store: store.ping(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_read(direct: Store, store: Store, proxy: TcpProxy, read: Callable[[Store], Awaitable[object]]) -> None:
    """Cancelled with any chunk on the wire, a read ends, and the next one answers as if nothing had been."""
    large = a_state("large")
    large.cache["large"] = CacheEntry(value=LARGE)
    await direct.save("large", large)
    await direct.save_many({f"small-{number}": a_state(f"small-{number}") for number in range(5)})
    await read(store)  # after which a rewrap has nothing to do: this store compresses nothing, and the other one does
    expected = await read(store)

    async def call() -> str:
        assert expected == await read(store)
        return "read"

    async with nothing_left(store):
        for count in turns():
            await cancelled_after_turns(call(), count)
        reached, outcomes = True, set()
        for count in chunks():
            outcome, reached = await cancelled_after_chunks(proxy, call(), count)
            outcomes.add(outcome)
            if not reached:
                break
        assert {CANCELLED, "read"} == outcomes
    assert expected == await read(store)


@pytest.mark.parametrize("store", ["bound"], indirect=True)
async def test_a_stream_whose_request_has_just_gone(store: Store) -> None:
    """A stream is given up, also if it is cancelled in the turn of the loop in which grpc itself does not notice."""
    channel = store._connection._links[os.getpid()]._bound[asyncio.get_running_loop()]
    calls: list[Any] = []
    for name, query in channel._streamed.items():

        def record(*args: Any, query: Any = query, **options: Any) -> Any:
            calls.append(query(*args, **options))
            return calls[-1]

        channel._streamed[name] = record

    listing = asyncio.ensure_future(store.list())
    while not (calls and calls[-1]._preparation.done()):  # noqa: ASYNC110  # the very turn counts
        await asyncio.sleep(0)
    listing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listing

    assert [True] == [call.cancelled() for call in calls]


async def _at_every_chunk(proxy: TcpProxy, cancelled: Cancelled) -> None:
    for count in chunks():
        reached = False

        async def cancel(call: Awaitable[str], count: int = count) -> str:
            nonlocal reached
            outcome, reached = await cancelled_after_chunks(proxy, call, count)
            return outcome

        await cancelled.once(f"chunk {count}", cancel)
        if not reached:
            return


async def test_iterating_ends_where_it_is_left(store: Store, direct: Store) -> None:
    """The page that is being read ahead is given up with the iteration, however that ends."""
    await direct.save_many({f"{number}": a_state(f"{number}") for number in range(9)})
    query = FlowStateQuery(limit=2)
    async with nothing_left(store):
        states = store.iterate(query)
        await anext(states)
        await states.aclose()  # type: ignore[attr-defined]  # an iteration
        assert [] == ours()
    async with nothing_left(store):
        async for _ in store.iterate(query):
            break
    async with nothing_left(store):
        with suppress(ZeroDivisionError):
            async for _ in store.iterate(query):
                raise ZeroDivisionError


@pytest.mark.parametrize("count", range(8))
async def test_iterating_ends_after_a_step_that_was_given_up(store: Store, direct: Store, count: int) -> None:
    """The page that the step waited for is kept for the next step, and given up with the iteration."""
    await direct.save_many({f"{number}": a_state(f"{number}") for number in range(3)})

    async def given_up() -> Any:
        states: Any = store.iterate(FlowStateQuery(limit=2))
        step = asyncio.ensure_future(_first(states))
        for _ in range(count):
            await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        return states

    async with nothing_left(store):
        states = await given_up()
        await states.aclose()
        assert [] == ours()
        assert [] == [state async for state in states]
    async with nothing_left(store):
        await given_up()


async def test_iterating_is_for_one_task_at_a_time(store: Store, direct: Store) -> None:
    """While one waits for a page, a second step is refused, and so is an end, which would take the page away."""
    await direct.save("id", a_state("id"))
    states: Any = store.iterate()
    async with nothing_left(store):
        first = asyncio.ensure_future(_first(states))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"call iterate\(\) for each task"):
            await anext(states)
        with pytest.raises(RuntimeError, match="before you close"):
            await states.aclose()
        assert "id" == (await first).flow_id


async def _first(states: AsyncIterator[FlowState]) -> FlowState:
    return await anext(states)


async def test_an_edit_that_is_cancelled_in_its_block(store: Store) -> None:
    """Nothing is written of it."""
    read = a_state("id")
    await store.save("id", read)
    entered = asyncio.Event()

    async def edit() -> None:
        async with store.edit("id") as state:
            state.cache[MARK] = CacheEntry(value=1)
            entered.set()
            await asyncio.Event().wait()

    async with nothing_left(store):
        editing = asyncio.ensure_future(edit())
        await entered.wait()
        editing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await editing
    assert read.version == (await _loaded(store)).version


async def test_those_who_wait_for_their_turn(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that is cancelled while it writes or waits lets the next one go on, and its change is not stored."""
    monkeypatch.setattr("firestore_flowstate._collection.local_lock._PATIENCE", 60.0)
    await store.save("id", a_state("id"))
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(state: FlowState) -> None:
        entered.set()
        await go_on.wait()

    def step(number: int) -> Callable[[FlowState], None]:
        return lambda state: state.cache.update({str(number): CacheEntry(value=number)})

    async with nothing_left(store):
        first = asyncio.ensure_future(store.modify("id", slowly))
        await entered.wait()
        others = [asyncio.ensure_future(store.modify("id", step(number))) for number in range(6)]
        await asyncio.sleep(0)
        for cancelled in (first, others[0], others[3]):
            cancelled.cancel()
        began = time.monotonic()
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert time.monotonic() - began < 30  # of the patience of those who wait
    assert [True, True, False, False, True, False, False] == [isinstance(r, asyncio.CancelledError) for r in results]
    assert {"before", "1", "2", "4", "5"} == set((await _loaded(store)).cache)


@pytest.mark.parametrize("write", [SAVE, UPDATE], ids=str)
async def test_a_timeout_around_a_call(store: Store, proxy: TcpProxy, direct: Store, write: Write) -> None:
    """Timeouts of asyncio end a call at once, whatever time it has itself, and raise an error of theirs."""
    read = a_state("id")
    await direct.save("id", read)
    proxy.hold()
    async with nothing_left(store):
        for timeout in _timeouts():
            began = time.monotonic()
            with pytest.raises(asyncio.TimeoutError) as error:
                await timeout(write.run(store, "id", read, 1))
            assert time.monotonic() - began < 5.0  # of the timeout of 30 s
            assert not isinstance(error.value, StoreUnavailableError)
            with pytest.raises(DeadlineError):
                await timeout(store.load("id", timeout=0.01))
        proxy.let_pass()
    assert (await _loaded(store)).cache.keys() <= {"before", MARK}
    await write.run(store, "id", await _loaded(store), 2)
    assert 2 == (await _loaded(store)).cache[MARK].value


def _timeouts() -> list[Callable[[Awaitable[object]], Awaitable[object]]]:
    """Return the ways in which asyncio gives a call a tenth of a second."""

    async def wait_for(call: Awaitable[object]) -> object:
        return await asyncio.wait_for(call, 0.1)

    async def timeout(call: Awaitable[object]) -> object:
        async with asyncio.timeout(0.1):  # type: ignore[attr-defined,unused-ignore]  # new in Python 3.11
            return await call

    return [wait_for, timeout] if sys.version_info >= (3, 11) else [wait_for]


@pytest.mark.parametrize("count", list(turns()))
async def test_the_first_call_of_a_store(flow_state_settings: FlowStateSettings, count: int) -> None:
    """A call that is cancelled while it connects leaves the connection to the next call."""
    store = Store(flow_state_settings)

    async def load() -> str:
        await store.load("id")
        return "loaded"

    assert await cancelled_after_turns(load(), count) in (CANCELLED, "loaded")
    async with nothing_left():
        assert await store.load("id") is None
        await store.close()


async def _loaded(store: Store) -> FlowState:
    state = await store.load("id")
    assert state is not None
    return state
