"""Promises of the design of flows that no other test is about."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from firestore_flowstate import BlockedOnStep, FlowState, FlowStateExecution, MemoryFlowStateStore
from firestore_flowstate._memory_records import RecordedAs
from firestore_flowstate.flows import (
    DispatchError,
    FlowFailedError,
    Flows,
    InvalidPayloadError,
    NotWaitingError,
    Retry,
    Run,
    StepInterruptedError,
    current_run,
    current_step,
    doctor,
)
from firestore_flowstate.flows.checkpoint import Checkpoint
from firestore_flowstate.flows.record import record_of, wake_at
from firestore_flowstate.testing.durability.host import HostClock
from tests.flows.counting_store import CountingStore, lost_before
from tests.flows.test_closing import NoTasks
from tests.flows.test_fence import abandoned
from tests.flows.test_waits import blocked


async def echo(value: Any) -> Any:
    return value


async def test_the_last_100_stretches_are_kept(flows: Flows, store: CountingStore) -> None:
    """A run that wakes each minute for a year stays small."""

    @flows.flow
    async def idle(run: Run) -> None: ...

    state = FlowState.start(name="idle", flow_id="x")
    state.executions = [FlowStateExecution(start_time=number, trace_ids=[]) for number in range(100)]
    await store.create("x", state)
    assert "done" == await flows.drive("x")

    executions = (await store.load("x")).executions
    assert [1, 99] == [executions[0].start_time, executions[-2].start_time]
    assert 100 == len(executions)


async def test_a_sweep_goes_past_what_nobody_here_can_drive(flows: Flows, store: CountingStore) -> None:
    """More than a page of runs of other flows, due for longer, starve nobody."""

    @flows.flow
    async def known(run: Run) -> int:
        return 5

    for number in range(310):
        state = FlowState.start(name="unknown", flow_id=f"u{number}")
        state.wakeAt = number
        await store.create(f"u{number}", state)
    state = FlowState.start(name="known", flow_id="x")
    state.wakeAt = 1000
    await store.create("x", state)

    assert 1 == await flows.sweep()
    assert 5 == await flows.result("x", timeout=5)


async def test_a_replay_is_told_and_has_the_same_start(flows: Flows, store: CountingStore) -> None:
    """`is_replaying` holds until the first operation without a result. `started_at` is when the run first began."""
    seen: list[tuple[bool, bool, datetime]] = []

    @flows.flow
    async def asking(run: Run) -> None:
        before = run.is_replaying
        await run.step("echo", echo, 1)
        await run.interrupt("number", int)
        seen.append((before, run.is_replaying, run.started_at))
        await run.interrupt("another", int)
        seen.append((before, run.is_replaying, run.started_at))

    handle = await flows.start(asking, id="x")
    await blocked(store, "x", on="number")
    await handle.resume(1)
    await blocked(store, "x", on="another")
    await handle.resume(2)
    await handle.result(timeout=5)

    assert [(True, False), (True, True), (True, False)] == [each[:2] for each in seen]
    assert 1 == len({each[2] for each in seen})


async def test_a_uuid_is_the_same_on_every_replay(flows: Flows, store: CountingStore) -> None:
    """It is made of the run's id and the key, so that no process and no release makes another one of them."""
    seen: list[list[str]] = []

    @flows.flow
    async def making(run: Run) -> None:
        seen.append([run.uuid(), run.uuid(), run.uuid("order")])
        await run.interrupt("number", int)

    handle = await flows.start(making, id="x")
    await blocked(store, "x")
    await handle.resume(1)
    await handle.result(timeout=5)

    expected = [
        "683dfe8a-7dd6-5d8e-be84-48dfd31cf2c1",
        "458a5ace-7a8f-565d-8c42-f217500be5ff",
        "f2f385cf-78b3-52d1-a044-36139f0430fd",
    ]
    assert [expected, expected] == seen
    assert ["number"] == list((await store.load("x")).cache)


async def test_there_is_neither_a_run_nor_a_step_outside_of_one(flows: Flows) -> None:
    """The error is a LookupError. A flow is inside of a run, and not inside of a step."""

    def inside() -> list[str]:
        return [current_run().id, current_step().run_id, current_step().key]

    @flows.flow
    async def looking(run: Run) -> list[str]:
        with pytest.raises(LookupError, match="outside of a step"):
            current_step()
        return [current_run().id, *await run.step("inside", inside)]

    assert ["x", "x", "x", "inside"] == await flows.run(looking, id="x")
    with pytest.raises(LookupError, match="outside of a run"):
        current_run()
    with pytest.raises(LookupError, match="outside of a step"):
        current_step()


async def test_a_line_of_a_run_says_which_run_it_is_of(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    """Its record has the id and the name of the flow, also if a step logs it from its thread."""
    caplog.set_level("INFO")

    @flows.flow(name="talking")
    async def talk(run: Run) -> None:
        run.log.info("in the flow")
        await run.step("talk", lambda: current_run().log.info("in the step"))

    await flows.run(talk, id="x")

    records = [vars(record) for record in caplog.records if record.name == "firestore_flowstate.flows.run"]
    assert [("in the flow", "x", "talking"), ("in the step", "x", "talking")] == [
        (record["message"], record["flow_id"], record["flow"]) for record in records
    ]


async def test_progress_is_stored_within_a_second(
    flows: Flows, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits neither for the step that lasts nor for another one."""
    goes_on = asyncio.Event()
    loop = asyncio.get_running_loop()
    call_later, asked = loop.call_later, list[float]()

    def noting(seconds: float, callback: Any, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        if isinstance(getattr(callback, "__self__", None), Checkpoint):
            asked.append(seconds)
            seconds = 0
        return call_later(seconds, callback, *arguments, **options)

    @flows.flow
    async def working(run: Run) -> None:
        run.progress(percent=50)
        await run.step("long", goes_on.wait)

    async def shown() -> FlowState:
        async for state in handle.watch():
            if "percent" in (state.model_extra or {}):
                return state
        raise AssertionError

    monkeypatch.setattr(loop, "call_later", noting)
    handle = await flows.start(working, id="x")

    assert {} == (await asyncio.wait_for(shown(), 10)).cache
    assert [1.0] == asked
    goes_on.set()
    await handle.result(timeout=5)


@pytest.mark.parametrize("begins_with", ["a step", "an interrupt", "a step that is tried again"])
async def test_a_replay_stores_no_progress_and_logs_nothing(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture, begins_with: str
) -> None:
    """What others have made of a scalar meanwhile stays, and no line comes twice."""
    caplog.set_level("INFO", "firestore_flowstate.flows.run")

    async def flaky() -> None:
        if current_step().attempt == 1:
            raise ConnectionError

    @flows.flow
    async def working(run: Run) -> None:
        run.progress(stage="begun")
        run.log.info("begun")
        if begins_with == "a step":
            await run.step("one", echo, 1)
            run.progress(stage="drafts")
        if begins_with == "a step that is tried again":
            await run.options(retry=Retry(2, first=3600, jitter=False)).step("flaky", flaky)
        else:
            await run.interrupt("number", int)
        run.progress(percent=100)
        run.log.info("ends")

    handle = await flows.start(working, id="x")
    await blocked(store, "x")
    assert {"stage": "drafts" if begins_with == "a step" else "begun"} == {
        key: value for key, value in (await store.load("x")).model_extra.items() if key != "wakeAt"
    }
    await store.update("x", extra={"stage": "changed by others"})
    if begins_with == "a step that is tried again":
        flows._engine.clock = later = HostClock()
        later.move(3700)
        assert "done" == await asyncio.wait_for(flows.drive("x"), 30)
    else:
        await handle.resume(1)
    await handle.result(timeout=5)

    assert {"stage": "changed by others", "percent": 100} == (await store.load("x")).model_extra
    assert ["begun", "ends"] == caplog.messages


@pytest.mark.parametrize(
    "record", [{}, {"intents": ["one"]}, {"retries": {"one": {"attempts": 1, "error": "", "next": 1}}}]
)
async def test_a_step_that_an_earlier_drive_has_begun_shows_a_replay(
    flows: Flows, store: CountingStore, record: dict[str, Any]
) -> None:
    """The record knows of it if the step is tried again, or begins at most once. It knows of no other."""
    seen: list[bool] = []

    @flows.flow
    async def working(run: Run) -> None:
        seen.append(run.is_replaying)
        with suppress(StepInterruptedError):
            await run.options(at_most_once="intents" in record).step("one", echo, 1)
        seen.append(run.is_replaying)

    await store.create("x", abandoned("working", **record))

    assert "done" == await flows.drive("x")
    assert [bool(record), False] == seen


async def test_a_sweep_dispatches_no_more_than_its_limit(store: CountingStore) -> None:
    """Those that have been due for longest come first."""
    dispatched: list[str] = []

    class Noting:
        async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
            dispatched.append(id)

        async def close(self) -> None: ...

    flows = Flows(store, dispatcher=Noting())

    @flows.flow
    async def known(run: Run) -> None: ...

    for number in (3, 1, 2, 0):
        state = FlowState.start(name="known")
        state.wakeAt = 1000 + number
        await store.create(f"x{number}", state)

    assert 3 == await flows.sweep(limit=3)
    assert ["x0", "x1", "x2"] == dispatched
    assert 4 == await flows.sweep(limit=5)


@pytest.mark.parametrize("refuses", [None, "x03"])
async def test_a_sweep_makes_eight_tasks_at_a_time(store: CountingStore, refuses: str | None) -> None:
    """A queue takes its time for each. One that it refuses ends the sweep, when those beside it are made."""
    begun: list[str] = []
    ended: list[str] = []
    most = 0

    class Slow:
        async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
            nonlocal most
            begun.append(id)
            most = max(most, len(begun) - len(ended))
            await asyncio.sleep(0.01)
            ended.append(id)
            if id == refuses:
                raise DispatchError("refused")

        async def close(self) -> None: ...

    flows = Flows(store, dispatcher=Slow())

    @flows.flow
    async def known(run: Run) -> None: ...

    for number in range(20):
        state = FlowState.start(name="known")
        state.wakeAt = 1000 + number
        await store.create(f"x{number:02}", state)

    if refuses is None:
        assert 20 == await flows.sweep()
    else:
        with pytest.raises(DispatchError):
            await flows.sweep()
    assert 8 == most
    assert [f"x{number:02}" for number in range(20 if refuses is None else 8)] == begun
    assert sorted(begun) == sorted(ended)


async def test_results_in_hand_are_tried_for_ten_minutes(store: CountingStore) -> None:
    """Then the run is left to its lease: the drive records nothing more, and another one begins the step again."""
    flows = Flows(store, dispatcher=NoTasks())
    clock = flows._engine.clock = HostClock()
    began, tried_at = list[float](), list[float]()

    async def work() -> int:
        began.append(clock.seconds)
        return len(began)

    @flows.flow
    async def working(run: Run) -> int:
        return await run.step("work", work)

    async def fails(update: Callable[[], Awaitable[str]]) -> str:
        tried_at.append(clock.seconds - began[0])
        clock.jump(599 if len(tried_at) == 1 else 2)
        return await lost_before(update)

    await flows.start(working, id="x")
    store.faults = {2: fails, 3: fails}  # the first update is the claim

    assert "busy" == await asyncio.wait_for(flows.drive("x"), 30)
    assert [0, 599] == tried_at
    state = await store.load("x")
    assert ({}, True) == (state.cache, record_of(state).owner is not None)
    assert "done" == await flows.drive("x")
    assert 2 == await flows.result("x")


@pytest.mark.parametrize(("minutes", "kinds"), [(2, []), (4, ["late_run"])])
def test_a_run_that_no_sweep_finds_is_late_after_three_minutes(minutes: int, kinds: list[str]) -> None:
    """It is due and has no wakeAt. Of another flow that is written now and then the doctor tells after three days."""
    now = datetime.now(timezone.utc)
    run, other = FlowState.start(name="run"), FlowState.start(name="other")
    run.operation.metadata = {"run": {}}
    for state in (run, other):
        state.executions = [FlowStateExecution(trace_ids=[])]
        state._note_stored(RecordedAs("version", updated_at=now - timedelta(minutes=minutes), expire_at=None))
    runs = doctor._Runs(None)

    assert kinds == [finding.kind for finding in runs.look("x", run, now)]
    assert [] == list(runs.look("y", other, now))


async def test_a_run_knows_the_version_of_the_code_that_started_it() -> None:
    """Code of another version goes on with the run, and sees the first version."""
    store = MemoryFlowStateStore()
    old, new = Flows(store, version="1"), Flows(store, version="2")
    for flows in (old, new):

        @flows.flow
        async def asking(run: Run) -> str | None:
            await run.interrupt("number", int)
            return run.version

    await old.start("asking", id="x")
    await blocked(CountingStore(store), "x")
    await new.resume("x", 1)

    assert "1" == await new.result("x", timeout=5)
    await old.close()
    await new.close()


async def test_a_run_is_not_suspended_while_any_look_at_its_child_is_under_way(
    flows: Flows, store: CountingStore
) -> None:
    """The child may knock in the moment in which its time has come: nobody else follows that knock."""
    looks, gate = 0, asyncio.Event()

    @flows.flow
    async def childish(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def parental(run: Run) -> int:
        first = await run.interrupt("first", int)
        return first + await run.child("child", childish, id="child")

    handle = await flows.start(parental, id="x")
    await blocked(store, "x", on="first")
    load = store.load

    async def gated(id: str, **options: Any) -> Any:
        nonlocal looks
        state = await load(id, **options)
        if id == "child" and "x" in flows._engine.drives:
            looks += 1
            if looks == 2:
                await gate.wait()
        return state

    store.load = gated  # type: ignore[method-assign]  # of this object alone
    await handle.resume(1)
    while (drive := flows._engine.drives.get("x")) is None or "child" not in drive.waits.open:  # noqa: ASYNC110  # as below
        await asyncio.sleep(0)
    drive.waits.look_at_child(drive.waits.open["child"])
    drive.waits.look_at_child(drive.waits.open["child"])
    while looks < 2:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not drive.is_over
    gate.set()
    await blocked(store, "x", on="child")
    await flows.resume("child", 2)

    assert 3 == await handle.result(timeout=5)


DRAFT_07 = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"words": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}},
    "additionalProperties": False,
}


async def test_an_answer_is_checked_by_the_draft_that_the_schema_names(flows: Flows, store: CountingStore) -> None:
    """Genkit JS writes draft-07, in which a list of items is what later drafts call prefixItems."""
    state = FlowState.start(name="js", flow_id="x")
    state.executions = [FlowStateExecution(start_time=1, trace_ids=[])]
    state.blocked_on_step = BlockedOnStep(name="approve", schema=json.dumps(DRAFT_07))
    await store.create("x", state)

    with pytest.raises(InvalidPayloadError, match="words/1: \"two\" is not of type 'integer'"):
        await flows.resume("x", {"words": ["one", "two"]})
    await flows.resume("x", {"words": ["one", 2]})
    assert {"approve": {"words": ["one", 2]}} == (await store.load("x")).events_triggered


OF_JAVASCRIPT = "^(?<year>[0-9]{4})$"
"""A named group as JavaScript has it, which Python cannot compile."""


@pytest.mark.parametrize(
    ("schema", "fits", "other"),
    [
        ({"type": "string", "pattern": OF_JAVASCRIPT}, "2030", 2030),
        ({"type": "object", "properties": {"year": {"pattern": OF_JAVASCRIPT}}}, {"year": "2030"}, "2030"),
        (
            {"patternProperties": {OF_JAVASCRIPT: {}, "^n": {"type": "number"}}, "additionalProperties": False},
            {"2030": 1, "n": 1},
            {"n": "1"},
        ),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "properties": {"next": {"$ref": "#"}},
                "patternProperties": {OF_JAVASCRIPT: {"type": "number"}},
                "unevaluatedProperties": False,
                "type": "object",
            },
            {"next": {"2030": 1}},
            {"next": 5},
        ),
    ],
    ids=["alone", "inside", "of names", "by reference"],
)
async def test_a_pattern_that_python_cannot_compile_is_passed_over(
    flows: Flows, store: CountingStore, schema: Any, fits: Any, other: Any
) -> None:
    """Others write schemas too. All else in such a schema is checked."""
    state = FlowState.start(name="js", flow_id="x")
    state.blocked_on_step = BlockedOnStep(name="approve", schema=json.dumps(schema))
    await store.create("x", state)

    with pytest.raises(InvalidPayloadError, match="does not fit"):
        await flows.resume("x", other)
    await flows.resume("x", fits)
    assert {"approve": fits} == (await store.load("x")).events_triggered


async def test_a_pattern_of_pydantics_own_syntax_is_checked_by_the_interrupt(
    flows: Flows, store: CountingStore
) -> None:
    """Its expressions know classes of Unicode, which Python's do not."""

    class Person(BaseModel):
        name: str = Field(pattern=r"^\p{L}+$")

    @flows.flow
    async def asking(run: Run) -> str:
        try:
            return (await run.interrupt("who", Person)).name
        except InvalidPayloadError:
            return (await run.interrupt("who again", Person)).name

    handle = await flows.start(asking, id="x")
    await blocked(store, "x", on="who")
    await handle.resume({"name": "5"})
    await blocked(store, "x", on="who again")
    await handle.resume({"name": "Zoë"})

    assert "Zoë" == await handle.result(timeout=5)


@pytest.mark.parametrize(
    "schema",
    ['{"type": "strin"}', "5", '{"properties": 5}', '{"minimum": "3"}', '{"pattern": 5}', '{"$ref": "#"}', "{"],
)
async def test_what_is_not_a_schema_refuses_every_answer(flows: Flows, store: CountingStore, schema: str) -> None:
    """The error says so. It is one of the answer, since the schema was stored: it is input."""
    state = FlowState.start(name="js", flow_id="x")
    state.blocked_on_step = BlockedOnStep(name="approve", schema=schema)
    await store.create("x", state)

    answer: Any = {"a": 1} if "properties" in schema else "a" if "pattern" in schema else 5
    with pytest.raises(InvalidPayloadError, match="The schema that the run 'x' stores for 'approve' cannot be used"):
        await flows.resume("x", answer)
    assert {} == (await store.load("x")).events_triggered


class Even(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _is_even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("it is odd")
        return n


async def test_what_the_schema_does_not_say_is_checked_by_the_interrupt(flows: Flows, store: CountingStore) -> None:
    """An answer that the model's own validator refuses is taken by `resume`, and the flow gets the error."""

    @flows.flow
    async def asking(run: Run) -> int:
        try:
            return (await run.interrupt("even", Even)).n
        except InvalidPayloadError:
            return (await run.interrupt("even again", Even)).n

    handle = await flows.start(asking, id="x")
    await blocked(store, "x", on="even")
    with pytest.raises(InvalidPayloadError, match="does not fit"):
        await handle.resume({"n": "three"})
    await handle.resume({"n": 3})
    await blocked(store, "x", on="even again")
    await handle.resume({"n": 4})

    assert 4 == await handle.result(timeout=5)


class Aliased(BaseModel):
    word_count: int = Field(alias="wordCount")


async def test_models_are_stored_by_their_aliases(flows: Flows, store: CountingStore) -> None:
    """Inputs, results and answers have them, as other languages write them."""

    async def count(given: Aliased) -> Aliased:
        return given

    @flows.flow
    async def counting(run: Run, input: Aliased) -> Aliased:
        await run.step("count", count, input)
        return await run.interrupt("more", Aliased)

    handle = await flows.start(counting, Aliased(wordCount=1), id="x")
    await blocked(store, "x")
    await handle.resume(Aliased(wordCount=2))

    assert Aliased(wordCount=2) == await handle.result(timeout=5)
    state = await store.load("x")
    assert {"wordCount": 1} == state.input == state.cache["count"].value
    assert {"wordCount": 2} == state.events_triggered["more"] == state.operation.result.response


async def test_what_is_asked_is_shown_while_others_work(flows: Flows, store: CountingStore) -> None:
    """The state is blocked, and has an owner. Once the answer is recorded it is not blocked any more."""
    go_on = asyncio.Event()

    async def work() -> int:
        await go_on.wait()
        return 1

    @flows.flow
    async def asking(run: Run) -> list[int]:
        return list(await asyncio.gather(run.interrupt("number", int), run.step("work", work)))

    handle = await flows.start(asking, id="x")
    async for state in handle.watch():
        if state.blocked_on_step is not None:
            break
    assert ("number", "blocked") == (state.blocked_on_step.name, state.status)
    assert record_of(state).owner is not None
    await handle.resume(2)
    async for state in handle.watch():
        if state.blocked_on_step is None:
            break
    assert "running" == state.status
    go_on.set()

    assert [2, 1] == await handle.result(timeout=5)


async def test_a_pause_of_more_than_30_seconds_suspends(flows: Flows, store: CountingStore) -> None:
    """The run is woken for the next attempt, and takes no answer in its place."""

    @flows.flow
    async def failing(run: Run) -> None:
        await run.options(retry=Retry(2, first=31, jitter=False)).step("divide", lambda: 1 / 0)

    await flows.start(failing, id="x")
    await blocked(store, "x")

    state = await store.load("x")
    [wait] = record_of(state).waits.values()
    assert ("retry", wait.until) == (wait.kind, wake_at(state))
    assert {"divide": 1} == {key: each["attempts"] for key, each in record_of(state).retries.items()}
    with pytest.raises(NotWaitingError, match="waits for the next attempt of a step"):
        await flows.resume("x", 1, step="divide")


async def test_a_pause_of_less_than_30_seconds_is_in_the_process(flows: Flows, store: CountingStore) -> None:
    """The run keeps its owner, and no wait is stored."""

    @flows.flow
    async def failing(run: Run) -> None:
        await run.options(retry=Retry(2, first=29, jitter=False)).step("divide", lambda: 1 / 0)

    handle = await flows.start(failing, id="x")
    async for state in handle.watch():
        if record_of(state).retries:
            break

    record = record_of(state)
    assert ("running", {}) == (state.status, record.waits)
    assert record.owner is not None


async def test_a_result_is_stored_10_ms_after_it_is_there(
    flows: Flows, store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits neither for the next step nor for the end of those beside it."""
    goes_on = asyncio.Event()
    loop = asyncio.get_running_loop()
    call_later, asked = loop.call_later, list[float]()

    def noting(seconds: float, callback: Any, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        if isinstance(getattr(callback, "__self__", None), Checkpoint):
            asked.append(seconds)
        return call_later(seconds, callback, *arguments, **options)

    @flows.flow
    async def beside(run: Run) -> None:
        await asyncio.gather(run.step("quick", echo, 1), run.step("long", goes_on.wait))

    monkeypatch.setattr(loop, "call_later", noting)
    handle = await flows.start(beside, id="x")
    async for state in handle.watch():
        if "quick" in state.cache:
            break
    assert 0.010 == min(asked)

    goes_on.set()
    await handle.result(timeout=5)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups are new in Python 3.11")
async def test_a_task_group_of_which_two_fail_goes_on_after_one_retry(flows: Flows) -> None:
    """The errors are found in the group that ended the run, or were recorded and not seen."""
    is_mended = False

    async def fragile(number: int) -> int:
        if not is_mended:
            raise ValueError(number)
        return number

    @flows.flow
    async def grouped(run: Run) -> int:
        group = getattr(asyncio, "TaskGroup")()  # noqa: B009  # the types of Python 3.10 do not have it
        async with group:
            tasks = [group.create_task(run.step("item", fragile, number)) for number in range(3)]
        return sum(task.result() for task in tasks)

    with pytest.raises(FlowFailedError, match="ExceptionGroup"):
        await flows.run(grouped, id="x")
    is_mended = True
    await flows.retry("x")

    assert 3 == await flows.result("x", timeout=5)
