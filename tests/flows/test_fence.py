"""The fence: lost replies, writers in between, and drivers that were taken over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FlowState, FlowStateEncodeError, FlowStateExecution
from firestore_flowstate.flows import FlowFailedError, Flows, Run, StepInterruptedError, WaitTimeoutError, current_step
from firestore_flowstate.flows.record import ended_of, record_of, wake_at
from firestore_flowstate.testing.durability.host import HostClock
from tests.flows.counting_store import CountingStore, Fault, lost_after, lost_before
from tests.flows.test_background import moved_on
from tests.flows.test_waits import blocked

Update = Callable[[], Awaitable[str]]


async def echo(value: int) -> int:
    return value


def abandoned(name: str, **record: Any) -> FlowState:
    """Return the state of a run whose driver died long ago."""
    state = FlowState.start(name=name)
    state.operation.metadata = {"run": {"owner": "dead", "drives": 1, "began": 1, **record}}
    state.executions = [FlowStateExecution(start_time=1, trace_ids=[])]
    state.wakeAt = 1
    return state


def three_steps(flows: Flows) -> None:
    @flows.flow
    async def three(run: Run) -> list[int]:
        return [await run.step("one", echo, number) for number in range(3)]


@pytest.mark.parametrize("fault", [lost_before, lost_after])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_write_whose_reply_is_lost_is_looked_for(
    flows: Flows, store: CountingStore, fault: Fault, number: int
) -> None:
    """The run goes on whether the write was committed or not, and each step runs once."""
    three_steps(flows)
    store.faults[number] = fault

    assert [0, 1, 2] == await flows.run(flows._engine.flows["three"])


async def test_a_last_write_that_lands_late_is_not_taken_for_another_one(flows: Flows, store: CountingStore) -> None:
    """The run was to be suspended, and ends before that write lands: it is driven again, and ends then."""
    clock = flows._engine.clock = HostClock()
    late, returned = list[Update](), asyncio.Event()

    @flows.flow
    async def sleeping(run: Run) -> int:
        await run.sleep("nap", 10)
        returned.set()
        return 7

    async def delayed(update: Update) -> str:
        late.append(update)
        clock.move(10)
        await returned.wait()
        return await lost_before(update)

    async def behind(update: Update) -> str:
        await late.pop()()
        return await update()

    store.faults = {1: delayed, 2: behind}
    running = asyncio.ensure_future(flows.run(sleeping, id="x"))
    await asyncio.wait_for(returned.wait(), 30)
    while flows._engine.drives:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)

    await asyncio.wait_for(moved_on(clock, store, "x"), 30)
    assert [] == late
    assert 7 == await running
    state = await store.load("x")
    assert ("done", None, ["nap"]) == (ended_of(state), wake_at(state), list(state.cache))


async def test_a_driver_that_was_taken_over_records_nothing(flows: Flows, store: CountingStore) -> None:
    """The driver's steps are cancelled, and the drive returns busy."""
    cancelled = asyncio.Event()

    @flows.flow
    async def long(run: Run) -> int:
        async def wait() -> int:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return 1

        return await run.step("wait", wait)

    await flows.start(long, id="x")
    await asyncio.sleep(0.01)  # in which the step begins
    drive = flows._engine.drives["x"]
    async with store.edit("x") as state:
        state.operation.metadata["run"]["owner"] = "another"
    writes = len(store.writes)
    drive.poke()
    await asyncio.wait_for(cancelled.wait(), 5)
    while "x" in flows._engine.drives:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)

    assert writes == len(store.writes)
    assert "busy" == await flows.drive("x")


async def test_an_answer_in_the_middle_of_a_suspension_goes_on(flows: Flows, store: CountingStore) -> None:
    """The commit meets a conflict, and the run goes on in memory."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    async def answer_first(update: Update) -> str:
        await store.store.update("x", events_triggered={"a": 7})
        return await update()

    store.faults[1] = answer_first

    assert 7 == await flows.run(asking, id="x")
    assert 1 == record_of(await store.load("x")).drives


async def test_an_answer_that_comes_before_the_timeout_is_durable_wins(flows: Flows, store: CountingStore) -> None:
    """An answer whose `resume` has succeeded is what the interrupt returns."""

    @flows.flow
    async def asking(run: Run) -> int:
        try:
            return await run.interrupt("a", int, timeout=0.02)
        except WaitTimeoutError:
            return 0

    async def answer_first(update: Update) -> str:
        await store.store.update("x", events_triggered={"a": 7})
        return await update()

    store.faults[1] = answer_first

    assert 7 == await flows.run(asking, id="x")


async def test_the_timeout_is_durable_before_the_function_sees_it(flows: Flows, store: CountingStore) -> None:
    """The run takes no answer after that."""
    seen: list[bool] = []

    @flows.flow
    async def asking(run: Run) -> None:
        try:
            await run.interrupt("a", int, timeout=0.02)
        except WaitTimeoutError:
            seen.append("a" in (await store.load("x")).cache)

    await flows.run(asking, id="x")

    assert [True] == seen


async def test_what_a_blind_save_takes_back_is_put_back(flows: Flows, store: CountingStore) -> None:
    """Genkit JS saves the state that it has loaded, without what came since."""

    @flows.flow
    async def two(run: Run) -> int:
        await run.step("one", echo, 1)

        async def save_blindly() -> int:
            state = await store.load("x")
            del state.cache["one"]
            for key in list(state.model_extra):
                delattr(state, key)
            await store.store.save("x", state)
            return 2

        return await run.step("two", save_blindly)

    assert 2 == await flows.run(two, id="x")
    assert ["one", "two"] == sorted((await store.load("x")).cache)


@pytest.mark.parametrize("driven", [True, False], ids=["while it is driven", "while it waits"])
async def test_a_child_whose_parent_a_blind_save_drops_still_knocks(
    flows: Flows, store: CountingStore, driven: bool
) -> None:
    """Genkit JS drops keys that it does not know. The parent gets the result, and lists the child again."""

    async def save_blindly() -> None:
        state = await store.load("y")
        for key in list(state.model_extra):
            delattr(state, key)
        await store.store.save("y", state)

    @flows.flow
    async def child(run: Run) -> int:
        if driven:
            await run.step("save", save_blindly)
        return await run.interrupt("a", int)

    @flows.flow
    async def parent(run: Run) -> int:
        return await run.child("child", child, id="y")

    await flows.start(parent, id="x")
    while (await store.load("y")) is None:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)
    await blocked(store, "y")
    await blocked(store, "x")
    if not driven:
        await save_blindly()
    await flows.resume("y", 7)

    assert 7 == await flows.result("x", timeout=5)
    assert "x" == (await store.load("y")).model_extra["parent"]


async def test_a_child_wakes_a_parent_whose_lease_a_blind_save_has_dropped(flows: Flows, store: CountingStore) -> None:
    """An owner without wakeAt holds nothing, and its process may be dead. No sweep would find such a parent."""

    @flows.flow
    async def child(run: Run) -> int:
        return await run.interrupt("a", int)

    @flows.flow
    async def parent(run: Run) -> int:
        return await run.child("child", child, id="y")

    await flows.start(parent, id="x")
    await blocked(store, "x")
    await blocked(store, "y")
    state = await store.load("x")
    state.operation.metadata["run"]["owner"] = "dead"
    del state.wakeAt
    await store.store.save("x", state)

    async def woken() -> FlowState:
        async for state in flows.handle("x").watch():
            if wake_at(state) is not None:
                return state
        raise AssertionError

    await flows.resume("y", 7)

    assert {"child": {"child": "y"}} == (await asyncio.wait_for(woken(), 5)).events_triggered


async def test_a_result_that_was_changed_and_is_lost_is_written_again_as_it_was(
    flows: Flows, store: CountingStore
) -> None:
    """The function may change what a replay gives it. What is stored never follows."""

    async def made() -> Any:
        return [1]

    async def drop() -> None:
        state = await store.load("x")
        del state.cache["made"]
        await store.store.save("x", state)

    @flows.flow
    async def changing(run: Run) -> Any:
        numbers = await run.step("made", made)
        numbers.append(2)
        await run.interrupt("ask", bool)
        await run.step("drop", drop)
        return numbers

    await flows.start(changing, id="x")
    await blocked(store, "x")
    await flows.resume("x", True)

    assert [1, 2] == await flows.result("x", timeout=5)
    assert [1] == (await store.load("x")).cache["made"].value


async def test_a_value_that_the_store_refuses_ends_the_run_and_nothing_else(flows: Flows, store: CountingStore) -> None:
    """The others of the group are kept. The error names the step."""

    @flows.flow
    async def group(run: Run) -> list[int]:
        return list(await asyncio.gather(*(run.step(f"s{number}", echo, number) for number in range(3))))

    async def refuse(update: Update) -> str:
        raise FlowStateEncodeError("too large", path='cache["s1"].value')

    store.faults[1] = refuse
    with pytest.raises(FlowFailedError, match="'s1'"):
        await flows.run(group, id="x")
    state = await store.load("x")

    assert ["s0", "s2"] == sorted(state.cache)
    assert "failed" == state.status


async def test_no_step_begins_behind_the_lease(store: CountingStore) -> None:
    """A write must first extend the lease. A driver that nobody has taken over from goes on."""
    flows = Flows(store, lease=timedelta(seconds=1))
    began_at_write: list[int] = []

    @flows.flow
    async def slow(run: Run) -> None:
        async def step() -> None:
            began_at_write.append(len(store.writes))

        time.sleep(1.1)  # noqa: ASYNC251  # the mistake under test
        await run.step("a", step)

    await flows.run(slow, id="x")
    await flows.close()

    assert [2] == began_at_write
    assert 1 == record_of(await store.load("x")).drives


async def test_at_most_once_never_begins_twice(flows: Flows, store: CountingStore) -> None:
    """The intent is stored before the step begins. A later drive that finds it raises StepInterruptedError."""
    began: list[int] = []

    async def charge() -> int:
        began.append(len(store.writes))
        return 1

    @flows.flow
    async def once(run: Run) -> str:
        try:
            return str(await run.options(at_most_once=True).step("charge", charge))
        except StepInterruptedError as error:
            return error.step

    assert "1" == await flows.run(once, id="x")
    assert [2] == began

    await store.create("y", abandoned("once", intents=["charge"]))  # as if it had died in between

    assert "done" == await flows.drive("y")
    assert "charge" == await flows.result("y")
    assert 1 == len(began)


async def test_a_retry_of_the_run_begins_a_step_at_most_once_again(flows: Flows, store: CountingStore) -> None:
    """Whoever retries the run has looked by then whether the step was done."""
    began: list[int] = []

    @flows.flow
    async def once(run: Run) -> None:
        await run.options(at_most_once=True).step("charge", began.append, 1)

    await store.create("x", abandoned("once", intents=["charge"]))
    assert "failed" == await flows.drive("x")
    with pytest.raises(FlowFailedError, match="StepInterruptedError: The step 'charge' of the run 'x' was begun"):
        await flows.result("x")
    assert [] == began
    await flows.retry("x")

    await flows.result("x", timeout=5)
    assert [1] == began


async def test_a_retry_of_a_cancelled_run_begins_a_step_at_most_once_again(flows: Flows, store: CountingStore) -> None:
    """The run has no failure of the step, only its intent: its driver died in it, and then the run was cancelled."""
    began: list[int] = []

    @flows.flow
    async def once(run: Run) -> None:
        await run.options(at_most_once=True).step("charge", began.append, 1)

    await store.create("x", abandoned("once", intents=["charge"]))
    await flows.cancel("x")
    await flows.retry("x")

    await flows.result("x", timeout=5)
    assert [1] == began


async def test_what_a_crash_cut_off_is_not_a_failed_attempt(flows: Flows, store: CountingStore) -> None:
    """The next attempt has the same number. The next drive first writes which steps it is about to begin."""
    attempts: list[int] = []
    trying: list[list[str]] = []

    @flows.flow
    async def one(run: Run) -> None:
        async def note() -> None:
            attempts.append(current_step().attempt)
            trying.append((await store.load("x")).operation.metadata["run"]["trying"])

        await run.step("note", note)

    await store.create("x", abandoned("one"))

    assert "done" == await flows.drive("x")
    assert [1] == attempts
    assert [["note"]] == trying


async def test_a_run_whose_drives_die_is_given_up(store: CountingStore) -> None:
    """The error names the steps that were about to begin."""
    flows = Flows(store, max_recoveries=2)

    @flows.flow
    async def one(run: Run) -> None: ...

    await store.create("x", abandoned("one", recoveries=2, trying=["a"]))

    assert "failed" == await flows.drive("x")
    assert "tried a" in (await store.load("x")).operation.result.error


@pytest.mark.parametrize(
    ("recoveries", "outcome", "error"),
    [(9, "done", None), (10, "failed", "given up: 11 drives in a row died or recorded nothing")],
)
async def test_a_run_is_taken_over_ten_times(
    flows: Flows, store: CountingStore, recoveries: int, outcome: str, error: str | None
) -> None:
    """Unless `max_recoveries` says otherwise, it fails after eleven crashes in a row without a new result."""

    @flows.flow
    async def one(run: Run) -> None: ...

    await store.create("x", abandoned("one", recoveries=recoveries))

    assert outcome == await flows.drive("x")
    result = (await store.load("x")).operation.result
    assert error == (None if result is None else result.error)
    assert 60_000 == flows._engine.lease


async def test_a_run_whose_drives_die_after_a_new_result_goes_on(store: CountingStore) -> None:
    """Takeovers are counted in a row: each result lets the count begin anew."""
    flows = Flows(store, max_recoveries=2)

    @flows.flow
    async def many(run: Run) -> int:
        return sum([await run.step("one", echo, number) for number in range(30)])

    await store.create("x", abandoned("many"))
    for results in range(1, 6):
        drive = asyncio.ensure_future(flows.drive("x"))
        while len((await store.load("x")).cache) < results and not drive.done():  # noqa: ASYNC110
            await asyncio.sleep(0)  # only the store knows
        drive.cancel()
        await asyncio.gather(drive, return_exceptions=True)
        async with store.edit("x") as state:
            assert not state.operation.done
            state.operation.metadata["run"]["owner"], state.wakeAt = "dead", 1

    assert "done" == await flows.drive("x")
    assert 435 == await flows.result("x", timeout=5)


async def test_the_error_of_a_run_that_is_given_up_has_a_bound(store: CountingStore) -> None:
    """It is 4,000 characters, however many steps were about to begin."""
    flows = Flows(store, max_recoveries=2)

    @flows.flow
    async def one(run: Run) -> None: ...

    await store.create("x", abandoned("one", recoveries=2, trying=[f"item-{number}" for number in range(1_000)]))

    assert "failed" == await flows.drive("x")
    assert 4_000 + len("…") == len((await store.load("x")).operation.result.error)


async def test_an_entry_of_genkit_fits(flows: Flows, store: CountingStore) -> None:
    """An entry without n is returned when it is asked for, by an operation of any kind. An empty one is None."""

    @flows.flow
    async def taken(run: Run) -> list[int | None]:
        first = await run.step("first", echo, 1)
        await run.sleep("nap", timedelta(days=3))
        return [first, await run.step("second", echo, 2)]

    state = FlowState.start(name="taken", flow_id="x")
    state.cache.update({"first": CacheEntry(value=10), "nap": CacheEntry(empty=True)})
    await store.create("x", state)

    assert "done" == await flows.drive("x")
    assert [10, 2] == await flows.result("x")
