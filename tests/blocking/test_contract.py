"""Through SyncFlowStateStore a store keeps the contract: every method, the same results, the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, MemoryFlowStateStore, SyncFlowStateStore
from firestore_flowstate.testing import VersionedFlowStateStoreTests
from firestore_flowstate.testing.conformance import BatchTests, EditingTests, VersionTests

DONE = object()


class OnThreads:
    """A blocking store made asynchronous again, each call on a thread of the pool: what the suites can ask."""

    def __init__(self, store: SyncFlowStateStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(method, *args, **kwargs)

        return call

    @asynccontextmanager
    async def edit(self, *args: Any, **kwargs: Any) -> AsyncIterator[FlowState]:
        manager: AbstractContextManager[FlowState] = await asyncio.to_thread(self._store.edit, *args, **kwargs)
        state = await asyncio.to_thread(manager.__enter__)
        try:
            yield state
        except Exception as error:
            if not await asyncio.to_thread(manager.__exit__, type(error), error, error.__traceback__):
                raise
        else:
            await asyncio.to_thread(manager.__exit__, None, None, None)

    def iterate(self, *args: Any) -> AsyncIterator[Any]:
        return Steps(_on_thread(self._store.iterate, *args))

    def watch(self, *args: Any) -> AsyncIterator[Any]:
        return Steps(_on_thread(self._store.watch, *args))

    def watch_list(self, *args: Any) -> AsyncIterator[Any]:
        return Steps(_on_thread(self._store.watch_list, *args))


class Steps(AsyncIterator[Any]):
    """A blocking iterator made asynchronous: a step that nobody waits for any more is the next one's."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._step: asyncio.Future[Any] | None = None
        self._is_waiting = False

    async def __anext__(self) -> Any:
        if self._is_waiting:
            raise RuntimeError("each task needs an iterator of its own")
        self._is_waiting = True
        try:
            if self._step is None:
                self._step = asyncio.ensure_future(asyncio.to_thread(next, self._iterator, DONE))
            await asyncio.wait([self._step])
        finally:
            self._is_waiting = False
        step, self._step = self._step, None
        if step.result() is DONE:
            raise StopAsyncIteration
        return step.result()

    async def aclose(self) -> None:
        await asyncio.to_thread(self._iterator.close)  # type: ignore[attr-defined]  # a generator


def _on_thread(function: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:  # what is refused is refused at the call
        return pool.submit(function, *args).result()


@pytest.fixture(autouse=True)
def whose_caller_goes_on(request: pytest.FixtureRequest) -> None:
    """A caller who blocks cannot change its arguments; here a thread may begin a call when the test has done so."""
    if request.function.__name__ in {
        "test_stores_a_state_as_it_is_at_the_call",
        "test_writes_its_values_as_they_are_at_the_call",
    }:
        pytest.skip("a caller who blocks cannot change its arguments")


class TestMemoryStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self) -> Iterator[OnThreads]:
        with SyncFlowStateStore(MemoryFlowStateStore()) as store:
            yield OnThreads(store)


class TestFirestoreStore(VersionTests, EditingTests, BatchTests):
    @pytest.fixture
    def store(self, flow_state_store: FirestoreFlowStateStore) -> Iterator[OnThreads]:
        store = SyncFlowStateStore(flow_state_store)
        yield OnThreads(store)
        store.close()
