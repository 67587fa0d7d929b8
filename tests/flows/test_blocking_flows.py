"""Flows for threads without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from firestore_flowstate import FlowStateError, MemoryFlowStateStore
from firestore_flowstate.flows import BlockingFlowHandle, BlockingFlows, FlowFailedError, FlowHandle, Flows, Run


@pytest.fixture
def flows() -> Iterator[Flows]:
    flows = Flows(MemoryFlowStateStore())
    yield flows
    flows.blocking.close()


def test_a_thread_starts_resumes_and_awaits(flows: Flows) -> None:
    """Any thread may do so. The handle has the same methods as the awaited one."""

    @flows.flow
    async def asking(run: Run, number: int) -> int:
        return number + await run.interrupt("more", int)

    handle = flows.blocking.start(asking, 1, id="x")
    states = handle.watch()
    assert next(states).flow_id == "x"
    answer = threading.Thread(target=lambda: handle.resume(2, step="more"))
    answer.start()

    assert 3 == handle.result(timeout=5)
    assert "done" == [state.status for state in states][-1]
    answer.join()


def test_run_returns_the_result_or_raises(flows: Flows) -> None:
    """The errors are the same."""

    @flows.flow
    async def halve(run: Run, number: int) -> float:
        return await run.step("halve", lambda: 1 / number)

    assert 0.5 == flows.blocking.run(halve, 2)
    with pytest.raises(FlowFailedError):
        flows.blocking.run(halve, 0)


def test_a_running_loop_is_not_blocked(flows: Flows) -> None:
    """The call is an error that says what to do."""

    async def on_a_loop() -> None:
        with pytest.raises(FlowStateError, match="await"):
            flows.blocking.sweep()

    asyncio.run(on_a_loop())


@pytest.mark.parametrize(
    ("blocking", "awaited", "names"),
    [
        (BlockingFlows, Flows, "start run handle resume cancel retry result drive sweep"),
        (BlockingFlowHandle, FlowHandle, "state result resume cancel retry watch"),
    ],
)
def test_each_method_takes_what_the_awaited_one_does(blocking: type, awaited: type, names: str) -> None:
    """Its parameters have the same names and the same defaults."""
    for name in names.split():
        ours, theirs = (inspect.signature(getattr(each, name)).parameters for each in (blocking, awaited))
        assert [(each.name, each.kind, each.default) for each in theirs.values()] == [
            (each.name, each.kind, each.default) for each in ours.values()
        ], name


def at_once(*functions: Callable[[], Any]) -> None:
    """Call each function on a thread of its own, and await all; one that hangs fails the test."""
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)


def test_threads_call_while_others_close(flows: Flows) -> None:
    """Each call does its work, or is a FlowStateError. None hangs, and the flows can be used afterwards."""
    outcomes, is_over = Counter[str](), threading.Event()

    @flows.flow
    async def one(run: Run) -> int:
        return await run.step("one", lambda: 1)

    def call(function: Callable[[], Any]) -> None:
        while not is_over.is_set():
            try:
                outcomes.update([str(function())])
            except FlowStateError as error:
                outcomes.update(["closed" if "was closed" in str(error) else str(error)])
            except BaseException as error:  # noqa: BLE001  # the test shows what it was
                outcomes.update([repr(error)])

    def close() -> None:
        for _ in range(100):
            flows.blocking.close()

    def close_and_end() -> None:
        at_once(close, close)
        is_over.set()

    state, run = (lambda: flows.blocking.handle("x").state()), (lambda: flows.blocking.run(one))
    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns between any two steps
    try:
        at_once(*[lambda: call(state)] * 4, *[lambda: call(run)] * 2, close_and_end)
    finally:
        sys.setswitchinterval(switching)

    assert {*outcomes} <= {"None", "1", "closed"}
    assert 1 == flows.blocking.run(one)


def test_a_call_that_waits_when_another_thread_closes_is_an_error(flows: Flows) -> None:
    """So is the next state of an iterator, whose event loop has ended."""

    @flows.flow
    async def asks(run: Run) -> int:
        return await run.interrupt("a", int)

    handle = flows.blocking.start(asks, id="x")
    states = handle.watch()
    assert "x" == next(states).flow_id

    def wait() -> None:
        with pytest.raises(FlowStateError, match="closed by another thread"):
            handle.result()

    def close() -> None:
        while not flows.blocking._threads.here()._calls.waiting:
            time.sleep(0.001)  # no event tells of it
        flows.blocking.close()

    at_once(wait, close)
    with pytest.raises(FlowStateError, match="closed by another thread"):
        list(states)
    assert "x" == handle.state().flow_id


def test_close_on_a_running_loop_changes_nothing(flows: Flows) -> None:
    """It is refused as every other call is: runs go on, and SIGTERM still hands them over."""
    began, go = threading.Event(), threading.Event()

    def work() -> int:
        began.set()
        assert go.wait(60)
        return 5

    @flows.flow
    async def works(run: Run) -> int:
        return await run.step("work", work)

    async def close_on_a_loop() -> None:
        with pytest.raises(FlowStateError, match="await"):
            flows.blocking.close()

    thread, handler = flows.blocking._threads.here(), signal.getsignal(signal.SIGTERM)
    handle = flows.blocking.start(works, id="x")
    assert began.wait(60)
    asyncio.run(close_on_a_loop())
    go.set()

    assert 5 == handle.result(timeout=5)
    assert thread is flows.blocking._threads.here()
    assert handler is signal.getsignal(signal.SIGTERM)
    flows.blocking.close()
    assert handler is not signal.getsignal(signal.SIGTERM)


AT_EXIT = """
import atexit

def call() -> None:
    try:
        print(flows.blocking.handle("x").state())
    except FlowStateError as error:
        print(error)

atexit.register(call)  # before the package is imported, so that it is called after what ends the thread
from firestore_flowstate import FlowStateError, MemoryFlowStateStore
from firestore_flowstate.flows import Flows

flows = Flows(MemoryFlowStateStore())
flows.blocking.sweep()
"""


def test_a_call_at_exit_does_not_hang() -> None:
    """After the end of the thread it is an error that says so."""
    told = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False)

    assert "the interpreter is ending, and has ended the thread" in told.stdout
    assert "" == told.stderr
