"""Replay: results reach the function in the order in which they first did, and a changed code is noticed."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FlowState, MemoryFlowStateStore
from firestore_flowstate.copies import collecting_copies
from firestore_flowstate.flows import Flow, FlowFailedError, Flows, Run, current_run
from firestore_flowstate.flows.gate import PASSES, Gate
from firestore_flowstate.flows.image import image_of
from firestore_flowstate.flows.json_round_trip import Values
from firestore_flowstate.testing import Simulation, simulate

flows = Flows(MemoryFlowStateStore())
delays = random.Random(7)


async def after(value: Any) -> Any:
    """Return the value after a pause of another length each time."""
    await asyncio.sleep(delays.choice((0, 0, 0.0005, 0.001)))
    return value


@flows.flow
async def gathered(run: Run) -> list[str]:
    order: list[str] = []

    async def branch(name: str) -> None:
        for _ in range(4):
            order.append(await run.step(name, after, name))  # noqa: PERF401  # others append in between

    await asyncio.gather(*(branch(name) for name in "abcd"))
    return order


@flows.flow
async def completed(run: Run) -> list[int]:
    order = []
    for done in asyncio.as_completed([run.step("s", after, number) for number in range(6)]):
        order.append(await done)
        order.append(await run.step("then", after, order[-1] + 10))
    return order


@flows.flow
async def completed_tasks(run: Run) -> list[int]:
    """Tasks that are made first keep their order; of coroutines `as_completed` makes tasks in any order."""
    order = []

    async def branch(number: int) -> int:
        return number + await run.step("s", after, 10 * number)

    for done in asyncio.as_completed([asyncio.ensure_future(branch(number)) for number in range(6)]):
        order.append(await done)
        order.append(await run.step(f"then-{order[-1]}", after, order[-1]))
    return order


@flows.flow
async def raced(run: Run) -> list[str]:
    """In each round the first branch wins, and the name of the next step depends on it."""
    order: list[str] = []
    for round in range(4):
        tasks = {asyncio.ensure_future(run.step(f"{round}{name}", after, name)) for name in "abc"}
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        winner = min(task.result() for task in done)
        order.append(await run.step(f"win-{winner}-of", after, winner))
    return order


@flows.flow
async def queued(run: Run) -> list[str]:
    """Producers put into a queue what a consumer takes."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    order: list[str] = []

    async def produce(name: str) -> None:
        for _ in range(3):
            await queue.put(await run.step(name, after, name))

    async def consume() -> None:
        for _ in range(9):
            taken = await queue.get()
            order.append(await run.step(f"took-{taken}", after, taken))

    await asyncio.gather(consume(), *(produce(name) for name in "abc"))
    return order


@flows.flow
async def in_background(run: Run) -> list[str]:
    """A task that begins before the first step, and is awaited at the end."""
    order: list[str] = []

    async def behind() -> None:
        order.append("began")
        for number in range(3):
            order.append(await run.step("behind", after, f"behind {number}"))  # noqa: PERF401  # as above

    task = asyncio.ensure_future(behind())
    for number in range(3):
        order.append(await run.step("front", after, f"front {number}"))  # noqa: PERF401  # as above
    await task
    return order


@flows.flow
async def nested_map(run: Run) -> list[list[str]]:
    order: list[str] = []

    async def item(name: str) -> list[str]:
        for _ in range(2):
            order.append(await current_run().step("inner", after, name))  # noqa: PERF401  # as above
        return list(order)

    return await run.map("item", item, "abcd", at_once=3)


@flows.flow
async def seen_by_others(run: Run) -> list[str]:
    """Only the flow's own task calls steps, and what other tasks have made of the results decides which is next."""
    stages: list[asyncio.Queue[int]] = [asyncio.Queue() for _ in range(7)]
    total, order = 0, []

    async def pass_on(taken: asyncio.Queue[int], given: asyncio.Queue[int]) -> None:
        while True:
            await given.put(await taken.get())

    async def add() -> None:
        nonlocal total
        while True:
            total += await stages[-1].get()

    others = [asyncio.ensure_future(pass_on(*each)) for each in itertools.pairwise(stages)]
    others.append(asyncio.ensure_future(add()))
    for number in range(1, 6):
        await stages[0].put(await run.step("fetch", after, number))
        order.append(await run.step(f"at-{total}", after, f"{number}: {total}"))
        await stages[0].put(sum(await run.map("each", after, [10, 100], at_once=2)))
        order.append(await run.step(f"then-{total}", after, f"{number}, then: {total}"))
    for task in others:
        task.cancel()
    return order


@flows.flow
async def beside_a_map(run: Run) -> list[str]:
    """A map and a step of another branch end at the same time."""
    order: list[str] = []

    async def items(name: str) -> None:
        await run.map(name, soon, range(3), at_once=3)
        order.append(await run.step(f"{name}-after-{len(order)}", soon, name))

    async def one(name: str) -> None:
        await run.step(name, soon, name)
        order.append(await run.step(f"{name}-after-{len(order)}", soon, name))

    await asyncio.gather(one("a"), items("b"), one("c"), items("d"), one("e"))
    return order


async def soon(value: Any) -> Any:
    await asyncio.sleep(0.001)
    return value


SHAPES = [gathered, completed, completed_tasks, raced, queued, in_background, nested_map, seen_by_others, beside_a_map]


@pytest.mark.parametrize("flow", SHAPES, ids=lambda flow: flow.name)
async def test_a_replay_asks_for_the_same_and_returns_the_same(flow: Flow[Any, Any]) -> None:
    """A drive over all that is recorded gives the same result, and executes nothing."""
    for _ in range(10):
        store = MemoryFlowStateStore()
        first = await simulate(flow, store=store)
        again = await run_again(flow, first)

        assert first.result == again


async def run_again(flow: Flow[Any, Any], first: Simulation) -> Any:
    """Return what the flow returns over the memo of a run that has ended."""
    store = MemoryFlowStateStore()
    others = Flows(store)
    others._engine.flows.update(flows._engine.flows)
    state = first.state
    state.operation.done = False
    state.operation.metadata = {"run": {"began": 1, "drives": 1}}
    state.operation.__pydantic_fields_set__.discard("result")
    items = list(state.cache.items())
    random.shuffle(items)  # native maps have no order
    state.cache = dict(items)
    await store.save(state.flow_id, state)
    before = await store.count()
    await others.drive(state.flow_id)
    assert before == await store.count()
    return await others.result(state.flow_id)


@pytest.mark.parametrize("flow", SHAPES, ids=lambda flow: flow.name)
async def test_what_was_recorded_before_a_crash_comes_first(flow: Flow[Any, Any]) -> None:
    """A run that goes on after a crash, and a replay of all that it has recorded, end the same."""
    calm = await simulate(flow)
    for number in range(1, calm.writes + 1, 3):
        try:
            simulation = await simulate(flow, crash_after_write=number)
        except ValueError:  # steps that take real time may end together, and share a write
            assert number > 1
            continue

        assert [] == simulation.repeated
        assert simulation.result == await run_again(flow, simulation)


@flows.flow
async def far_and_near(run: Run) -> list[str]:
    """What a branch makes of its result takes 80 passes, and the result of the other branch comes in the meantime."""
    order: list[str] = []
    is_there = asyncio.Event()

    async def deep(depth: int) -> None:
        await (asyncio.gather(deep(depth - 1)) if depth else run.step("far", set_there))

    async def set_there() -> None:
        is_there.set()

    async def branch(name: str, work: Awaitable[Any]) -> None:
        await work
        order.append(name)

    await asyncio.gather(branch("far", deep(40)), branch("near", run.step("near", is_there.wait)))
    order.append(await run.step(f"first-{order[0]}", soon, order[0]))
    return order


async def test_a_result_may_go_a_long_way_on_a_loop_that_shows_what_is_about_to_run() -> None:
    """The next result waits for it, on the first call as on a replay."""
    first = await simulate(far_and_near)

    assert ["far", "near", "far"] == first.result
    assert ["far", "near", "far"] == await run_again(far_and_near, first)


def on_loop(loop: asyncio.AbstractEventLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_replays_are_the_same_on_uvloop() -> None:
    """The passes of its loop are shorter, and callbacks come in another order."""

    async def main() -> None:
        for flow in SHAPES:
            await test_a_replay_asks_for_the_same_and_returns_the_same(flow)

    import uvloop  # not every Python has it at once

    on_loop(uvloop.new_event_loop(), main)


def test_a_task_that_was_just_made_shows_itself_on_a_loop_with_a_queue_of_its_own() -> None:
    """Loops such as those of Qt inherit the queue of asyncio's loop and leave it empty."""

    class Loop(asyncio.SelectorEventLoop):
        def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
            return self.call_later(0, callback, *args, context=context)

    shown: list[int] = []

    async def show() -> None:
        shown.append(1)

    async def main() -> None:
        gate = Gate(asyncio.get_running_loop(), lambda: None)
        gate.expect([1])
        task = asyncio.ensure_future(show())
        await gate.pass_through(1)
        assert [1] == shown
        await task

    on_loop(Loop(), main)


def test_one_task_alone_waits_for_no_more_than_a_pass_on_such_a_loop() -> None:
    """Twenty passes after each result would make a replay three times as long."""
    import uvloop  # not every Python has it at once

    async def main() -> None:
        gate, ticks = Gate(asyncio.get_running_loop(), lambda: None), itertools.count()
        gate.expect([1, 2])

        def tick() -> None:
            next(ticks)
            asyncio.get_running_loop().call_soon(tick)

        async def function() -> None:
            await gate.pass_through(1)
            assert next(ticks) < PASSES
            other = asyncio.ensure_future(asyncio.sleep(60))
            await gate.pass_through(2)
            assert next(ticks) >= PASSES
            other.cancel()

        tick()
        await asyncio.ensure_future(function())

    on_loop(uvloop.new_event_loop(), main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_replays_are_the_same_with_eager_tasks() -> None:
    """A task begins before create_task has returned."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,arg-type]

    async def main() -> None:
        for flow in SHAPES:
            await test_a_replay_asks_for_the_same_and_returns_the_same(flow)

    on_loop(loop, main)


async def test_only_the_next_item_of_a_map_follows_at_once() -> None:
    """All other results wait for what the one before has set going: that one may have been the last of its map."""
    loop = asyncio.get_running_loop()
    gate, passes, came = Gate(loop, lambda: None), 0, {}
    gate.straight = False
    gate.expect(range(1, 7))
    one, other = object(), object()

    def count() -> None:
        nonlocal passes
        passes += 1
        if len(came) < 6:
            loop.call_soon(count)

    async def ask(n: int, series: object | None) -> None:
        await gate.pass_through(n, series=series)
        came[n] = passes

    count()
    await asyncio.gather(*(ask(n, series) for n, series in enumerate((one, one, other, other, None, one), start=1)))

    waited = [came[n + 1] - came[n] for n in range(1, 6)]
    assert [False, True, False, True, True] == [each >= PASSES for each in waited]


async def test_another_kind_under_a_key_is_noticed() -> None:
    """What is recorded is never taken for the result of an operation of another kind."""

    @Flows(MemoryFlowStateStore()).flow
    async def before(run: Run) -> None:
        await run.step("a", after, 1)

    first = await simulate(before)
    here = Flows(MemoryFlowStateStore())

    @here.flow(name="before")
    async def changed(run: Run) -> None:
        await run.sleep("a", 1)

    first.state.operation.done = False
    first.state.operation.metadata = None
    await here.store.save("x", first.state)
    await here.drive("x")
    with pytest.raises(FlowFailedError, match="FlowCodeChangedError"):
        await here.result("x")


async def test_two_branches_with_one_name_are_noticed() -> None:
    """If the order in which they ask differs, the arguments do."""
    here = Flows(MemoryFlowStateStore())
    flip = [False]

    @here.flow
    async def twins(run: Run) -> None:
        names = ["a", "b"][:: -1 if flip[0] else 1]
        await asyncio.gather(*(ask(run, name) for name in names))

    async def ask(run: Run, name: str) -> None:
        await run.step("same", after, name)

    first = await simulate(twins)
    flip[0] = True
    first.state.operation.done = False
    first.state.operation.metadata = None
    await here.store.save("x", first.state)
    await here.drive("x")
    with pytest.raises(FlowFailedError, match="other arguments"):
        await here.result("x")


async def test_steps_may_be_added_and_removed(caplog: pytest.LogCaptureFixture) -> None:
    """Names are the keys. What was never asked for is a warning."""
    here = Flows(MemoryFlowStateStore())

    @here.flow
    async def first(run: Run) -> None:
        await run.step("gone", after, 1)
        await run.step("kept", after, 1)

    simulation = await simulate(first)
    there = Flows(MemoryFlowStateStore())

    @there.flow(name="first")
    async def second(run: Run) -> list[int]:
        return [await run.step("new", after, 2), await run.step("kept", after, 3)]

    simulation.state.operation.done = False
    simulation.state.operation.metadata = None
    await there.store.save("x", simulation.state)
    await there.drive("x")

    assert [2, 1] == await there.result("x")
    assert "gone" in caplog.text


@pytest.mark.parametrize("tells", [True, False], ids=["a store with copies", "a store without"])
@pytest.mark.parametrize("value", [[1], {"a": [1]}, [math.inf, None], {"a": "\ud800"}])
async def test_a_recorded_result_is_given_as_it_was_however_often(value: Any, tells: bool) -> None:
    """An attempt that follows another asks again for what is inside, and the one before may have changed it."""
    store = MemoryFlowStateStore()
    await store.save("x", FlowState.start())
    await store.update("x", cache={"step": CacheEntry(value=value, n=1)})
    with collecting_copies() as copies:
        state = await store.load("x")
    assert state is not None
    image = image_of("x", state, copier=copies.of(state) if tells else None)

    lost_before = image.lost({})["step"]
    image.result("step", lost_before, Any, Values()).clear()
    assert value == lost_before.value  # which is to be written again
    first = image.result("step", image.cache["step"], Any, Values())
    assert value == first
    first.clear()
    second = image.result("step", image.cache["step"], Any, Values())
    assert value == second
    second.clear()

    assert value == image.result("step", image.cache["step"], Any, Values())
    assert value == image.lost({})["step"].value
