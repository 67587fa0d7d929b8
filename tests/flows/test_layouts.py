"""Flows over the real store: both layouts, encryption, large results, and many steps."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings, MemoryFlowStateStore
from firestore_flowstate.flows import Flow, FlowCancelledError, FlowFailedError, FlowHandle, Flows, Retry, Run
from firestore_flowstate.testing import simulate
from firestore_flowstate.testing.crashing_store import Writes
from firestore_flowstate.testing.simulation import simulation_with
from firestore_flowstate.unset import UNSET
from tests.flows.counting_store import CountingStore
from tests.flows.test_simulation import SHAPES

KEYS = {"k": base64.b64encode(bytes(32)).decode()}
LAYOUTS: dict[str, dict[str, Any]] = {
    "serialized": {},
    "native": {"layout": "native"},
    "encrypted": {"keys": KEYS, "require_encryption": True},
    "sharded": {"shards": 8},
}


@pytest.fixture(params=LAYOUTS)
async def store(
    request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings
) -> AsyncIterator[FirestoreFlowStateStore]:
    settings = FlowStateSettings(**{**flow_state_settings.model_dump(), **LAYOUTS[request.param]})
    async with FirestoreFlowStateStore(settings) as store:
        yield store


@pytest.mark.parametrize(("flow", "answers", "result"), SHAPES, ids=lambda value: getattr(value, "name", ""))
async def test_a_flow_ends_as_in_memory(
    store: FirestoreFlowStateStore, flow: Flow[Any, Any], answers: dict[str, Any], result: Any
) -> None:
    """It ends so, also if a process dies after the third write, or after the last one of fewer."""
    in_memory = await simulate(flow, answers=answers)
    # Not by `simulate`: steps that take real time may share a write here that they do not share in memory.
    writes = Writes(None, min(3, in_memory.writes))
    simulation = await simulation_with(flow, UNSET, writes, answers=answers, store=store)

    assert simulation.error is None
    assert result == simulation.result
    assert [] == simulation.repeated


MAP = {"zebra": 1, "ant": {"y": 1, "ä": 2, "b": [{"q": 1, "c": 2}]}, "mole": 3, "": 4, "10": 5, "9": 6, "\U0001f40d": 7}


async def test_maps_reach_the_function_in_one_order(store: FirestoreFlowStateStore) -> None:
    """The first call has the order of each replay: in the native layout, whose maps have none, that of sorted keys."""
    given = {key or "e": value for key, value in MAP.items()} if store.settings.layout == "native" else MAP
    calls: list[list[str]] = []

    async def give() -> Any:
        return given

    async def describe(name: str) -> str:
        return f"about {name}"

    def here() -> tuple[Flows, Flow[Any, Any]]:
        flows = Flows(store)

        @flows.flow
        async def inner(run: Run) -> Any:
            return given

        @flows.flow
        async def zoo(run: Run, animals: dict[str, Any]) -> str:
            seen = [animals]
            seen.append(await run.step("any", give))
            seen.append(await run.options(result=dict[str, Any]).step("typed", give))
            seen += await run.map("each", lambda _: given, range(2))
            seen.append(await run.child("inner", inner))
            seen.append(await run.interrupt("ask"))
            order = [json.dumps(value) for value in seen]
            for name in seen[1]:
                await run.step("describe", describe, name)
            calls.append(order + await run.map("describe", describe, animals))
            await run.interrupt("go")
            await run.interrupt("go")
            return "".join(order)

        return flows, zoo

    flows, zoo = here()
    async with flows:
        handle = await flows.start(zoo, given, id="zoo")
        await handle.resume(given, step="ask")
        await until_blocked(handle, "go")
    flows, _ = here()
    async with flows:
        await flows.resume("zoo", 1, step="go")
        await until_blocked(flows.handle("zoo"), "go-1")
    flows, _ = here()
    async with flows:
        await flows.resume("zoo", 1, step="go-1")
        await flows.result("zoo", timeout=10)

    first, *replays = calls
    assert [first] * len(replays) == replays
    assert [json.dumps(given, sort_keys=store.settings.layout == "native")] * 7 == first[:7]
    assert len(replays) >= 2


async def until_blocked(handle: FlowHandle[Any], step: str) -> None:
    async for state in handle.watch():
        if state.blocked_on_step is not None and state.blocked_on_step.name == step:
            return
    raise AssertionError("the run has ended")


async def fail() -> None:
    raise ValueError("no")


OPERATIONS: dict[str, Callable[[Run, str], Awaitable[Any]]] = {
    "step": lambda run, name: run.step(name, fail),
    "retry": lambda run, name: run.options(retry=Retry(2, first=0)).step(name, fail),
    "once": lambda run, name: run.options(at_most_once=True).step(name, fail),
    "interrupt": lambda run, name: run.interrupt(name, bool),
    "show": lambda run, name: run.interrupt(name, bool, show=1),
    "sleep": lambda run, name: run.sleep(name, timedelta(days=1)),
}


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_name_that_utf8_cannot_hold_is_refused_at_once(store: FirestoreFlowStateStore, operation: str) -> None:
    """A lone surrogate is refused by the same error in each layout, whatever is named so."""
    flows = Flows(store)

    @flows.flow
    async def named(run: Run) -> None:
        await OPERATIONS[operation](run, "\ud800")

    refused = r"ValueError: '\\ud800' cannot be the name of a step: it contains a lone surrogate"
    with pytest.raises(FlowFailedError, match=refused):
        await asyncio.wait_for(flows.run(named, id="x"), 10)
    await flows.close()


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_run_ends_whatever_a_step_is_named(store: FirestoreFlowStateStore, operation: str) -> None:
    """The native layout cannot hold a key of 1,600 bytes, also not as that of a failed attempt or a wait."""
    flows = Flows(store)

    @flows.flow
    async def named(run: Run) -> None:
        await OPERATIONS[operation](run, "é" * 800)

    handle = await flows.start(named, id="x")
    if store.settings.layout != "native" and operation in ("interrupt", "show", "sleep"):
        await handle.cancel()
    with pytest.raises(FlowFailedError) as failed:
        await handle.result(timeout=10)
    await flows.close()

    if store.settings.layout == "native":
        about = f"the step '{'é' * 20}" if operation in ("step", "once", "show") else "What the run keeps of its steps"
        assert about in failed.value.error
        assert "ééé" in failed.value.error


async def test_a_run_is_cancelled_for_a_reason_of_any_length(store: FirestoreFlowStateStore) -> None:
    """Its driver cancels it too, and is told the reason by the inbox: the state has the reason twice then."""
    flows, began, go = Flows(store), asyncio.Event(), asyncio.Event()

    @flows.flow
    async def working(run: Run) -> None:
        await run.step("work", work)
        await run.step("more", asyncio.sleep, 0)  # before which the driver sees what others want

    async def work() -> None:
        began.set()
        await go.wait()

    handle = await flows.start(working, id="x")
    await began.wait()
    await handle.cancel("\ud800" + "x" * 600_000)
    go.set()
    with pytest.raises(FlowCancelledError) as cancelled:
        await handle.result(timeout=10)
    await flows.close()

    assert "\\ud800" + "x" * 3_994 + "…" == cancelled.value.reason


async def test_a_result_of_20_megabytes(store: FirestoreFlowStateStore) -> None:
    """Parts keep it. The native layout has none, so the run ends failed, and the error names the step."""
    flows = Flows(store)

    @flows.flow
    async def large(run: Run) -> int:
        await run.step("small", asyncio.sleep, 0, 1)
        return len(await run.step("large", lambda: "x" * 20_000_000))

    if store.settings.layout == "native":
        with pytest.raises(FlowFailedError, match="'large'"):
            await flows.run(large, id="x")
        state = await store.load("x")
        assert state is not None
        assert ["small"] == list(state.cache)
        assert "failed" == state.status
    else:
        assert 20_000_000 == await flows.run(large)
    await flows.close()


async def test_runs_in_parallel_with_answers_and_children(store: FirestoreFlowStateStore) -> None:
    """The dispatcher of one process drives ten runs at once."""
    flows = Flows(store)

    @flows.flow
    async def double(run: Run, number: int) -> int:
        return await run.step("double", lambda: 2 * number)

    @flows.flow
    async def parent(run: Run, number: int) -> int:
        one = await run.child("c", double, number)
        answer = await run.interrupt("more", int, timeout=timedelta(days=1))
        await run.sleep("nap", 0.01)
        return one + answer

    handles = [await flows.start(parent, number, id=f"x{number}") for number in range(10)]
    for handle in handles:
        await handle.resume(1, step="more")

    assert [2 * number + 1 for number in range(10)] == [await handle.result(timeout=20) for handle in handles]
    await flows.close()


async def test_a_run_of_2000_steps() -> None:
    """The steps, in sequence, take one write each, and one more."""
    store = CountingStore(MemoryFlowStateStore())
    flows = Flows(store)

    async def one(number: int) -> int:
        return number

    @flows.flow
    async def long(run: Run) -> int:
        return sum([await run.step("one", one, number) for number in range(2000)])

    assert 1999000 == await flows.run(long)
    assert 2001 == len(store.writes)
    await flows.close()
