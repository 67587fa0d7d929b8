"""The in-memory store keeps both contracts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from firestore_flowstate import (
    CacheEntry,
    FlowState,
    FlowStateEncodeError,
    FlowStateExistsError,
    FlowStateSettings,
    MemoryFlowStateStore,
    StoreUnavailableError,
)
from firestore_flowstate._signals import Signal
from firestore_flowstate.testing import (
    ExpiringFlowStateStoreTests,
    FlowStateStoreMachine,
    VersionedFlowStateStoreTests,
)
from firestore_flowstate.testing.conformance.states import started, with_steps

PATIENCE: Final = 10.0  # seconds


class TestMemoryFlowStateStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self) -> MemoryFlowStateStore:
        return MemoryFlowStateStore()


class TestExpiringMemoryFlowStateStore(ExpiringFlowStateStoreTests):
    @pytest.fixture
    def store_expiring_after(self) -> Callable[[timedelta], MemoryFlowStateStore]:
        return lambda expire_after: MemoryFlowStateStore(FlowStateSettings(expire_after=expire_after))


def test_agrees_with_a_dict() -> None:
    """Whatever sequence of operations leads there, the store holds what a dict would."""
    machine = settings(max_examples=20, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(lambda: FlowStateStoreMachine(MemoryFlowStateStore()), settings=machine)


async def _add(store: MemoryFlowStateStore, step: str) -> None:
    def add(state: FlowState) -> None:
        state.cache["counter"].value += 1
        state.cache[step] = CacheEntry(value=step)

    await store.modify("id", add)


def test_threads_with_loops_of_their_own_lose_nothing() -> None:
    """One store serves 8 threads, each with its own event loop, that all modify one state."""
    store = MemoryFlowStateStore()
    asyncio.run(store.save("id", with_steps("counter")))

    def work(thread: int) -> None:
        async def add_all() -> None:
            await asyncio.gather(*(_add(store, f"step {thread}.{number}") for number in range(8)))

        asyncio.run(add_all())

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    state = asyncio.run(store.load("id"))

    assert state is not None
    assert 64 == state.cache["counter"].value
    assert 65 == len(state.cache)


def test_threads_that_create_agree_on_one() -> None:
    """One of many threads that create one id succeeds."""
    store = MemoryFlowStateStore()

    def create(name: str) -> str | None:
        try:
            asyncio.run(store.create("id", FlowState.start(name=name)))
        except FlowStateExistsError:
            return None
        return name

    with ThreadPoolExecutor(8) as threads:
        created = [name for name in threads.map(create, map(str, range(40))) if name is not None]
    state = asyncio.run(store.load("id"))

    assert state is not None
    assert [state.name] == created


async def test_a_change_that_waits_holds_up_nobody() -> None:
    """While the function of one modify waits, others read and write the same state. Then it runs again."""
    store = MemoryFlowStateStore()
    await store.save("id", with_steps("counter"))
    entered, go = asyncio.Event(), asyncio.Event()

    async def wait(state: FlowState) -> None:
        entered.set()
        await go.wait()
        state.cache["counter"].value += 10

    waiting = asyncio.create_task(store.modify("id", wait))
    await entered.wait()
    await _add(store, "meanwhile")
    go.set()

    assert 11 == (await waiting).cache["counter"].value


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("expire_after", [None, timedelta(hours=1)], ids=["lasting", "expiring"])
async def test_a_watch_that_is_cancelled_beside_a_change_ends(expire_after: timedelta | None, turns: int) -> None:
    """However many turns of the loop after the change: the cancellation is not lost."""
    store = MemoryFlowStateStore(FlowStateSettings(expire_after=expire_after, expire_when="always"))
    await store.save("id", started())
    first = asyncio.Event()

    async def follow() -> None:
        async for _ in store.watch("id"):
            first.set()

    following = asyncio.ensure_future(follow())
    await first.wait()
    await store.save("id", started())
    for _ in range(turns):
        await asyncio.sleep(0)
    following.cancel()
    for _ in range(20):  # a few are enough, and a timer would depend on the machine
        await asyncio.sleep(0)
    has_ended = following.done()
    following.cancel()
    await asyncio.wait([following])

    assert has_ended
    assert following.cancelled()


async def test_a_watch_that_begins_while_the_store_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not forgotten: as one that begins later, it is told of changes."""
    store = MemoryFlowStateStore()
    await store.save("id", started())
    ending, beginning = store.watch("id"), store.watch("id")
    await anext(ending)
    send = Signal.send
    has_begun = False

    def begin_and_send(signal: Signal) -> bool:  # as if another thread had its turn while close() tells the watches
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            with pytest.raises(StopIteration):  # it waits for nothing
                _next(beginning).send(None)
        return send(signal)

    with monkeypatch.context() as patch:
        patch.setattr(Signal, "send", begin_and_send)
        await store.close()
    assert has_begun
    with pytest.raises(StoreUnavailableError):
        await anext(ending)
    coming = asyncio.ensure_future(_next(beginning))
    await asyncio.sleep(0)  # it looks, and waits
    await store.save("id", with_steps("later"))
    state = await asyncio.wait_for(coming, PATIENCE)

    assert state is not None
    assert "later" in state.cache


async def _next(states: AsyncIterator[FlowState | None]) -> FlowState | None:
    return await anext(states)


async def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads them if none are passed, as the Firestore store does."""
    monkeypatch.setenv("FLOWSTATE_PAGE_SIZE", "2")
    store = MemoryFlowStateStore()
    await store.save_many({f"id-{place}": started(place) for place in range(3)})

    assert 2 == len((await store.list()).flow_states)


async def test_everything_may_expire() -> None:
    """A running flow has an expiry too with expire_when="always"."""
    store = MemoryFlowStateStore(FlowStateSettings(expire_after=timedelta(hours=1), expire_when="always"))
    state = started()
    await store.save("id", state)

    assert state.expire_at is not None


async def test_expired_states_are_dropped() -> None:
    """What nobody can see takes no memory once it was met."""
    store = MemoryFlowStateStore(FlowStateSettings(expire_after=timedelta(microseconds=1), expire_when="always"))
    await store.save_many({f"id-{place}": started() for place in range(5)})
    await store.list()

    assert {} == store._records.by_id


async def test_a_lone_surrogate_in_an_unknown_key_is_refused() -> None:
    """It can get into a copy, and no model would read it back."""
    with pytest.raises(FlowStateEncodeError, match="surrogate"):
        await MemoryFlowStateStore().save("id", started().model_copy(update={"\ud800": 1}))


async def test_attempts_are_at_least_one() -> None:
    """No attempt at all is not a way to modify."""
    store = MemoryFlowStateStore()
    await store.save("id", started())
    with pytest.raises(ValueError, match="attempts"):
        await store.modify("id", lambda state: None, attempts=0)


def test_tests_of_a_contract_cannot_be_overridden() -> None:
    """A store that fails one does not keep the contract. A subclass adds tests under names of their own."""
    with pytest.raises(TypeError, match="test_load_returns_none_if_there_is_nothing"):

        class TestPicky(VersionedFlowStateStoreTests):
            async def test_load_returns_none_if_there_is_nothing(self) -> None: ...


def test_a_mixin_cannot_override_tests_of_a_contract() -> None:
    """Python takes the test of the class that comes first in the bases. One that comes last changes nothing."""

    class Lenient:
        async def test_load_returns_none_if_there_is_nothing(self) -> None: ...

        async def test_of_its_own(self) -> None: ...

    class TestLast(VersionedFlowStateStoreTests, Lenient):
        pass

    with pytest.raises(TypeError, match="Lenient overrides test_load_returns_none_if_there_is_nothing of KeepingTests"):

        class TestFirst(Lenient, VersionedFlowStateStoreTests):
            pass
