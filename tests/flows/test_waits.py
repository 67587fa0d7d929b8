"""Waits: nothing runs while a run waits, and answers, times and children have it go on."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator
from typing_extensions import TypedDict

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows import (
    DispatchError,
    Flow,
    FlowCancelledError,
    FlowFailedError,
    Flows,
    InvalidPayloadError,
    NotWaitingError,
    Retry,
    Run,
    StepFailedError,
    UnknownFlowError,
    WaitTimeoutError,
    current_run,
)
from firestore_flowstate.flows.record import record_of, wake_at
from firestore_flowstate.testing import simulate
from tests.flows.counting_store import CountingStore, lost_after


class Approval(BaseModel):
    ok: bool


class Fussy(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        known: dict[str, str] = {}
        return known[name]


async def echo(value: str) -> str:
    return value


async def blocked(store: CountingStore, id: str, *, on: str | None = None) -> None:
    """Return when the run is suspended, on this step if one is given."""
    while True:
        state = await store.load(id)
        is_suspended = state.status == "blocked" and "owner" not in state.operation.metadata["run"]
        if is_suspended and on in (None, state.blocked_on_step.name):
            return
        await asyncio.sleep(0.001)


async def asked(store: CountingStore, id: str, *, step: str | None = None) -> None:
    """Return when the stored run shows an interrupt, this one if it is named, suspended or not."""
    while True:
        blocked_on = (await store.load(id)).blocked_on_step
        if blocked_on is not None and step in (None, blocked_on.name):
            return
        await asyncio.sleep(0.001)


async def test_an_interrupt_suspends_and_an_answer_goes_on(flows: Flows, store: CountingStore) -> None:
    """The run has neither an owner nor a wake time while it waits. The state shows what is asked."""

    @flows.flow
    async def asking(run: Run) -> bool:
        return (await run.interrupt("approve", Approval, show={"words": 3})).ok

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    state = await store.load("x")

    assert "approve" == state.blocked_on_step.name
    assert "boolean" in state.blocked_on_step.schema_
    assert {"words": 3} == state.cache["approve/show"].value
    assert {} == state.model_extra
    assert 2 == len(store.writes)

    await flows.resume("x", Approval(ok=True))

    assert await handle.result(timeout=5) is True


async def test_an_answer_that_does_not_fit_is_refused(flows: Flows, store: CountingStore) -> None:
    """Nothing is written."""

    @flows.flow
    async def asking(run: Run) -> bool:
        return (await run.interrupt("approve", Approval)).ok

    await flows.start(asking, id="x")
    await blocked(store, "x")
    writes = len(store.writes)
    with pytest.raises(InvalidPayloadError):
        await flows.resume("x", {"ok": "perhaps"})

    assert writes == len(store.writes)


async def test_the_same_key_again_is_a_success(flows: Flows, store: CountingStore) -> None:
    """Another answer is refused."""

    @flows.flow
    async def asking(run: Run) -> int:
        first = await run.interrupt("first")
        await run.interrupt("second")
        return int(first)

    await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.resume("x", 1, step="first", key="k")
    await flows.resume("x", 2, step="first", key="k")
    with pytest.raises(NotWaitingError, match="'first' of the run 'x' was answered already, or has a result"):
        await flows.resume("x", 3, step="first")


async def test_an_answer_to_another_step_names_those_that_are_asked_for(flows: Flows, store: CountingStore) -> None:
    """The error names ten of them."""

    @flows.flow
    async def asking(run: Run) -> None:
        await run.interrupt("first")
        await asyncio.gather(*(run.interrupt("more") for _ in range(12)))

    await flows.start(asking, id="x")
    await flows.resume("x", step="first")
    await blocked(store, "x", on="more")
    with pytest.raises(
        NotWaitingError, match=r"The run waits for an answer to 'more', 'more-1', .*'more-9' and 2 more\."
    ):
        await flows.resume("x", step="first")


async def test_an_answer_whose_reply_is_lost_is_known_again(flows: Flows, store: CountingStore) -> None:
    """So is NaN, which is not equal to itself."""

    @flows.flow
    async def asking(run: Run) -> bool:
        return math.isnan(await run.interrupt("number", float))

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    store.faults = {store.updates + 1: lost_after}
    await flows.resume("x", math.nan)

    assert await handle.result(timeout=5) is True


async def test_an_answer_whose_reply_is_lost_is_known_in_any_order(flow_state_settings: FlowStateSettings) -> None:
    """Firestore's maps have no order: a native answer comes back with its keys in another one."""
    settings = flow_state_settings.model_copy(update={"layout": "native"})
    answer = {f"key-{number}": {"b": number, "a": [math.nan]} for number in range(20)}
    async with FirestoreFlowStateStore(settings) as native:
        store = CountingStore(native)
        flows = Flows(store)

        @flows.flow
        async def asking(run: Run) -> int:
            return len(await run.interrupt("map", dict[str, Any]))

        async with flows:
            handle = await flows.start(asking, id="x")
            await blocked(store, "x")
            store.faults = {store.updates + 1: lost_after}
            await flows.resume("x", answer, step="map")

            assert 20 == await handle.result(timeout=30)


async def test_an_answer_that_does_not_fit_is_shown_as_json(flows: Flows, store: CountingStore) -> None:
    """The error shows 100 characters of the value, and its path unless it is the whole answer."""

    @flows.flow
    async def asking(run: Run) -> dict[str, int]:
        return await run.interrupt("numbers", dict[str, int])

    await flows.start(asking, id="x")
    await blocked(store, "x")
    for answer, said in (
        (None, "does not fit: null is not of type 'object'"),
        ({"a": [True]}, r"does not fit: a: \[true\] is not of type 'integer'"),
        (["x" * 200], f'does not fit: \\["{98 * "x"}… is not of type'),
    ):
        with pytest.raises(InvalidPayloadError, match=said):
            await flows.resume("x", answer)


class Photo(BaseModel):
    pixels: bytes


class InHex(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    pixels: bytes


class InBase64(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    pixels: bytes


@pytest.mark.parametrize("pixels", [b"abc", b"\xff\xfe"])
@pytest.mark.parametrize("kind", [Photo, InHex, list[Photo], Photo | None])
async def test_an_answer_of_bytes_that_would_be_read_as_others_is_refused(
    flows: Flows, store: CountingStore, kind: Any, pixels: bytes
) -> None:
    """They are in base64 outside of their model, which has another form. The run can be answered yet."""

    @flows.flow
    async def asking(run: Run) -> str:
        return repr(await run.interrupt("photo", kind))

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    before = await store.load("x")
    answer: Any = {"pixels": pixels}
    with pytest.raises(InvalidPayloadError, match="pixels: bytes in a plain container are stored in base64"):
        await flows.resume("x", [answer] if kind == list[Photo] else answer)
    assert before == await store.load("x")

    model = InHex if kind is InHex else Photo
    right = model(pixels=b"abc")
    await flows.resume("x", [right] if kind == list[Photo] else right)

    assert repr([right] if kind == list[Photo] else right) == await handle.result(timeout=5)


class AsDict(TypedDict):
    pixels: bytes


@dataclass(frozen=True)
class Plain:
    pixels: bytes


@pytest.mark.parametrize("kind", [bytes, dict[str, bytes], InBase64, AsDict, Plain, Any])
async def test_an_answer_of_bytes_is_read_as_the_same_bytes(flows: Flows, store: CountingStore, kind: Any) -> None:
    """It is so in plain containers, and for a model that has them in base64. Without a type they are their text."""

    @flows.flow
    async def asking(run: Run) -> str:
        return repr(await run.interrupt("photo", kind))

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    pixels = b"\xff\xfe"
    await flows.resume("x", pixels if kind is bytes else {"pixels": pixels})

    expected = {
        bytes: pixels,
        dict[str, bytes]: {"pixels": pixels},
        InBase64: InBase64(pixels=pixels),
        AsDict: {"pixels": pixels},
        Plain: Plain(pixels=pixels),
        Any: {"pixels": "__4="},
    }
    assert repr(expected[kind]) == await handle.result(timeout=5)


async def test_an_answer_before_the_question_is_kept(flows: Flows, store: CountingStore) -> None:
    """The answer is kept for the step that has not been reached yet."""

    @flows.flow
    async def asking(run: Run) -> list[int]:
        return [await run.interrupt("first"), await run.interrupt("second")]

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.resume("x", 2, step="second")
    await flows.resume("x", 1)

    assert [1, 2] == await handle.result(timeout=5)


async def test_an_answer_before_the_question_is_checked_at_the_question(flows: Flows, store: CountingStore) -> None:
    """If it does not fit, that is recorded and stays so, and the function asks again under another name."""
    refusals: list[str] = []

    @flows.flow
    async def asking(run: Run) -> list[bool]:
        first = await run.interrupt("first", bool)
        try:
            second = await run.interrupt("approve", Approval)
        except InvalidPayloadError as refused:
            refusals.append(str(refused))
            second = await run.interrupt("approve again", Approval)
        return [first, second.ok]

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.resume("x", {"ok": "perhaps"}, step="approve")
    await flows.resume("x", True)
    await blocked(store, "x", on="approve again")
    with pytest.raises(NotWaitingError):
        await flows.resume("x", {"ok": True}, step="approve")
    await flows.resume("x", {"ok": True}, step="approve again")

    assert [True, True] == await handle.result(timeout=5)
    assert 1 == len(set(refusals))
    assert "does not fit the type that the flow asks for: ok: Input should be a valid boolean" in refusals[0]


async def test_an_interrupt_times_out(flows: Flows) -> None:
    """Its timeout is durable before the function sees it."""

    @flows.flow
    async def asking(run: Run) -> str:
        try:
            await run.interrupt("approve", timeout=0.05)
        except WaitTimeoutError as error:
            return str(error.step)
        return ""

    assert "approve" == await flows.run(asking)


async def test_a_short_sleep_is_in_the_process(flows: Flows, store: CountingStore) -> None:
    """What ends within 5 s does not suspend."""

    @flows.flow
    async def sleeping(run: Run) -> int:
        await run.sleep("nap", timedelta(milliseconds=30))
        return 1

    assert 1 == await flows.run(sleeping)
    assert 2 == len(store.writes)


async def test_a_sleep_is_ended_early_by_an_answer(flows: Flows, store: CountingStore) -> None:
    """The payload of that answer does not matter."""

    @flows.flow
    async def sleeping(run: Run) -> int:
        await run.sleep("nap", timedelta(days=3))
        return 1

    handle = await flows.start(sleeping, id="x")
    await blocked(store, "x")
    await flows.resume("x", step="nap")

    assert 1 == await handle.result(timeout=5)


async def test_interrupts_in_branches_suspend_together(flows: Flows, store: CountingStore) -> None:
    """The run is suspended after a second in which nothing was called or delivered. Both answers arrive."""

    @flows.flow
    async def asking(run: Run) -> list[int]:
        return list(await asyncio.gather(run.interrupt("a"), run.interrupt("b")))

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.resume("x", 1)
    await flows.resume("x", 2)

    assert [1, 2] == await handle.result(timeout=5)


async def test_an_interrupt_that_the_function_has_cancelled_takes_no_answer(flows: Flows, store: CountingStore) -> None:
    """An answer without the name of a step goes to the one that is open, also before the run is suspended."""
    is_answered = asyncio.Event()

    @flows.flow
    async def asking(run: Run) -> str:
        first = asyncio.create_task(run.interrupt("first", str))
        await run.step("reach", asyncio.sleep, 0)
        first.cancel()
        answer, _ = await asyncio.gather(run.interrupt("second", str), run.step("linger", is_answered.wait))
        return answer

    handle = await flows.start(asking, id="x")
    await asyncio.wait_for(asked(store, "x", step="second"), 30)
    await flows.resume("x", "yes")
    is_answered.set()

    assert "yes" == await handle.result(timeout=30)


@pytest.mark.parametrize("waits", ["sleep", "interrupt"])
async def test_a_wait_that_ends_while_it_is_cancelled_does_not_stop_the_run(
    flows: Flows, store: CountingStore, waits: str
) -> None:
    """Its result is recorded, and nobody asks for it: results that come later are handed out all the same."""
    wait: asyncio.Task[Any] | None = None

    async def cancel_meanwhile(update: Callable[[], Awaitable[str]]) -> str:
        assert wait is not None
        wait.cancel()
        await asyncio.sleep(0)
        return await update()

    @flows.flow
    async def cancelling(run: Run) -> str:
        nonlocal wait
        if waits == "interrupt":  # its end is stored before the function learns of it
            wait = asyncio.create_task(run.interrupt("wait", str, timeout=0.05))
            store.faults[store.updates + 1] = cancel_meanwhile
        else:
            wait = asyncio.create_task(run.sleep("wait", 0.1))
            loop = asyncio.get_running_loop()
            loop.call_later(0.15, wait.cancel)
            loop.call_later(0.05, time.sleep, 0.2)  # both times are over in one pass of the loop
        await asyncio.wait([wait])
        result: str = await run.step("work", echo, "worked")
        return result

    assert "worked" == await asyncio.wait_for(flows.run(cancelling, id="x"), 30)
    assert "wait" in (await store.load("x")).cache


@pytest.mark.parametrize("cancelled", ["a sleep that has just ended", "a step whose result is on its way"])
async def test_a_run_that_cancels_what_has_just_ended_is_suspended(
    flows: Flows, store: CountingStore, cancelled: str
) -> None:
    """Nothing but an interrupt is left, so that the process keeps neither the run nor its lease."""

    async def passed(condition: Callable[[], object]) -> None:
        """Return in the very pass of the loop in which the condition holds."""
        while not condition():  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0)

    @flows.flow
    async def cancelling(run: Run) -> None:
        drive = run._drive

        async def until_asked() -> None:
            await passed(lambda: "answer" in drive.waits.open)

        async def ask() -> None:
            await passed(lambda: {*drive.flights, *drive.waits.open})
            await run.interrupt("answer")

        async def cancel() -> None:
            if cancelled.startswith("a sleep"):
                task = asyncio.create_task(run.sleep("wait", 0.1))
                await until_asked()
                await passed(lambda: "wait" not in drive.waits.open)
            else:
                task = asyncio.create_task(run.step("work", until_asked))
                await until_asked()
                await passed(lambda: drive.gate._turns)
            task.cancel()
            await asyncio.wait([task])

        await asyncio.gather(ask(), cancel())

    await flows.start(cancelling, id="x")
    await asyncio.wait_for(blocked(store, "x", on="answer"), 30)


async def test_a_validator_may_raise_what_it_likes(flows: Flows, store: CountingStore) -> None:
    """The answer does not fit then, whether it comes to the drive that asks or to a later one."""
    is_answered = asyncio.Event()

    @flows.flow
    async def asking(run: Run) -> str:
        lingering = asyncio.create_task(run.step("linger", is_answered.wait))
        try:
            await run.interrupt("ask", Fussy)
        except InvalidPayloadError as error:
            await lingering
            return str(error)
        return ""

    handle = await flows.start(asking, id="x")
    await asked(store, "x")
    await flows.resume("x", {"name": "ada"})
    is_answered.set()

    assert "KeyError: 'ada'" in await handle.result(timeout=30)


async def test_a_child_gives_its_result(flows: Flows, store: CountingStore) -> None:
    """The parent waits for each child, and goes on with its result."""

    @flows.flow
    async def double(run: Run, number: int) -> int:
        return await run.step("double", lambda x: 2 * x, number)

    @flows.flow
    async def parent(run: Run) -> int:
        return await run.child("c", double, 4) + await run.child("c", double, 5)

    assert 18 == await flows.run(parent, id="x")


class _RefusingQueue:
    """A queue that takes no task while it is down."""

    is_down = False

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        if self.is_down:
            raise DispatchError(f"The queue did not take the task of {id!r}", flow_id=id)

    async def close(self) -> None: ...


async def test_a_parent_waits_for_a_child_whose_task_the_queue_refused(store: CountingStore) -> None:
    """The child is stored, so that a sweep finds it. The parent was at no fault."""
    queue = _RefusingQueue()
    flows = Flows(store, dispatcher=queue)

    @flows.flow
    async def one(run: Run) -> int:
        queue.is_down = False
        return 1

    @flows.flow
    async def parent(run: Run) -> int:
        queue.is_down = True
        answer = asyncio.ensure_future(run.interrupt("meanwhile", int))
        return await run.child("c", one, id="c") + await answer

    await flows.start(parent, id="x")
    with pytest.raises(DispatchError, match="'x'"):  # to look at the child in an hour
        await flows.drive("x")

    assert "blocked" == (await store.load("x")).status
    assert ["c"] == [due.id for due in await store.due(round(time.time() * 1000) + 1)]
    assert "done" == await flows.drive("c")
    await flows.resume("x", 2)
    assert "done" == await flows.drive("x")
    assert 3 == await flows.result("x", timeout=0)


async def test_a_failed_child_is_an_error_that_names_its_key(flows: Flows) -> None:
    """The parent may catch it and go on."""

    @flows.flow
    async def failing(run: Run) -> None:
        raise ValueError("no")

    @flows.flow
    async def parent(run: Run) -> list[str]:
        with pytest.raises(FlowFailedError) as caught:
            await run.child("c", failing)
        return [str(caught.value.step), caught.value.error]

    assert ["c", "ValueError: no"] == await flows.run(parent)


async def test_a_run_of_another_flow_is_not_the_child(flows: Flows) -> None:
    """It is a child of this run, and has the id that is asked for. Its result is of another type."""

    @flows.flow
    async def one(run: Run) -> str:
        return "one"

    @flows.flow
    async def other(run: Run) -> str:
        return "other"

    @flows.flow
    async def parent(run: Run) -> list[str]:
        first = await run.child("a", one, id="k")
        with pytest.raises(FlowFailedError) as caught:
            await run.child("b", other, id="k")
        return [first, str(caught.value.step), caught.value.error]

    said = "there is a run 'k' of the flow 'one' already, not of 'other': choose another id"
    assert ["one", "b", said] == await flows.run(parent)


async def test_a_child_is_of_a_flow_of_the_same_flows(flows: Flows, store: CountingStore) -> None:
    """No drive of these flows would run it, or they have another flow of that name. No child is written."""
    other = Flows(store)

    @other.flow
    async def stranger(run: Run) -> str:
        return "of the others"

    @other.flow(name="parent")
    async def namesake(run: Run) -> str:
        return "of the others"

    @flows.flow
    async def parent(run: Run) -> list[str]:
        said: list[str] = []
        for flow in (stranger, namesake):
            with pytest.raises(UnknownFlowError, match="belongs to another Flows: start its runs in a step") as caught:
                await run.child("c", flow)
            said.append(str(caught.value.name))
        return said

    assert ["stranger", "parent"] == await asyncio.wait_for(flows.run(parent, id="x"), 5)
    assert {"x"} == {write.id for write in store.writes}


@pytest.mark.parametrize("reason", ["the customer withdrew", ""])
async def test_the_reason_of_a_cancelled_child_reaches_its_parent(
    flows: Flows, store: CountingStore, reason: str
) -> None:
    """It is the reason that `cancel` was given, as who awaits the child itself gets it."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def parent(run: Run) -> list[str]:
        with pytest.raises(FlowCancelledError) as caught:
            await run.child("c", asking, id="k")
        return [caught.value.reason]

    handle = await flows.start(parent, id="x")
    await blocked(store, "x")
    await blocked(store, "k")
    await flows.cancel("k", reason)

    assert [reason] == await handle.result(timeout=5)


def race_flows(flows: Flows, store: CountingStore) -> Flow[None, int]:
    """Return a flow that cancels its call of a child with the id c, and then asks twice."""

    @flows.flow
    async def asking(run: Run) -> str:
        return await run.interrupt("inside", str)

    @flows.flow
    async def racing(run: Run) -> int:
        child = asyncio.create_task(run.child("c", asking, id="c"))
        await run.step("win", blocked, store, "c")
        child.cancel()
        await asyncio.wait([child])
        return await run.interrupt("first", int) + await run.interrupt("second", int)

    return racing


@pytest.mark.parametrize("drives", [1, 2])
async def test_a_child_that_lost_a_race_is_cancelled_with_its_parent(
    flows: Flows, store: CountingStore, drives: int
) -> None:
    """Also if the parent was suspended since, and as often as it is retried and cancelled."""
    racing = race_flows(flows, store)
    await flows.start(racing, id="x")
    await blocked(store, "x", on="first")
    if drives > 1:
        await flows.resume("x", 1)
        await blocked(store, "x", on="second")

    for _ in range(2):
        assert [["first", "second"][drives - 1]] == list(record_of(await store.load("x")).waits)
        await flows.cancel("x")
        with pytest.raises(FlowCancelledError, match="'x', which started it, was cancelled"):
            await flows.result("c", timeout=5)
        await flows.retry("x")
        await blocked(store, "c")
        await blocked(store, "x")


async def test_a_child_that_lost_a_race_does_not_wake_its_parent(flows: Flows, store: CountingStore) -> None:
    """Nothing waits for it any more, whenever it ends."""
    racing = race_flows(flows, store)
    handle = await flows.start(racing, id="x")
    await blocked(store, "x", on="first")

    await flows.resume("c", "late")
    assert "late" == await flows.result("c", timeout=5)
    state = await store.load("x")
    while "c" not in state.events_triggered:
        await asyncio.sleep(0.001)
        state = await store.load("x")
    assert (1, None) == (record_of(state).drives, wake_at(state))

    await flows.resume("x", 1)
    await blocked(store, "x", on="second")
    await flows.resume("x", 2)
    assert 3 == await handle.result(timeout=5)
    assert {} == record_of(await store.load("x")).dropped_children


async def test_a_child_that_was_cancelled_before_its_parent_is_not_retried_with_it(
    flows: Flows, store: CountingStore
) -> None:
    """The parent does not wait for it, and it did not end by the cancellation of the parent."""
    await flows.start(race_flows(flows, store), id="x")
    await blocked(store, "x", on="first")
    await flows.cancel("c", "alone")

    await flows.cancel("x")
    await flows.retry("x")
    await blocked(store, "x", on="first")

    with pytest.raises(FlowCancelledError, match="alone"):
        await flows.result("c", timeout=0)


async def test_a_child_that_lost_a_race_takes_no_answer(flows: Flows, store: CountingStore) -> None:
    """The error names those that the run waits for."""
    await flows.start(race_flows(flows, store), id="x")
    await blocked(store, "x", on="first")

    with pytest.raises(NotWaitingError, match=r"'c' of the run 'x' is a child.*waits for an answer to 'first'"):
        await flows.resume("x", 1, step="c")


async def test_all_who_wait_for_one_child_learn_of_its_end(flows: Flows, store: CountingStore) -> None:
    """The child knows of one key of its parent. It tells those under which the parent waits for it."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def parent(run: Run) -> list[int]:
        return list(await asyncio.gather(*(run.child(name, asking, id="k") for name in "abc")))

    handle = await flows.start(parent, id="x")
    await blocked(store, "x")
    await blocked(store, "k")
    await flows.resume("k", 5)

    assert [5, 5, 5] == await handle.result(timeout=5)


async def test_who_begins_to_wait_for_a_child_that_ends_learns_of_it(flows: Flows, store: CountingStore) -> None:
    """The child ends after it was found to go on, and before the wait for it is stored: it cannot tell that wait."""
    is_retried = asyncio.Event()

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def parent(run: Run) -> int:
        with pytest.raises(FlowCancelledError):
            await run.child("a", asking, id="k")
        await is_retried.wait()
        return await run.child("b", asking, id="k")

    async def late(update: Callable[[], Awaitable[str]]) -> str:
        await flows.resume("k", 5)
        assert 5 == await flows.result("k", timeout=5)
        return await update()

    handle = await flows.start(parent, id="x")
    await blocked(store, "x")
    await blocked(store, "k")
    await flows.cancel("k")
    while "a" not in (await store.load("x")).cache:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)
    await flows.retry("k")
    await blocked(store, "k")
    store.faults = {store.updates + 1: late}
    is_retried.set()

    assert 5 == await handle.result(timeout=5)


@pytest.mark.parametrize("is_driven", [True, False])
async def test_a_child_that_was_retried_tells_its_parent_again(
    flows: Flows, store: CountingStore, *, is_driven: bool
) -> None:
    """When it was told of the failure, it found that the child goes on. It looks again when it is told again."""
    release = asyncio.Event()

    async def busy() -> None:
        if is_driven:
            await release.wait()

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def parent(run: Run) -> int:
        number, _ = await asyncio.gather(run.child("c", asking, id="k"), run.step("busy", busy))
        return number

    handle = await flows.start(parent, id="x")
    while "waits" not in (state := await store.load("x")).operation.metadata["run"]:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.001)
    await blocked(store, "k")
    if not is_driven:
        await blocked(store, "x")
        state = await store.load("x")
    told_late = {"c": {"child": "k"}}
    await store.update("x", events_triggered=told_late, if_version=state.version)
    await (flows._engine.woken("x", None) if is_driven else flows.drive("x"))
    while "knocked" not in (await store.load("x")).operation.metadata["run"]["waits"]["c"]:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.001)
    await flows.resume("k", 5)
    assert 5 == await flows.result("k", timeout=5)
    release.set()

    assert 5 == await handle.result(timeout=5)


async def test_a_child_from_before_a_retry_is_not_taken_for_the_new_one(flows: Flows, store: CountingStore) -> None:
    """After a retry from a step the child has another id. The old one may end later, and has the same key."""
    children: list[str] = []
    is_mended = False

    @flows.flow
    async def asking(run: Run) -> int:
        children.append(run.id)
        return await run.interrupt("number", int)

    @flows.flow
    async def parent(run: Run) -> int:
        await run.step("first", str)
        child = asyncio.ensure_future(run.child("c", asking))
        while not children:  # noqa: ASYNC110  # another drive fills it
            await asyncio.sleep(0)
        if not is_mended:
            raise ValueError
        return await child

    handle = await flows.start(parent, id="x")
    with pytest.raises(FlowFailedError):
        await handle.result(timeout=5)
    [old] = children
    await blocked(store, old)
    is_mended = True
    await handle.retry(from_step="first")
    await blocked(store, "x")
    new = children[-1]
    await blocked(store, new)
    await flows.resume(old, 1)
    assert 1 == await flows.result(old, timeout=5)
    await flows.resume(new, 2)

    assert 2 == await handle.result(timeout=5)


@pytest.mark.parametrize("waits_for", ["an answer", "a time", "a child", "another attempt"])
async def test_a_map_awaits_what_waits_though_an_item_has_failed(flows: Flows, waits_for: str) -> None:
    """Also in a later drive. A further item does not begin, in no drive."""
    begun: list[str] = []

    @flows.flow
    async def answering(run: Run) -> str:
        return await run.interrupt("inside", str)

    async def item(name: str) -> str:
        run, has_begun = current_run(), name in begun
        begun.append(name)
        if name == "fails":
            raise LookupError("no")
        if waits_for == "an answer":
            return await run.interrupt("approve", str)
        if waits_for == "a time":
            await run.sleep("embargo", timedelta(days=1))
        elif waits_for == "a child":
            return await run.child("kid", answering)
        elif not has_begun:
            raise ConnectionError
        return "yes"

    @flows.flow
    async def mapping(run: Run) -> str:
        retry = Retry(2, first=86_400, jitter=False, on=ConnectionError)
        with pytest.raises(StepFailedError, match="LookupError"):
            await run.options(retry=retry).map("item", item, ["waits", "fails", "later"], at_once=2)
        return await run.interrupt("last", str)

    answers = {"item/approve": "yes", "item/kid:inside": "yes", "last": "end"}
    simulation = await simulate(mapping, answers=answers)

    assert "end" == simulation.result
    assert {"waits", "fails"} == set(begun)
    assert "yes" == simulation.state.cache["item"].value
    assert "item-2" not in simulation.state.cache


async def test_an_answer_inside_of_a_recorded_step_is_not_a_surprise(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The step is not executed again, so nobody asks for it. No warning says so."""

    @flows.flow
    async def asking(run: Run) -> int:
        async def ask() -> int:
            return int(await run.interrupt("ask"))

        return await run.step("outer", ask) + int(await run.interrupt("second"))

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.resume("x", 1)
    while "outer" not in (await store.load("x")).cache:  # noqa: ASYNC110  # another task stores it
        await asyncio.sleep(0.001)
    await blocked(store, "x")
    await flows.resume("x", 1)

    assert 2 == await handle.result(timeout=5)
    assert "did not ask for" not in caplog.text
