"""What the stretches of a run tell: its drives, its end without a drive, and the ends that were retried."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from firestore_flowstate import FlowState, FlowStateExecution
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.record import record_of
from tests.flows.counting_store import CountingStore
from tests.flows.test_waits import blocked


async def stretches(store: CountingStore, id: str = "x") -> list[dict[str, Any]]:
    state = await store.load(id)
    return [each.model_dump(mode="json", by_alias=True, exclude_unset=True) for each in state.executions]


async def test_a_run_that_is_cancelled_while_nobody_drives_it_ends_then(flows: Flows, store: CountingStore) -> None:
    """A stretch without length says what the run waited for. The last drive has ended before."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("approve", int, timeout=timedelta(days=1))

    await flows.start(asking, id="x")
    await blocked(store, "x")
    (wait,) = record_of(await store.load("x")).waits.values()
    (driven,) = await stretches(store)
    await flows.cancel("x")
    before, end = await stretches(store)

    assert driven == before
    assert end["startTime"] == end["endTime"] >= driven["endTime"]
    waited = {"step": "approve", "kind": "interrupt", "since": wait.since, "until": wait.until}
    assert {"driven": False, "waits": [waited], "traceIds": []} == {
        name: value for name, value in end.items() if not name.endswith("Time")
    }
    assert (await store.load("x")).executions[-1].end_time == end["endTime"]


async def test_a_drive_that_was_cut_off_stays_so(flows: Flows, store: CountingStore) -> None:
    """Its stretch has no end if the run is cancelled later: nobody knows when the process died."""
    state = FlowState.start(name="lost", flow_id="x")
    state.executions = [FlowStateExecution(start_time=1, trace_ids=[])]
    state.operation.metadata = {"run": {"owner": "dead", "drives": 1}}  # an owner without wakeAt holds nothing
    await store.create("x", state)
    await flows.cancel("x")
    cut_off, end = await stretches(store)

    assert {"startTime": 1, "traceIds": []} == cut_off
    assert end["driven"] is False


async def test_a_run_whose_time_is_up_ends_without_a_drive(flows: Flows, store: CountingStore) -> None:
    """Whoever finds that does not count as a drive."""

    @flows.flow(timeout=timedelta(hours=1))
    async def asking(run: Run) -> int:
        return await run.interrupt("approve", int)

    await flows.start(asking, id="x")
    await blocked(store, "x")
    async with store.edit("x") as state:
        state.operation.metadata["run"]["deadline"] = state.wakeAt = 1
    assert "cancelled" == await flows.drive("x")

    assert 1 == record_of(await store.load("x")).drives
    assert [True, False] == [each.get("driven", True) for each in await stretches(store)]


async def test_a_retry_keeps_how_the_run_had_ended(flows: Flows, store: CountingStore) -> None:
    """The stretch that it ended in says how, with the first 200 characters of the error."""
    tried = []

    async def fails_once() -> int:
        tried.append(1)
        if len(tried) == 1:
            raise RuntimeError("no money" * 100)
        return 1

    @flows.flow
    async def paying(run: Run) -> int:
        return await run.step("pay", fails_once)

    await flows.start(paying, id="x")
    async for state in flows.handle("x").watch():
        failed = state
    await flows.retry("x")
    assert 1 == await flows.result("x", timeout=5)
    first, second = await stretches(store)

    assert failed.operation.result is not None
    assert failed.operation.result.error is not None
    assert ("failed", failed.operation.result.error[:200]) == (first["ended"], first["error"])
    assert "ended" not in second


async def test_of_many_waits_ten_are_kept(flows: Flows, store: CountingStore) -> None:
    """The first ones are kept in their order, so that there is room for the state."""

    @flows.flow
    async def asking(run: Run) -> None:
        await asyncio.gather(*(run.interrupt("approve", int) for _ in range(30)))

    await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.cancel("x")
    end = (await stretches(store))[-1]

    assert ["approve", *(f"approve-{number}" for number in range(1, 10))] == [wait["step"] for wait in end["waits"]]
