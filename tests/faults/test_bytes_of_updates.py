"""What an update without version costs in a long flow: as much as in a short one, to the byte."""

from __future__ import annotations

import pytest

from firestore_flowstate import CacheEntry, FlowStateExecution, FlowStateSettings, Operation
from firestore_flowstate._rpc.database import Metadata
from firestore_flowstate._rpc.link import Link
from tests.faults.writes import Store, a_state, incompressible

STEPS = 1_000  # of the long flow, whose log has then been compacted and moved into parts


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The calls of all stores, with the bytes that came back for each."""
    calls: list[tuple[str, int]] = []
    call = Link.call

    async def note(self: Link, name: str, request: bytes, metadata: Metadata, timeout: float) -> list[bytes]:
        answer = await call(self, name, request, metadata, timeout)
        calls.append((name, sum(map(len, answer))))
        return answer

    monkeypatch.setattr(Link, "call", note)
    return calls


async def test_step_1000_costs_what_step_10_does(
    flow_state_settings: FlowStateSettings, received: list[tuple[str, int]]
) -> None:
    """A read of the head and a commit, with less than 1 KB down, however much of the flow is in parts."""
    value = incompressible(2_000)
    async with Store(flow_state_settings) as store:
        state = a_state("id")
        state.executions = [FlowStateExecution(start_time=1, trace_ids=["7185323decb5ba6642ce57bf598483ef"])]
        await store.save("id", state)
        of_step: dict[int, list[tuple[str, int]]] = {}
        for step in range(1, STEPS + 1):
            received.clear()
            await store.update("id", cache={f"step {step}": CacheEntry(value=value)})
            of_step[step] = list(received)
        loaded = await store.load("id")

    assert loaded is not None
    assert STEPS + 1 == len(loaded.cache)
    assert ["GetDocument", "Commit"] == [name for name, _ in of_step[10]] == [name for name, _ in of_step[STEPS]]
    down = {step: sum(size for _, size in calls) for step, calls in of_step.items()}
    assert down[STEPS] <= 1.3 * down[10]
    assert down[STEPS] < 1024
    compactions = [step for step, calls in of_step.items() if len(calls) > 2]
    assert len(compactions) <= 12, "a step in a hundred compacts the log"


async def test_an_operation_of_a_long_flow(
    flow_state_settings: FlowStateSettings, received: list[tuple[str, int]]
) -> None:
    """Only if the state expires, before or after, is its root read for the parts that are to expire later."""
    state = a_state("id")
    state.cache["large"] = CacheEntry(value=incompressible(1_500_000))
    async with Store(flow_state_settings) as store:
        await store.save("id", state)
        received.clear()
        version = await store.update("id", operation=Operation(name="id", done=False))
        await store.update("id", operation=Operation(name="id", done=False), if_version=version)

    assert ["GetDocument", "Commit"] * 2 == [name for name, _ in received]
    assert sum(size for _, size in received) < 2048
