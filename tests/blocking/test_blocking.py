"""SyncFlowStateStore: which methods it has, on which thread what runs, and what it never does: hang."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateError,
    FlowStateNotFoundError,
    FlowStateQuery,
    GcReport,
    InvalidFlowIdError,
    MemoryFlowStateStore,
    StoreUnavailableError,
    SyncFlowStateStore,
    VersionedFlowStateStore,
)

THREAD = "firestore-flowstate-blocking"


@pytest.fixture
def store() -> Iterator[SyncFlowStateStore]:
    with SyncFlowStateStore(MemoryFlowStateStore()) as store:
        yield store


@pytest.fixture(params=["memory", "firestore"])
def either(request: pytest.FixtureRequest) -> Iterator[SyncFlowStateStore]:
    wrapped = MemoryFlowStateStore() if request.param == "memory" else request.getfixturevalue("flow_state_store")
    with SyncFlowStateStore(wrapped) as store:
        yield store


def loop_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def methods(kind: type) -> set[str]:
    return {name for name, value in inspect.getmembers(kind, callable) if not name.startswith("_")} - {"from_app"}


def test_every_method_of_the_stores() -> None:
    """Whatever the protocol and the Firestore store can do, the blocking store can, and nothing besides."""
    assert methods(VersionedFlowStateStore) | methods(FirestoreFlowStateStore) == methods(SyncFlowStateStore)


@pytest.mark.parametrize("name", sorted(methods(FirestoreFlowStateStore) - {"close"}))
def test_signatures(name: str) -> None:
    """Each method has the parameters and the documentation of the method that it calls, but blocks."""
    blocking = getattr(SyncFlowStateStore, name)
    defined = getattr(VersionedFlowStateStore, name, None) or getattr(FirestoreFlowStateStore, name)

    assert inspect.signature(defined).parameters == inspect.signature(blocking).parameters
    assert defined.__doc__ == blocking.__doc__
    assert not inspect.iscoroutinefunction(blocking)


def parameters(kind: type, name: str) -> dict[str, Any]:
    return {parameter: value.default for parameter, value in inspect.signature(getattr(kind, name)).parameters.items()}


@pytest.mark.parametrize("name", sorted(methods(VersionedFlowStateStore)))
def test_the_protocol_is_what_the_stores_have(name: str) -> None:
    """The Firestore store takes just what the protocol says, which is what the blocking store offers."""
    assert parameters(VersionedFlowStateStore, name) == parameters(FirestoreFlowStateStore, name)


def test_a_day_in_its_life(either: SyncFlowStateStore) -> None:
    """Every method of the contract works on both stores, and sees what the others did."""
    state = FlowState.start(name="order", flow_id="a")
    either.create("a", state)
    either.save("b", FlowState.start(name="other", flow_id="b"), if_version=None)
    either.update("a", cache={"step": CacheEntry(value=1)}, if_version=state.version or "")
    with either.edit("a") as edited:
        edited.cache["step"].value += 1
    either.modify("a", lambda state: state.cache.update(more=CacheEntry(value=3)))
    either.save_many({"c": FlowState.start(flow_id="c")})
    loaded = either.load("a")

    assert loaded is not None
    assert {"step": 2, "more": 3} == {step: entry.value for step, entry in loaded.cache.items()}
    assert {"a", "b", "c"} == either.load_many(["a", "b", "c", "d"]).keys()
    assert 3 == either.count() == len(either.list().flow_states) == len(either.list_summaries().summaries)
    assert ["a"] == [state.flow_id for state in either.iterate(FlowStateQuery(name="order", limit=1))]
    either.delete("a")
    either.delete_many(["b", "c"])
    assert [] == list(either.iterate())


def test_maintenance(flow_state_store: FirestoreFlowStateStore) -> None:
    """What only the Firestore store has, works through the blocking one."""
    with SyncFlowStateStore(flow_state_store) as store:
        store.save_many({str(n): FlowState.start(flow_id=str(n)) for n in range(3)})
        store.ping()
        store.rewrap()
        store.migrate(flow_state_store, dry_run=True)
        purged: list[tuple[int, threading.Thread]] = []
        report = store.purge(
            older_than=timedelta(0), progress=lambda done: purged.append((done, threading.current_thread()))
        )
        collected = store.gc()

    assert (3, 3) == (report, report.unfinished)
    assert GcReport(orphans=0, deleted=0, young=0) == collected
    assert {threading.current_thread()} == {thread for _done, thread in purged}


def test_what_a_store_lacks(store: SyncFlowStateStore) -> None:
    """A method that the wrapped store does not have says so, by that store's name."""
    with pytest.raises(AttributeError, match="'MemoryFlowStateStore' object has no attribute 'ping'"):
        store.ping()


def test_errors_are_those_of_the_store(either: SyncFlowStateStore) -> None:
    """A method raises what the store raises: before the call, at entry, and at the end of a block."""
    with pytest.raises(InvalidFlowIdError):
        either.load("a/b")
    with pytest.raises(FlowStateNotFoundError), either.edit("missing"):
        pytest.fail("the block ran")
    either.save("a", FlowState.start())
    block = either.edit("a")
    block.__enter__().name = "mine"
    either.modify("a", lambda state: setattr(state, "name", "theirs"))
    with pytest.raises(FlowStateConflictError):
        block.__exit__(None, None, None)

    loaded = either.load("a")
    assert loaded is not None
    assert "theirs" == loaded.name


def test_errors_show_where(store: SyncFlowStateStore) -> None:
    """The traceback of an error leads from the blocking call to the line of the store, on its other thread."""
    for call in (lambda: store.load("a/b"), lambda: next(store.iterate(FlowStateQuery(continuation_token="x")))):
        with pytest.raises(FlowStateError) as caught:
            call()
        frames = traceback.extract_tb(caught.value.__traceback__)

        assert "test_errors_show_where" == frames[0].name
        assert "memory.py" in {Path(frame.filename).name for frame in frames}


def test_a_block_that_raises_writes_nothing(either: SyncFlowStateStore) -> None:
    """An exception in the block of edit, of any kind, leaves the state alone and is not held back."""
    either.save("a", FlowState.start(name="before"))
    for kind in (ZeroDivisionError, KeyboardInterrupt, StopIteration, GeneratorExit):
        error = kind()
        block = either.edit("a")
        block.__enter__().name = "after"
        assert not block.__exit__(kind, error, None)

    loaded = either.load("a")
    assert loaded is not None
    assert "before" == loaded.name


class TestOnARunningLoop:
    """If an event loop is running, blocking would hold it up, so every method refuses."""

    CALLS: tuple[Callable[[SyncFlowStateStore], Any], ...] = (
        lambda store: store.load("a"),
        lambda store: store.modify("a", print),
        lambda store: store.edit("a"),
        lambda store: store.edit("a").__enter__(),
        lambda store: store.iterate(),
        lambda store: store.ping(),
        lambda store: store.close(),
        lambda store: store.__enter__(),
    )

    @pytest.mark.parametrize("call", CALLS)
    async def test_refuses(self, call: Callable[[SyncFlowStateStore], Any]) -> None:
        """The error says what to do instead, nothing is started, and no coroutine is left behind."""
        store = SyncFlowStateStore(FirestoreFlowStateStore())
        with pytest.raises(FlowStateError, match=r"event loop is running.* await the store that it wraps"):
            call(store)
        gc.collect()

        assert [] == loop_threads()

    async def test_in_the_middle(self) -> None:
        """What was begun elsewhere is not continued on a thread whose loop runs."""
        store = SyncFlowStateStore(MemoryFlowStateStore())

        def begin() -> tuple[Any, Any]:
            store.save("a", FlowState.start(name="before"))
            block, states = store.edit("a"), store.iterate()
            block.__enter__().name = "after"
            next(states)
            return block, states

        block, states = await asyncio.to_thread(begin)
        for go_on in (lambda: next(states), lambda: block.__exit__(None, None, None)):
            with pytest.raises(FlowStateError, match="event loop is running"):
                go_on()

        loaded = await asyncio.to_thread(store.load, "a")
        assert loaded is not None
        assert "before" == loaded.name
        await asyncio.to_thread(store.close)

    async def test_to_thread(self, flow_state_store: FirestoreFlowStateStore) -> None:
        """The blocking store works on a thread beside the loop, while the loop uses the wrapped store."""
        store = SyncFlowStateStore(flow_state_store)
        await flow_state_store.save("a", FlowState.start(flow_id="a"))
        loaded, awaited = await asyncio.gather(asyncio.to_thread(store.load, "a"), flow_state_store.load("a"))
        await asyncio.to_thread(store.close)

        assert loaded == awaited


class TestThreads:
    """Any number of threads, each blocked by its own calls only."""

    def test_many(self, either: SyncFlowStateStore) -> None:
        """16 threads that change one state 4 times each lose nothing, and share one loop."""
        either.save("a", FlowState.start())
        barrier = threading.Barrier(16)
        errors: list[BaseException] = []

        def work(number: int) -> None:
            try:
                barrier.wait()
                for turn in range(4):
                    step = {f"{number} {turn}": CacheEntry(value=1)}
                    either.modify("a", lambda state, step=step: state.cache.update(step))
            except Exception as error:  # noqa: BLE001  # the test's own thread tells
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loaded = either.load("a")

        assert [] == errors
        assert loaded is not None
        assert 64 == len(loaded.cache)
        assert 1 == len(loop_threads())

    def test_functions_run_where_the_call_is(self, store: SyncFlowStateStore) -> None:
        """What is passed to modify runs on the caller's thread, and may use the blocking store."""
        store.save("a", FlowState.start())
        store.save("b", FlowState.start(name="from b"))
        seen = []

        def change(state: FlowState) -> None:
            other = store.load("b")
            state.name = other.name if other else None
            seen.append(threading.current_thread())

        assert "from b" == store.modify("a", change).name
        assert [threading.current_thread()] == seen

    def test_a_function_may_not_write_the_state_it_is_given(self, store: SyncFlowStateStore) -> None:
        """Such a call would wait for itself, on its own thread as on the loop."""
        store.save("a", FlowState.start())
        with pytest.raises(FlowStateError, match="modify"):
            store.modify("a", lambda _: store.update("a") and None)
        returned = store.modify("a", lambda state: state.model_copy(update={"name": "returned"}))

        assert "returned" == returned.name

    def test_iterators_are_read_where_the_call_is(self, store: SyncFlowStateStore) -> None:
        """An iterator passed as ids is read on the caller's thread, and may itself use the blocking store."""
        store.save("a", FlowState.start(flow_id="a"))

        assert ["a"] == list(store.load_many(state.flow_id for state in store.iterate()))

    def test_a_coroutine_function_too(self, store: SyncFlowStateStore) -> None:
        """What modify calls may return an awaitable, as its signature says: it is awaited on the loop."""
        store.save("a", FlowState.start())

        async def change(state: FlowState) -> None:
            await asyncio.sleep(0)
            state.name = threading.current_thread().name

        async def fail(state: FlowState) -> None:
            raise ZeroDivisionError

        assert THREAD == store.modify("a", change).name
        with pytest.raises(ZeroDivisionError):
            store.modify("a", fail)

    @pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, StopIteration])
    def test_a_function_that_raises(self, store: SyncFlowStateStore, kind: type[BaseException]) -> None:
        """The exception comes out as it is, nothing is written, and the next call works."""
        store.save("a", FlowState.start(name="before"))
        error = kind()

        def change(state: FlowState) -> None:
            state.name = "after"
            raise error

        with pytest.raises(kind) as caught:
            store.modify("a", change)
        loaded = store.load("a")

        assert caught.value is error
        assert loaded is not None
        assert "before" == loaded.name

    def test_context_variables(self) -> None:
        """A context variable of the caller, such as the current span, is seen by the store."""
        variable = contextvars.ContextVar("variable", default="")

        class Store(MemoryFlowStateStore):
            async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
                return FlowState.start(name=variable.get())

        token = variable.set("of the caller")
        with SyncFlowStateStore(Store()) as store:
            loaded = store.load("a")
        variable.reset(token)

        assert loaded is not None
        assert "of the caller" == loaded.name


class LoopBoundStore(MemoryFlowStateStore):
    """A store such as others write: it belongs to one loop, and leaves in a task what it entered in that task."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.entered = self.closed = 0
        self._variable = contextvars.ContextVar("variable", default=0)

    async def __aenter__(self) -> LoopBoundStore:
        self.entered += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.entered -= 1

    async def close(self) -> None:
        self.closed += 1

    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        self.loops.add(asyncio.get_running_loop())
        return await super().load(id)

    @asynccontextmanager
    async def edit(self, id: str, *, timeout: float | None = None) -> AsyncIterator[FlowState]:
        self.tasks.append(asyncio.current_task())
        token = self._variable.set(1)
        async with super().edit(id) as state:
            yield state
        self._variable.reset(token)
        self.tasks.append(asyncio.current_task())

    async def iterate(self, query: FlowStateQuery | None = None) -> AsyncIterator[FlowState]:
        self.tasks.append(asyncio.current_task())
        token = self._variable.set(1)
        try:
            async for state in super().iterate(query):
                yield state
        finally:
            self._variable.reset(token)
            self.tasks.append(asyncio.current_task())


class TestStoresOfOthers:
    """Any VersionedFlowStateStore may be wrapped, also one that belongs to a loop and to its tasks."""

    def test_one_loop(self) -> None:
        """All calls, from whatever thread, reach the store on one loop."""
        wrapped = LoopBoundStore()
        with SyncFlowStateStore(wrapped) as store:
            threads = [threading.Thread(target=store.load, args=("a",)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            store.load("a")

        assert 1 == len(wrapped.loops)

    def test_one_task(self) -> None:
        """A block, or an iteration to its end or abandoned, begins and ends in one task and context."""
        wrapped = LoopBoundStore()
        with SyncFlowStateStore(wrapped) as store:
            for id in "abc":
                store.save(id, FlowState.start())
            with store.edit("a") as state:
                state.name = "changed"
            assert 3 == len(list(store.iterate()))
            for _state in store.iterate():
                break

        assert 6 == len(wrapped.tasks)
        assert wrapped.tasks[::2] == wrapped.tasks[1::2]
        assert 3 == len(set(wrapped.tasks))

    def test_entered_and_closed(self) -> None:
        """``with`` enters the wrapped store and leaves it. The wrapper's close closes it, and it can be used again."""
        wrapped = LoopBoundStore()
        store = SyncFlowStateStore(wrapped)
        with store:
            assert (1, 0) == (wrapped.entered, wrapped.closed)
        assert (0, 1) == (wrapped.entered, wrapped.closed)
        assert [] == loop_threads()

        assert store.load("a") is None
        store.close()
        store.close()
        assert 3 == wrapped.closed
        assert [] == loop_threads()


class TestNeverHangs:
    """Closing, dropping and interrupting at any point leaves nothing waiting."""

    def test_an_abandoned_iteration(self, either: SyncFlowStateStore) -> None:
        """An iterator that nobody follows to the end holds up nothing, also if garbage collection drops it."""
        either.save_many({str(n): FlowState.start() for n in range(5)})
        for _ in range(3):
            states = either.iterate(FlowStateQuery(limit=1))
            next(states)
            ring: list[Any] = [states]
            ring.append(ring)
            del states, ring
        gc.collect()

        assert 5 == either.count()

    def test_closed_by_another_thread(self) -> None:
        """A call under way ends with an error when another thread closes the store. What was begun cannot go on."""
        reached = threading.Event()

        class Store(MemoryFlowStateStore):
            async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
                reached.set()
                await asyncio.sleep(60)
                return None

        store = SyncFlowStateStore(Store())
        store.save("a", FlowState.start())
        states, block = store.iterate(), store.edit("a")
        next(states)
        block.__enter__()
        closer = threading.Thread(target=lambda: (reached.wait(), store.close()))
        closer.start()

        with pytest.raises(StoreUnavailableError, match=r"load: the store was closed by another thread") as caught:
            store.load("a")
        closer.join()
        assert caught.value.outcome_unknown
        with pytest.raises(StoreUnavailableError, match="closed by another thread"):
            next(states)
        with pytest.raises(StoreUnavailableError, match="closed by another thread"):
            block.__exit__(None, None, None)
        assert 1 == store.count()
        store.close()

    def test_dropped_without_close(self) -> None:
        """A wrapper that is dropped takes its thread with it. Those made for one call each do not pile up."""
        wrapped = MemoryFlowStateStore()
        for _ in range(5):
            assert SyncFlowStateStore(wrapped).load("a") is None

        assert [] == loop_threads()

    def test_a_failing_close(self) -> None:
        """A wrapped store that fails to close does not keep the thread alive."""

        class Store(MemoryFlowStateStore):
            async def close(self) -> Awaitable[None]:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), SyncFlowStateStore(Store()):
            pass

        assert [] == loop_threads()


def test_closed_while_a_function_runs() -> None:
    """A call whose function is still running when another thread closes the store says what became of it."""
    store = SyncFlowStateStore(MemoryFlowStateStore())
    store.save("id", FlowState.start())
    closed = threading.Event()

    def change(_: FlowState) -> None:
        threading.Thread(target=lambda: (store.close(), closed.set())).start()
        assert closed.wait(10)

    with pytest.raises(StoreUnavailableError, match="closed by another thread"):
        store.modify("id", change)


def test_errors_go_when_nobody_has_them(store: SyncFlowStateStore) -> None:
    """They go without waiting for the garbage collector, since an error may keep a large state."""

    def edit() -> None:
        with store.edit("missing"):
            pass

    gc.disable()
    try:
        for call in (lambda: store.load(""), lambda: store.modify("missing", lambda _: None), edit):
            error = _error_of(call)
            deadline = time.monotonic() + 5
            while error() is not None:  # the loop's thread lets go of it a moment later
                assert time.monotonic() < deadline
                time.sleep(0.001)
    finally:
        gc.enable()


def _error_of(call: Callable[[], object]) -> weakref.ref[FlowStateError]:
    try:
        call()
    except FlowStateError as error:
        return weakref.ref(error)
    raise AssertionError("there was none")


class _NotAsynchronous:
    """A store of somebody's whose methods block, as those of the wrapper do."""

    closed = False

    def load(self, id: str) -> None:
        """Load nothing."""

    def close(self) -> None:
        """Be closed."""
        self.closed = True


@pytest.mark.parametrize(
    "store",
    [5, None, "store", MemoryFlowStateStore, SyncFlowStateStore(MemoryFlowStateStore())],
    ids=["a number", "None", "a string", "a class", "a blocking store"],
)
def test_what_is_not_a_store_is_refused(store: Any) -> None:
    """Wrapping it is an error, as wrapping a wrapper is: their calls would wait for each other for ever."""
    with pytest.raises(TypeError, match="store is an asynchronous store"):
        SyncFlowStateStore(store)


def test_a_method_that_is_not_asynchronous_is_an_error() -> None:
    """The call does not wait for ever, and the store is closed all the same."""
    store: Any = _NotAsynchronous()
    with SyncFlowStateStore(store) as blocking, pytest.raises(TypeError, match="load of the store that is wrapped"):
        blocking.load("id")

    assert store.closed
