"""Both stores are entered, left and closed alike, so that one can stand in the place of the other."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from firestore_flowstate import (
    FirestoreFlowStateStore,
    FlowState,
    FlowStateError,
    FlowStateSettings,
    InvalidQueryError,
    MemoryFlowStateStore,
    StoreUnavailableError,
)

Store = FirestoreFlowStateStore | MemoryFlowStateStore


@pytest.fixture(params=["memory", "firestore"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryFlowStateStore()
    settings: FlowStateSettings = request.getfixturevalue("flow_state_settings")
    return FirestoreFlowStateStore(settings)


async def test_a_store_that_was_left_or_closed_can_be_used_again(store: Store) -> None:
    """It keeps what it has. Closing twice does no harm."""
    async with store as entered:
        assert entered is store
        await store.save("id", FlowState.start(name="f"))
    async with store:
        assert await store.load("id") is not None
    await store.close()
    await store.close()

    assert await store.load("id") is not None
    await store.close()


async def test_closing_ends_watches_by_an_error(store: Store) -> None:
    """A watch that just ended would look like one that is done. One that is begun later goes on."""
    async with aclosing(store.watch("id")) as states:  # type: ignore[type-var]  # it can be closed
        assert await anext(states) is None
        coming = asyncio.ensure_future(anext(states))  # type: ignore[arg-type]  # of an iterator it is a coroutine
        await asyncio.sleep(0)
        await store.close()
        with pytest.raises(StoreUnavailableError, match="closed while it was watched"):
            await coming
    async with aclosing(store.watch("id")) as states:  # type: ignore[type-var]  # as above
        assert await anext(states) is None
        await store.save("id", FlowState.start(name="f"))
        assert await anext(states) is not None
    await store.close()


def test_an_edit_that_ends_on_another_loop_says_that_it_wrote_nothing(store: Store) -> None:
    """The loop that it began on has ended, and has closed what was open on it: that must not look like a write."""

    async def begin() -> AbstractAsyncContextManager[FlowState]:
        await store.save("id", FlowState.start(name="f", flow_id="id"))
        editing = store.edit("id")
        (await editing.__aenter__()).name = "changed"
        return editing

    async def end(editing: AbstractAsyncContextManager[FlowState]) -> None:
        await editing.__aexit__(None, None, None)

    editing = asyncio.run(begin())
    with pytest.raises(FlowStateError, match="another event loop") as refusal:
        asyncio.run(end(editing))
    stored = asyncio.run(store.load("id"))

    assert stored is not None
    assert ("id", "f") == (refusal.value.flow_id, stored.name)
    asyncio.run(store.close())


@pytest.mark.parametrize("method", ["watch", "watch_list"])
def test_a_watch_that_goes_on_on_another_loop_says_what_to_do(store: Store, method: str) -> None:
    """Its changes are told to the loop that it began on. One that is begun on the other loop is told them there."""

    def watch() -> Any:
        return store.watch("id") if method == "watch" else store.watch_list()

    async def begin() -> Any:
        await store.save("id", FlowState.start(name="f"))
        states = watch()
        assert await anext(states)
        return states

    async def go_on(states: Any) -> Any:
        return await anext(states)

    states = asyncio.run(begin())
    for _ in range(2):
        with pytest.raises(FlowStateError, match=r"began on another event loop.*call watch"):
            asyncio.run(go_on(states))
    asyncio.run(states.aclose())

    assert asyncio.run(go_on(watch()))
    asyncio.run(store.close())


def test_an_iteration_does_not_end_with_the_loop_that_it_began_on(store: Store) -> None:
    """The loop has closed what was open on it: that must not look as if there were no more states."""

    async def begin() -> Any:
        await store.save_many({"one": FlowState.start(), "other": FlowState.start()})
        states = store.iterate()
        assert await anext(states)
        return states

    async def go_on(states: Any) -> Any:
        return [state async for state in states]

    states = asyncio.run(begin())
    with pytest.raises(FlowStateError, match=r"another event loop.*call iterate"):
        asyncio.run(go_on(states))
    asyncio.run(states.aclose())

    assert 2 == len(asyncio.run(go_on(store.iterate())))
    asyncio.run(store.close())


async def test_each_block_of_an_edit_has_a_call_of_its_own(store: Store) -> None:
    """A second one would write on top of a version that the first has replaced."""
    await store.save("id", FlowState.start(name="f"))
    editing = store.edit("id")
    async with editing as state:
        state.name = "changed"
    with pytest.raises(RuntimeError, match=r"call edit\(\) for each"):
        await editing.__aenter__()
    await store.close()


async def test_a_watch_goes_on_until_the_last_has_left(store: Store) -> None:
    """Two parts of an application may enter the same store."""
    async with store:
        states = store.watch("id")
        assert await anext(states) is None
        async with store:
            pass
        await store.save("id", FlowState.start(name="f"))
        assert await anext(states) is not None
    with pytest.raises(StoreUnavailableError, match="closed while it was watched"):
        await asyncio.wait_for(anext(states), 5)  # type: ignore[arg-type]  # of an iterator it is a coroutine
    await store.close()


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_store_in_memory_is_neither_pickled_nor_copied(take: object) -> None:
    """A second one would not see what the first keeps. The error says what to do."""
    with pytest.raises(TypeError, match=r"keeps its states in one process.*FirestoreFlowStateStore"):
        take(MemoryFlowStateStore())  # type: ignore[operator]  # each can be called


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
async def test_a_store_that_is_sent_elsewhere_lists_there(flow_state_settings: FlowStateSettings, take: object) -> None:
    """Another process has imported nothing yet, whatever the store had used when it was pickled."""
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        await store.list()
        taken = take(store)  # type: ignore[operator]  # each can be called
    if isinstance(taken, bytes):
        code = f"""
import asyncio, pickle
store = pickle.loads({taken!r})
print(asyncio.run(store.count()), asyncio.run(store.list()).flow_states)
asyncio.run(store.close())
"""
        run = partial(subprocess.run, capture_output=True, text=True, check=False)
        done = await asyncio.to_thread(run, [sys.executable, "-c", code])
        assert ("0 []\n", "") == (done.stdout, done.stderr)
    else:
        assert 0 == await taken.count()
        await taken.close()


def test_a_child_uses_what_its_parent_has_left_it() -> None:
    """It can, also if a thread was in the middle of a write at the fork, which it never ends in the child."""
    code = """
import asyncio, os, signal, threading
from firestore_flowstate import FlowState, MemoryFlowStateStore

store = MemoryFlowStateStore()
asyncio.run(store.save("before", FlowState.start()))
held, go_on = threading.Event(), threading.Event()

def write():
    with store._records.lock():
        held.set()
        go_on.wait()

thread = threading.Thread(target=write)
thread.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(5)
    asyncio.run(store.save("after", FlowState.start()))
    os._exit(0 if asyncio.run(store.load("before")) else 1)
go_on.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
assert asyncio.run(store.load("after")) is None
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("make", [FirestoreFlowStateStore, MemoryFlowStateStore])
def test_settings_of_another_type_are_refused_when_a_store_is_made(make: Any) -> None:
    """The constructor refuses them, and not the first call that asks something of them."""
    for settings in ("flows", {"collection": "flows"}, 5, FlowStateSettings):
        with pytest.raises(TypeError, match="settings are FlowStateSettings"):
            make(settings)


async def test_wrong_arguments_need_no_server_to_be_refused() -> None:
    """Each is refused before the store connects: nothing listens here."""
    store = FirestoreFlowStateStore(FlowStateSettings(project="demo", emulator_host="127.0.0.1:1", timeout=0.001))
    wrong: Any = 5
    for refused in (
        store.save("id", FlowState.start(), if_version=wrong),
        store.update("id", if_version=wrong),
        store.delete("id", if_version=wrong),
        store.delete_many("id"),
        store.save_many(wrong),
        store.modify("id", wrong),
        store.purge(older_than=wrong),
        store.purge(older_than=timedelta(), progress=wrong),
        store.migrate(wrong),
        store.migrate(store, progress=wrong),
        store.rewrap(progress=wrong),
    ):
        with pytest.raises(TypeError, match=r"not 5|not 'id'"):
            await refused
    for asked in (store.list(wrong), store.list_summaries(wrong), store.count(wrong), store.due(limit=0)):
        with pytest.raises(InvalidQueryError):
            await asked
    with pytest.raises(InvalidQueryError):
        await store.purge(wrong, older_than=timedelta())
