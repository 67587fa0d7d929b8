"""Workers that look for the same runs keep out of each other's way."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import pytest

from firestore_flowstate import FlowState, MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run, current_run
from firestore_flowstate.flows.record import record_of
from tests.flows.test_closing import Nobody

RUNS = 2_000  # so that the few claims that are lost at first are less than 1% of all


class FarStore(MemoryFlowStateStore):
    """A store whose answers take a moment, in which others do what they like. It counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Counter[str]()

    async def load(self, *arguments: Any, **options: Any) -> Any:
        self.calls["loads"] += 1
        await asyncio.sleep(0.002)
        return await super().load(*arguments, **options)

    async def update(self, *arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.002)
        return await super().update(*arguments, **options)

    async def due(self, *arguments: Any, **options: Any) -> Any:
        found = await super().due(*arguments, **options)
        self.calls["due"] += len(found)
        return found


@pytest.fixture
def store() -> FarStore:
    return FarStore()


async def make_due(store: FarStore, count: int, **record: Any) -> None:
    """Have so many runs be due, all within a second or so."""
    for number in range(count):
        state = FlowState.start(name="one")
        state.wakeAt = round(state.start_time) + number  # type: ignore[attr-defined]
        state.operation.metadata = {"run": record}
        await store.create(f"x{number}", state)


async def test_few_claims_are_lost(store: FarStore) -> None:
    """Four workers that begin at once lose at most 5% of all claims, and drive each run once.

    They lose about 17 claims at first, when all of them look at the same runs, and 2% of the claims from then on.
    """
    ran, events = Counter[str](), Counter[str]()
    await make_due(store, RUNS)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            flows = await stack.enter_async_context(Flows(store))
            flows._engine.telemetry.event = lambda what, /, **_: events.update([what])  # type: ignore[method-assign]  # which counts them

            @flows.flow
            async def one(run: Run) -> None:
                ran[run.id] += 1

            await stack.enter_async_context(flows.worker(poll=0.01))
        while len(ran) < RUNS:  # noqa: ASYNC110  # workers fill it
            await asyncio.sleep(0.01)

    assert {1} == set(ran.values())
    assert events["claim.lost"] <= RUNS / 20


async def test_what_nobody_may_take_over_yet_is_not_asked_for_all_the_time(store: FarStore) -> None:
    """Runs whose driver has died are due, and busy for a while: each is loaded once in that time."""
    await make_due(store, 60, owner="somebody")
    async with Flows(store) as flows:

        @flows.flow
        async def one(run: Run) -> None: ...

        async with flows.worker(poll=0.05):
            while store.calls["loads"] < 60:  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.01)
            before = store.calls["due"]
            await asyncio.sleep(0.6)  # about 12 polls of the worker

    assert 60 == store.calls["loads"]
    assert store.calls["due"] - before <= 60 * 14


async def test_a_run_that_another_worker_had_claimed_is_taken_when_it_is_due_again(store: FarStore) -> None:
    """It is passed over only for as long as nobody has moved it."""
    await make_due(store, 1, owner="somebody")
    ran = asyncio.Event()
    async with Flows(store, dispatcher=Nobody()) as flows:

        @flows.flow
        async def one(run: Run) -> None:
            ran.set()

        async with flows.worker(poll=0.05):
            while not store.calls["loads"]:  # noqa: ASYNC110  # no event tells of it
                await asyncio.sleep(0.01)
            operation = (await MemoryFlowStateStore.load(store, "x0")).operation
            operation.metadata = {"run": {}}
            moved = flows._engine.clock.now()
            await store.update("x0", operation=operation, extra={"wakeAt": moved})
            await asyncio.wait_for(ran.wait(), 3)


class HeldStore(MemoryFlowStateStore):
    """A store whose updates take until they are let through."""

    def __init__(self) -> None:
        super().__init__()
        self.updating = asyncio.Event()
        self.let = asyncio.Event()

    async def update(self, *arguments: Any, **options: Any) -> Any:
        self.updating.set()
        await self.let.wait()
        return await super().update(*arguments, **options)


async def test_a_run_that_is_claimed_while_the_worker_closes_is_handed_over() -> None:
    """It is handed over before a step of it begins, which the end of the worker would cut off after 10 s."""
    store, began = HeldStore(), list[str]()
    flows = Flows(store, dispatcher=Nobody())

    @flows.flow
    async def one(run: Run) -> None:
        await run.step("long", long)

    async def long() -> None:
        began.append(str(current_run().id))
        await asyncio.Event().wait()

    state = FlowState.start(name="one")
    state.wakeAt = round(state.start_time)  # type: ignore[attr-defined]
    await store.create("x", state)
    stack = AsyncExitStack()
    await stack.enter_async_context(flows.worker(poll=0.01))
    await asyncio.wait_for(store.updating.wait(), 5)
    closing = asyncio.ensure_future(stack.aclose())
    await asyncio.sleep(0.01)  # in which the worker is told to close
    store.let.set()
    await closing
    stored = await store.load("x")

    assert [] == began
    assert stored is not None
    assert record_of(stored).owner is None
    assert not record_of(stored).fruitless


async def test_a_worker_begins_nothing_more_when_its_process_is_to_end(store: FarStore) -> None:
    """From a SIGTERM on it neither looks nor claims, and it goes on if the flows are entered again."""
    flows, ran = Flows(store, dispatcher=Nobody()), list[str]()

    @flows.flow
    async def one(run: Run) -> None:
        ran.append(run.id)

    async with flows, flows.worker(poll=0.01):
        flows._hand_over()  # what the handler of SIGTERM does
        await make_due(store, 5)
        await asyncio.sleep(0.1)  # in which it would look several times
        begun = [*ran]
        async with flows:
            while len(ran) < 5:  # noqa: ASYNC110  # the worker fills it
                await asyncio.sleep(0.01)

    assert [] == begun


async def test_what_a_worker_has_found_is_left_when_its_process_is_to_end(store: FarStore) -> None:
    """Runs that it has found and not begun are not claimed, and those that it drives are handed over once."""
    flows, began = Flows(store, dispatcher=Nobody()), asyncio.Event()
    ran = Counter[str]()

    @flows.flow
    async def one(run: Run) -> None:
        ran[run.id] += 1
        began.set()
        await run.step("long", asyncio.sleep, 0.05)
        await run.step("next", asyncio.sleep, 0)

    await make_due(store, 20)
    async with flows, flows.worker(at_once=4, poll=0.01):
        await asyncio.wait_for(began.wait(), 5)
        flows._hand_over()  # what the handler of SIGTERM does
        await asyncio.sleep(0.2)  # in which the drives are handed over, and their runs are due again
    states = [state for number in range(20) if (state := await store.load(f"x{number}")) is not None]

    assert 20 == len(states)
    assert 4 >= len(ran)
    assert {1} == set(ran.values())
    assert not any(record_of(state).fruitless or record_of(state).owner for state in states)
