"""Copies of a state that was loaded, which a replay writes in the place of values that a function has changed."""

from __future__ import annotations

import asyncio
import contextvars
import random
from base64 import b85encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings, MemoryFlowStateStore
from firestore_flowstate.copies import COLLECTED, collecting_copies
from firestore_flowstate.testing.comparison import exactly


@pytest.fixture(params=["memory", "serialized", "native", "encrypted"])
async def store(request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings) -> AsyncIterator[Any]:
    """Each store, and each layout of documents."""
    if request.param == "memory":
        yield MemoryFlowStateStore()
        return
    changes: dict[str, Any] = {
        "serialized": {},
        "native": {"layout": "native"},
        "encrypted": {"keys": {"key-1": "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE="}, "current_key": "key-1"},
    }[request.param]
    values = flow_state_settings.model_dump(exclude_unset=True) | changes
    async with FirestoreFlowStateStore(FlowStateSettings(**values)) as firestore:
        yield firestore


def a_state(*, size: int) -> FlowState:
    """Return a state with a value of some bytes that no compression makes small."""
    text = b85encode(random.Random(1).randbytes(size * 4 // 5)).decode()
    return FlowState.start(name="draft", input=text)


@pytest.mark.parametrize("size", [10, 700_000], ids=["small", "in parts"])
async def test_a_copy_is_the_state_as_it_was_loaded(store: Any, size: int) -> None:
    """It is, whatever has become of the object and of the state in the store. No other read is needed."""
    state = a_state(size=size)
    state.cache["step"] = CacheEntry(value={"a": [1, None]}, n=1)
    await store.save("flow-1", state)
    expected = await store.load("flow-1")
    with collecting_copies() as copies:
        loaded = await store.load("flow-1")
    copier = copies.of(loaded)
    assert copier is not None
    loaded.cache["step"].value["a"].clear()
    del loaded.cache["step"].value["a"]
    await store.delete("flow-1")

    one, other = copier(), copier()
    assert exactly([expected]) == exactly([one]) == exactly([other])
    assert expected.version == one.version
    assert one.cache["step"].value is not other.cache["step"].value


async def test_nobody_else_pays(store: Any) -> None:
    """A load keeps its bytes only for those who collect copies, and another object has none."""
    await store.save("flow-1", a_state(size=10))
    with collecting_copies() as collected:
        loaded = await store.load("flow-1")
    with collecting_copies() as others:
        await store.load("flow-1")
    with collecting_copies() as copied:
        copy = (await store.load("flow-1")).model_copy(deep=True)
    assert COLLECTED.get() is None
    with collecting_copies() as before:
        pass
    after = await store.load("flow-1")

    found = [copies.of(state) for copies, state in ((others, loaded), (copied, copy), (before, after))]
    assert [None, None, None] == found
    assert collected.of(loaded) is not None


async def test_nothing_is_kept_by_a_context_that_is(store: Any) -> None:
    """A task that began in a load has its context for as long as it lives. It may load too."""
    await store.save("flow-1", a_state(size=10))
    with collecting_copies() as copies:
        context = contextvars.copy_context()
        loaded = await store.load("flow-1")
    assert copies.of(loaded) is not None

    again = await context.run(asyncio.ensure_future, store.load("flow-1"))
    assert [None, None] == [copies.of(state) for state in (loaded, again)]


def test_a_block_may_be_left_in_another_context() -> None:
    """As by a coroutine that is closed when its loop, whose task it was, has ended."""

    async def loads() -> None:
        with collecting_copies():
            await asyncio.get_running_loop().create_future()

    async def begin() -> None:
        contextvars.Context().run(loading.send, None)

    loading = loads()
    asyncio.run(begin())
    loading.close()

    assert COLLECTED.get() is None
