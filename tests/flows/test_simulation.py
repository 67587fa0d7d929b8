"""Flows of many shapes end the same with a process that dies before or after each of their writes."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateQuery, MemoryFlowStateStore
from firestore_flowstate.flows import (
    Flow,
    FlowFailedError,
    Flows,
    Retry,
    Run,
    StepFailedError,
    WaitTimeoutError,
    current_run,
    current_step,
)
from firestore_flowstate.flows.driving import Drive
from firestore_flowstate.flows.record import ended_of
from firestore_flowstate.testing import crash_everywhere, simulate
from firestore_flowstate.testing.virtual_clock import VirtualClock

flows = Flows(MemoryFlowStateStore())


async def echo(value: Any) -> Any:
    return value


async def pause(value: Any, seconds: float) -> Any:
    await asyncio.sleep(seconds)
    return value


@flows.flow
async def sequence(run: Run) -> list[int]:
    return [await run.step("one", echo, number) for number in range(3)]


@flows.flow
async def mapped(run: Run) -> list[int]:
    return await run.map("one", echo, range(6), at_once=2)


@flows.flow
async def racing(run: Run) -> list[str]:
    """Branches that meet in a list: the order in which they reached it must be the same on a replay."""
    order: list[str] = []

    async def branch(name: str, seconds: float) -> None:
        for number in range(3):
            key = await run.step(f"{name}{number}", pause, f"{name}{number}", seconds)
            order.append(key)

    await asyncio.gather(branch("a", 0.003), branch("b", 0.001), branch("c", 0.002))
    await run.step("last", echo, 1)
    return order


@flows.flow
async def completed(run: Run) -> list[int]:
    steps = [run.step("s", pause, number, seconds) for number, seconds in enumerate((0.2, 0.0, 0.1))]
    return [await step for step in asyncio.as_completed(steps)]


@flows.flow
async def asking(run: Run) -> list[Any]:
    first = await run.step("first", echo, 1)
    answer = await run.interrupt("approve", int, show=first)
    return [first, answer, await run.step("last", echo, 3)]


@flows.flow
async def asking_many(run: Run) -> list[int]:
    async def ask(number: int) -> int:
        answer = await current_run().interrupt("ask", int)
        return await current_run().step("add", echo, answer + number)

    return await run.map("item", ask, range(3))


@flows.flow
async def asking_together(run: Run) -> list[int]:
    async def ask(name: str) -> int:
        answer = await run.interrupt(name, int)
        return await run.step("add", echo, answer)

    return list(await asyncio.gather(ask("a"), ask("b"), run.step("work", pause, 7, 0.002)))


@flows.flow
async def impatient(run: Run) -> str:
    try:
        return str(await run.interrupt("approve", int, timeout=timedelta(days=3)))
    except WaitTimeoutError:
        return await run.step("late", echo, "late")


@flows.flow
async def sleepy(run: Run) -> int:
    await run.sleep("short", 2)
    await run.sleep("long", timedelta(days=30))
    return await run.step("wake", echo, 1)


@flows.flow
async def double(run: Run, number: int) -> int:
    await run.sleep("nap", timedelta(hours=3))
    return await run.step("double", echo, 2 * number)


@flows.flow
async def family(run: Run) -> list[int]:
    one = await run.child("one", double, 1)
    rest = await asyncio.gather(run.child("two", double, 2), run.child("three", double, 3))
    return [one, *rest]


failures: dict[str, int] = {}


async def flaky(times: int) -> str:
    if current_step().attempt <= times:
        raise ConnectionError("try again")
    return f"attempt {current_step().attempt}"


@flows.flow
async def trying(run: Run) -> list[str]:
    near = await run.options(retry=Retry(3, first=1, jitter=False)).step("near", flaky, 2)
    far = await run.options(retry=Retry(3, first=3600, jitter=False, most=7200)).step("far", flaky, 2)
    return [near, far]


@flows.flow
async def failing(run: Run) -> None:
    try:
        await run.options(retry=Retry(2, first=0)).step("never", flaky, 9)
    except StepFailedError as error:
        raise ValueError(error.error) from error


@flows.flow
async def recording(run: Run) -> bool:
    return (await run.now()) <= (await run.now()) and run.uuid() != run.uuid()


@flows.flow
async def first_wins(run: Run) -> list[str]:
    tasks = [
        asyncio.ensure_future(run.step("slow", pause, "slow", 60)),
        asyncio.ensure_future(run.step("fast", pause, "fast", 0.001)),
    ]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return [*(task.result() for task in done), await run.step("last", echo, "last")]


SHAPES: list[tuple[Flow[Any, Any], dict[str, Any], Any]] = [
    (sequence, {}, [0, 1, 2]),
    (mapped, {}, [0, 1, 2, 3, 4, 5]),
    (completed, {}, [1, 2, 0]),
    (asking, {"approve": 2}, [1, 2, 3]),
    (asking_many, {"item/ask": 1, "item-1/ask": 1, "item-2/ask": 1}, [1, 2, 3]),
    (asking_together, {"a": 1, "b": 2}, [1, 2, 7]),
    (impatient, {}, "late"),
    (impatient, {"approve": 1}, "1"),
    (sleepy, {}, 1),
    (family, {}, [2, 4, 6]),
    (trying, {}, ["attempt 3", "attempt 3"]),
    (recording, {}, True),
    (first_wins, {}, ["fast", "last"]),
]


@pytest.mark.parametrize(("flow", "answers", "result"), SHAPES, ids=lambda value: getattr(value, "name", ""))
async def test_a_flow_ends_the_same_whatever_write_its_process_dies_at(
    flow: Flow[Any, Any], answers: dict[str, Any], result: Any
) -> None:
    """The result is the same, and no step with a stored result is executed again."""
    simulations = await crash_everywhere(flow, answers=answers)

    assert result == simulations[0].result
    assert 2 * simulations[0].writes + 1 == len(simulations)


@flows.flow
async def result_that_differs(run: Run) -> int:
    await run.step("one", echo, 1)
    return next(chance)


@flows.flow
async def steps_that_differ(run: Run) -> None:
    await run.step(f"s{next(chance)}", echo, 1)
    await run.step("last", echo, 2)


@flows.flow
async def interrupts_that_differ(run: Run) -> None:
    await run.step(f"s{next(chance)}", echo, 1)
    await run.interrupt("approve", int)


@flows.flow
async def inside_of_a_child(run: Run) -> None:
    await run.child("c", steps_that_differ)


chance = itertools.count()
DRIFTING: list[tuple[Flow[Any, Any], str]] = [
    (result_that_differs, r"^with a crash before write 1 of 2, result_that_differs\nreturns 1\n  instead of\nreturns"),
    (steps_that_differ, r"^with a crash after write 2 of 3, steps_that_differ does not come to s\d again, "),
    (interrupts_that_differ, r"^without a crash, interrupts_that_differ does not come to s\d again, "),
    (inside_of_a_child, r"inside_of_a_child does not come to c:s\d again, "),
]


@pytest.mark.parametrize(("flow", "what"), DRIFTING, ids=lambda value: getattr(value, "name", ""))
async def test_code_between_the_steps_that_differs_is_found(
    monkeypatch: pytest.MonkeyPatch, flow: Flow[Any, Any], what: str
) -> None:
    """`crash_everywhere` fails, and says at which write, and how the run ended or which steps were not asked for."""
    monkeypatch.setattr(sys.modules[__name__], "chance", itertools.count())

    with pytest.raises(AssertionError, match=what):
        await crash_everywhere(flow, answers={"approve": 1})


async def test_a_step_that_runs_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """`crash_everywhere` fails if a stored result is not used."""
    monkeypatch.setattr(Drive, "recorded", lambda drive, key, *_: drive._asked.add(key))

    with pytest.raises(AssertionError, match="repeats one, whose results were stored"):
        await crash_everywhere(sequence)


async def test_branches_replay_in_the_order_in_which_they_ran() -> None:
    """Whatever was stored before the crash comes first, in its order."""
    calm = await simulate(racing)
    for number in range(1, calm.writes + 1):
        try:
            simulation = await simulate(racing, crash_after_write=number)
        except ValueError:  # steps that take real time may end together, and share a write
            assert number > 3
            continue
        stored = [key for key in simulation.state.cache if key != "last"]
        by_order = sorted(stored, key=lambda key: simulation.state.cache[key].n)

        assert by_order == simulation.result


async def test_a_flow_that_fails_fails_the_same() -> None:
    """The error is that of the record."""
    simulations = await crash_everywhere(failing)

    assert isinstance(simulations[0].error, FlowFailedError)
    assert "ValueError: try again" == simulations[0].error.error


async def test_simulations_at_once_leave_each_other_alone() -> None:
    """What one of them ends, or loses in a crash, is its own: not what the others or the test have started."""
    goes_on, others = asyncio.Event(), list[asyncio.Task[Any]]()

    async def begin_tasks() -> None:
        while not goes_on.is_set():
            others.append(asyncio.create_task(goes_on.wait()))
            await asyncio.sleep(0.001)

    beginning = asyncio.create_task(begin_tasks())
    simulations = await asyncio.gather(
        simulate(sequence),
        *(simulate(racing, crash_after_write=number) for number in (1, 2, 3, 2, 1)),
        simulate(racing),
    )
    goes_on.set()
    await asyncio.gather(beginning, *others)

    assert [0, 1, 2] == simulations[0].result
    assert [9] * 6 == [len(simulation.result) for simulation in simulations[1:]]
    assert asyncio.get_running_loop().get_task_factory() is None


async def test_days_are_not_waited_for() -> None:
    """The clock moves to what comes next."""
    began = time.monotonic()
    simulation = await simulate(sleepy)

    assert 1 == simulation.result
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("crash", ["crash_before_write", "crash_after_write"])
async def test_a_crash_at_a_write_that_never_comes_is_an_error(crash: str) -> None:
    """A test whose process never died would prove nothing. The last write is one at which it dies."""
    writes = (await simulate(sequence)).writes

    assert [0, 1, 2] == (await simulate(sequence, **{crash: writes})).result
    with pytest.raises(ValueError, match=f"{crash} is 999, and the run made only {writes} writes: there was no crash"):
        await simulate(sequence, **{crash: 999})


async def test_what_nobody_answers_is_named() -> None:
    """The simulation names the open waits. Its result and error are None."""
    simulation = await simulate(asking)

    assert ["approve"] == simulation.waits_for
    assert (None, None) == (simulation.result, simulation.error)
    assert ["first"] == simulation.steps


async def test_the_fixtures_simulate(
    flows_memory: Any, flows_emulator: Any, flow_state_store: FirestoreFlowStateStore
) -> None:
    """One fixture simulates in memory, and one on the emulator, in the collection of another fixture."""
    assert [0, 1, 2] == (await flows_memory(sequence)).result
    assert 0 == await flow_state_store.count()
    assert [1, 2, 3] == (await flows_emulator(asking, answers={"approve": 2})).result
    assert 1 == await flow_state_store.count()


@flows.flow
async def orphaned(run: Run) -> str:
    try:
        return await run.child("c", asking)
    except FlowFailedError as error:
        return error.error


async def test_a_child_that_was_deleted_is_noticed() -> None:
    """It never knocks, so it is looked at after an hour, and then each day."""
    store = MemoryFlowStateStore()
    others = Flows(store)
    others._engine.flows.update(flows._engine.flows)
    clock = VirtualClock()
    others._engine.clock = clock
    await others.start(orphaned, id="x")
    of_x = FlowStateQuery(where={"parent": "x"})
    while not (children := (await store.list_summaries(of_x)).summaries):  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.01)
    [child] = children
    for id in ("x", child.id):
        while "owner" in (await loaded(store, id)).operation.metadata["run"]:  # noqa: ASYNC110  # until it is suspended
            await asyncio.sleep(0.01)
    await store.delete(child.id)
    before = clock.now()
    while ended_of(state := await loaded(store)) is None:
        clock.advance()
        await asyncio.sleep(0.05)

    assert "is gone" in state.operation.result.response
    assert 3_600_000 <= clock.now() - before < 2 * 3_600_000
    await others.close()


async def loaded(store: MemoryFlowStateStore, id: str = "x") -> Any:
    return await store.load(id)


BAD_VARIABLES = {
    "FLOWSTATE_PAGE_SIZE": "0",
    "FLOWSTATE_CODECS": "x",
    "FIRESTORE_EMULATOR_HOST": "8080",
}
OTHER_SETTINGS = {
    "FLOWSTATE_LAYOUT": "native",
    "FLOWSTATE_EXPIRE_AFTER": "0.000001",
    "FLOWSTATE_EXPIRE_WHEN": "always",
    "FLOWSTATE_MAX_REQUEST_BYTES": "65536",
}


@pytest.mark.parametrize("variables", [BAD_VARIABLES, OTHER_SETTINGS], ids=["bad", "other"])
async def test_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    """A simulation ends alike on every machine, whatever a developer has set there for something else."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    first, *others = await crash_everywhere(sequence)

    assert [0, 1, 2] == first.result
    assert others


def test_suites_are_loaded_in_any_environment() -> None:
    """Their samples are flows over a store, which has the default settings."""
    code = "from firestore_flowstate.testing import FlowsTests"
    environment = {**os.environ, **BAD_VARIABLES}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)

    assert (0, "") == (ran.returncode, ran.stderr)
