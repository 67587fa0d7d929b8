"""Through SyncFlowStateStore a store keeps the contract: every method, the same results, the same errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, MemoryFlowStateStore, SyncFlowStateStore
from firestore_flowstate.testing import VersionedFlowStateStoreTests
from firestore_flowstate.testing.conformance import BatchTests, EditingTests, VersionTests

DONE = object()


BEGUN: ContextVar[threading.Event] = ContextVar("BEGUN")
"""In a call on a thread: set when the store behind has come to the first point at which it waits, or is done."""


class OnThreads:
    """A blocking store made asynchronous again, each call on a thread: what the suites can ask.

    A write begins at the call, as with an asynchronous store: its caller goes on when the store has come to wait.

    Args:
        store: The blocking store.
        behind: The store behind it.
    """

    def __init__(self, store: SyncFlowStateStore, behind: Any) -> None:
        self._store = store
        for name in ("save", "update"):
            setattr(behind, name, _telling(getattr(behind, name)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if name not in ("save", "update") or threading.current_thread() is not threading.main_thread():
                return await asyncio.to_thread(method, *args, **kwargs)
            begun, context = threading.Event(), copy_context()
            context.run(BEGUN.set, begun)
            calling: Future[Any] = Future()
            threading.Thread(target=context.run, args=(_do, calling, begun, partial(method, *args, **kwargs))).start()
            begun.wait(60)
            return await asyncio.wrap_future(calling)

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


def _telling(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method, which tells when it has come to the first point at which it waits."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        calling = asyncio.ensure_future(method(*args, **kwargs))
        await asyncio.sleep(0)
        if (begun := BEGUN.get(None)) is not None:
            begun.set()
        return await calling

    return call


def _do(calling: Future[Any], begun: threading.Event, call: Callable[[], Any]) -> None:
    calling.set_running_or_notify_cancel()
    try:
        calling.set_result(call())
    except BaseException as error:  # noqa: BLE001  # it is the caller's
        calling.set_exception(error)
    finally:
        begun.set()  # also if it was refused before the store behind was called


def _on_thread(function: Callable[..., Any], *args: Any) -> Any:
    with ThreadPoolExecutor(1) as pool:  # what is refused is refused at the call
        return pool.submit(function, *args).result()


class TestMemoryStore(VersionedFlowStateStoreTests):
    @pytest.fixture
    def store(self) -> Iterator[OnThreads]:
        behind = MemoryFlowStateStore()
        with SyncFlowStateStore(behind) as store:
            yield OnThreads(store, behind)


class TestFirestoreStore(VersionTests, EditingTests, BatchTests):
    @pytest.fixture
    def store(self, flow_state_store: FirestoreFlowStateStore) -> Iterator[OnThreads]:
        store = SyncFlowStateStore(flow_state_store)
        yield OnThreads(store, flow_state_store)
        store.close()
