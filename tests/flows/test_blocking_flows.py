"""Flows for threads without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator

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
