"""Ctrl-C while a blocking store waits for Firestore: the old state or the new one, and a store that goes on working."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import pytest

from firestore_flowstate import CacheEntry, FlowState, FlowStateQuery, FlowStateSettings, SyncFlowStateStore
from firestore_flowstate._rpc.loop_thread import LoopThread
from firestore_flowstate._waiting import RemoteTask
from tests.faults.cancelling import SECONDS, background
from tests.faults.writes import MARK, Store, a_state, incompressible
from tests.rpc.tcp_proxy import TcpProxy

LARGE: Final = incompressible(600_000)  # into a part, in several commits if a request has 256 KiB
WAITING: Final = ("blocking.py", "_waiting.py", "loop_thread.py", "contextlib.py")  # in these a thread waits for a loop
Blocking = Callable[[SyncFlowStateStore, FlowState], object]


def _edit(store: SyncFlowStateStore, read: FlowState) -> None:
    with store.edit("id") as state:
        state.cache[MARK] = CacheEntry(value=1)


def _save_in_parts(store: SyncFlowStateStore, read: FlowState) -> None:
    store.save("id", _marked(read, LARGE), if_version=read.version)


def _marked(read: FlowState, value: Any) -> FlowState:
    state = read.model_copy(deep=True)
    state.cache[MARK] = CacheEntry(value=value)
    return state


WRITES: Final[dict[str, tuple[Blocking, Any]]] = {
    "save": (lambda store, read: store.save("id", _marked(read, 1)), 1),
    "save in parts": (_save_in_parts, LARGE),
    "update": (lambda store, read: store.update("id", cache={MARK: CacheEntry(value=1)}), 1),
    "edit": (_edit, 1),
    "modify": (lambda store, _: store.modify("id", lambda state: state.cache.update({MARK: CacheEntry(value=1)})), 1),
    "save_many": (lambda store, read: store.save_many({"id": _marked(read, 1)}), 1),
    "list": (lambda store, _: store.list(), None),
    "iterate": (lambda store, _: list(store.iterate(FlowStateQuery(limit=1))), None),
}


@contextmanager
def interrupts() -> Iterator[list[bool]]:
    """Raise KeyboardInterrupt on the main thread when it is interrupted while the value yielded says so."""
    armed = [False]

    def handle(*_: object) -> None:
        if armed[0]:
            armed[0] = False
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield armed
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("call", "value"), WRITES.values(), ids=WRITES)
def test_an_interrupt(flow_state_settings: FlowStateSettings, proxy: TcpProxy, call: Blocking, value: Any) -> None:
    """It may come with any chunk on the wire: the state is the old or the new one, and the store goes on working."""
    settings = flow_state_settings.model_copy(update={"max_request_bytes": 256 * 1024, "compress_over": 2**40})
    through_proxy = Store(settings.model_copy(update={"emulator_host": proxy.host}))
    outcomes = set()
    with (
        SyncFlowStateStore(Store(settings)) as direct,
        SyncFlowStateStore(through_proxy) as store,
        interrupts() as armed,
    ):
        for count in itertools.count(0, 2):
            read = a_state("id")
            direct.save("id", read)
            store.load("id")
            interrupted, reached = _interrupted(proxy, armed, count, lambda read=read: call(store, read))  # type: ignore[misc]
            found = store.load("id")
            assert found in ([read, _marked(read, value)] if interrupted or value is None else [_marked(read, value)])
            outcomes.add(interrupted)
            if not reached:
                break
        _nothing_runs(store, through_proxy)

    assert {True, False} == outcomes


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # those that no loop had yet
@pytest.mark.parametrize(("call", "value"), WRITES.values(), ids=WRITES)
def test_an_interrupt_at_any_line(flow_state_settings: FlowStateSettings, call: Blocking, value: Any) -> None:
    """It may come at any line of the waiting. A trace function aims it, since a signal cannot be aimed so."""
    behind = Store(flow_state_settings)
    outcomes = set()
    with SyncFlowStateStore(behind) as store:
        for line in itertools.count():
            read = a_state("id")
            store.save("id", read)
            reached = _interrupted_at(line, lambda read=read: call(store, read))  # type: ignore[misc]
            found = store.load("id")
            assert found in ([read, _marked(read, value)] if reached or value is None else [_marked(read, value)])
            _nothing_runs(store, behind)
            outcomes.add(reached)
            if not reached:
                break

    assert {True, False} == outcomes


def test_an_interrupt_while_the_loop_is_busy(flow_state_settings: FlowStateSettings) -> None:
    """The step that was interrupted is never taken, also if it had not begun: an edit that raised writes nothing."""
    with SyncFlowStateStore(Store(flow_state_settings)) as store, interrupts() as armed:
        read = a_state("id")
        store.save("id", read)
        [thread] = store._threads.values()
        interrupted = threading.Event()

        def edit() -> None:
            with store.edit("id") as state:
                state.cache[MARK] = CacheEntry(value=1)
                armed[0] = True
                thread.loop.call_soon_threadsafe(interrupted.wait, 20)  # as when it makes JSON for another thread
                threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()

        with pytest.raises(KeyboardInterrupt):
            edit()
        interrupted.set()  # and the loop could take the step now, before the load
        assert read == store.load("id")


def test_an_interrupt_while_the_loop_is_stopped() -> None:
    """Two cancellations that come at once are one: that of a step must not keep the loop from ending."""
    thread = LoopThread("test")
    task = RemoteTask(thread)

    async def ready() -> None:
        pass

    async def wait() -> None:
        await asyncio.Event().wait()

    def interrupt() -> None:
        thread.loop.call_soon_threadsafe(time.sleep, 0.3)
        signal.pthread_kill(main, signal.SIGINT)

    def interrupted() -> None:
        threading.Timer(0.1, interrupt).start()
        task.step(wait)

    main = threading.get_ident()
    with interrupts() as armed:
        task.step(ready)
        armed[0] = True
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    thread.stop()
    by = time.monotonic() + 10
    while not thread.loop.is_closed():  # it is waited for 2 s at most
        assert time.monotonic() < by
        time.sleep(0.01)


def _interrupted_at(count: int, call: Callable[[], object]) -> bool:
    """Return whether the call got to the line of so many of what waits, and was interrupted there."""
    seen = itertools.count()
    reached = False

    def look(frame: FrameType, event: str, _: object) -> Any:
        nonlocal reached
        if not frame.f_code.co_filename.endswith(WAITING):
            return None
        if event == "line" and not reached and not _is_dropping(frame) and next(seen) == count:
            reached = True
            raise KeyboardInterrupt
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        call()
    except KeyboardInterrupt:
        assert reached
    finally:
        sys.settrace(before)
    return reached


def _is_dropping(frame: FrameType | None) -> bool:
    """Return whether a finalizer calls it: Python ignores what finalizers raise."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def _interrupted(proxy: TcpProxy, armed: list[bool], count: int, call: Callable[[], object]) -> tuple[bool, bool]:
    """Return whether the call was interrupted, and whether it got to the chunk after so many."""
    main = threading.get_ident()
    seen = itertools.count()
    reached = False

    def look(_: bytes) -> None:
        nonlocal reached
        if next(seen) == count:
            reached = True
            signal.pthread_kill(main, signal.SIGINT)

    proxy.on_request(look)
    proxy.on_reply(look)
    armed[0] = True
    try:
        call()
        armed[0] = False
    except KeyboardInterrupt:
        return True, reached
    finally:
        proxy.on_request(None)
        proxy.on_reply(None)
    return False, reached


def _nothing_runs(store: SyncFlowStateStore, through_proxy: Store) -> None:
    """See that no task is left on the loop that the calls ran on. The store of a ``with`` is bound to it."""
    assert background(through_proxy) is None
    [thread] = store._threads.values()
    deadline = time.monotonic() + SECONDS
    while asyncio.all_tasks(thread.loop):
        assert time.monotonic() < deadline
        time.sleep(0.005)
