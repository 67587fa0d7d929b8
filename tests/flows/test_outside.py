"""What is done to a run from outside: start, cancel, retry, result, watch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import (
    UNSET,
    CacheEntry,
    DeadlineError,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateDecodeError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    FlowStateQuery,
    FlowStateSettings,
    FlowStateTooLargeError,
    MemoryFlowStateStore,
    StoreUnavailableError,
)
from firestore_flowstate.flows import (
    Flow,
    FlowCancelledError,
    FlowFailedError,
    Flows,
    InvalidPayloadError,
    NotFailedError,
    NotWaitingError,
    Run,
    StepFailedError,
    UnknownFlowError,
    current_run,
)
from firestore_flowstate.flows.clock import SystemClock
from firestore_flowstate.flows.ending import cancelled_end
from firestore_flowstate.flows.image import image_of
from firestore_flowstate.flows.record import ended_of, record_of
from firestore_flowstate.flows.undriven import write_end
from tests.flows.counting_store import CountingStore
from tests.flows.test_waits import blocked


async def echo(value: Any) -> Any:
    return value


def parent_of_one_that_asks(flows: Flows) -> Flow[None, int]:
    """Return a flow that waits for a child with the id ``child``, which waits for an answer."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    @flows.flow
    async def parent(run: Run) -> int:
        return await run.child("c", asking, id="child")

    return parent


async def test_the_same_id_again_is_the_run_that_is_there(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    """If the input is another one, a warning says so, which does not show it."""

    @flows.flow
    async def one(run: Run, number: int) -> int:
        return await run.step("one", echo, number)

    @flows.flow
    async def other(run: Run) -> None: ...

    first = await flows.start(one, 1, id="x")
    await flows.start(one, 1, id="x")
    assert "" == caplog.text
    again = await flows.start(one, 2, id="x")
    assert ["The run 'x' is there already, with another input, and stays as it is."] == caplog.messages

    assert [1, 1] == [await first.result(timeout=5), await again.result(timeout=5)]
    with pytest.raises(FlowStateExistsError, match="of the flow 'one'"):
        await flows.start(other, id="x")


async def test_an_input_is_the_same_whatever_its_order(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    """Native maps have none, and NaN is not equal to itself."""

    @flows.flow
    async def one(run: Run, input: dict[str, float]) -> None: ...

    await flows.start(one, {"a": math.nan, "b": 1}, id="x")
    await flows.start(one, {"b": 1, "a": math.nan}, id="x")

    assert "" == caplog.text


async def test_an_input_of_firestores_own_types_is_another_one(
    flow_state_settings: FlowStateSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may have stored a timestamp and bytes: to start the run again is not an error."""
    settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with FirestoreFlowStateStore(settings) as native:
        flows = Flows(native)

        @flows.flow
        async def one(run: Run, input: dict[str, int]) -> None: ...

        state = FlowState.start(name="one", input={"at": datetime.now(timezone.utc), "data": b"\xff"})
        await native.save("x", state)
        async with flows:
            await flows.start(one, {"a": 1}, id="x")

    assert "The run 'x' is there already, with another input, and stays as it is." in caplog.messages


async def test_an_input_that_does_not_fit_is_refused(flows: Flows, store: CountingStore) -> None:
    """Nothing is written. If the input is found not to fit only when it is driven, the run fails."""

    @flows.flow
    async def one(run: Run, number: int) -> int:
        return number

    wrong: Any = "a"
    with pytest.raises(InvalidPayloadError):
        await flows.start(one, wrong)
    with pytest.raises(InvalidPayloadError):
        await flows.start("one")

    assert [] == store.writes
    state = FlowState.start(name="one", input="a")
    await store.create("x", state)
    await flows.drive("x")
    with pytest.raises(FlowFailedError, match="InvalidPayloadError"):
        await flows.result("x")


async def test_a_delayed_run_begins_later(flows: Flows, store: CountingStore) -> None:
    """It is scheduled until then. Nothing has run."""

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    handle = await flows.start(one, id="x", delay=timedelta(seconds=1.5), extra={"owner": "me"})
    state = await handle.state()
    assert state is not None
    assert "scheduled" == state.status
    assert "waiting" == await flows.drive("x")
    assert (
        1 == (await store.list_summaries(FlowStateQuery(where={"owner": "me"}))).summaries[0].extra["wakeAt"] > 0 or 1
    )
    assert 1 == await handle.result(timeout=5)


async def test_by_name_of_an_unknown_flow_needs_a_dispatcher(flows: Flows, store: CountingStore) -> None:
    """A front end has no code of flows."""

    class Tasks:
        def __init__(self) -> None:
            self.dispatched: list[tuple[str, Any]] = []

        async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None:
            self.dispatched.append((id, at))

        async def close(self) -> None: ...

    with pytest.raises(UnknownFlowError):
        await flows.start("elsewhere", 1)
    tasks = Tasks()
    front = Flows(store, dispatcher=tasks)
    await front.start("elsewhere", 1, id="x")

    assert [("x", None)] == tasks.dispatched
    with pytest.raises(UnknownFlowError):
        await flows.drive("x")


async def test_a_flow_that_this_process_does_not_know_cannot_be_driven_by_it(store: CountingStore) -> None:
    """`start` leaves it to the processes behind the dispatcher, and `run` cannot. Nothing is written."""

    class Tasks:
        async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None: ...

        async def close(self) -> None: ...

    unknown: Any = "elsewhere"
    for dispatcher in (None, Tasks()):
        with pytest.raises(UnknownFlowError, match="import the module that defines the flow") as caught:
            await Flows(store, dispatcher=dispatcher).run(unknown)
        assert "elsewhere" == caught.value.name
    assert [] == store.writes


async def test_a_store_that_would_lose_waiting_runs_is_refused() -> None:
    """With expire_when="always" the states of runs would expire while these wait."""
    with pytest.raises(ValueError, match="always"):
        Flows(MemoryFlowStateStore(FlowStateSettings(expire_when="always")))


async def test_cancelling_a_waiting_run_ends_it_at_once(flows: Flows, store: CountingStore) -> None:
    """One write ends it, also if no process knows the flow. A second cancel does nothing."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    writes = len(store.writes)
    stranger = Flows(store)
    await stranger.cancel("x", "no more")
    await stranger.cancel("x", "again")

    assert writes + 1 == len(store.writes)
    with pytest.raises(FlowCancelledError) as caught:
        await handle.result()
    assert "no more" == caught.value.reason
    with pytest.raises(NotWaitingError):
        await flows.resume("x", 1)
    with pytest.raises(FlowStateNotFoundError):
        await flows.cancel("y")


async def test_cancelling_a_driven_run_awaits_its_step(flows: Flows, store: CountingStore) -> None:
    """The step in flight is recorded. No other begins. The function is cancelled."""
    began = asyncio.Event()
    finished: list[str] = []

    @flows.flow
    async def working(run: Run) -> None:
        async def work() -> int:
            began.set()
            await asyncio.sleep(0.05)
            return 1

        try:
            await run.step("work", work)
            await run.step("more", echo, 1)
        finally:
            finished.append("finally")

    handle = await flows.start(working, id="x")
    await began.wait()
    await flows.cancel("x", "enough")
    with pytest.raises(FlowCancelledError):
        await handle.result(timeout=5)

    assert ["work"] == list((await store.load("x")).cache)
    assert ["finally"] == finished


async def test_a_cancelled_parent_cancels_its_open_children(flows: Flows, store: CountingStore) -> None:
    """They are cancelled after the parent has ended, and then its record has nothing left to do."""
    parent = parent_of_one_that_asks(flows)
    await flows.start(parent, id="x")
    await blocked(store, "x")
    await flows.cancel("x")
    state = await store.load("x")

    with pytest.raises(FlowCancelledError):
        await flows.result("child", timeout=5)
    assert "todo" not in state.operation.metadata["run"]
    assert "wakeAt" not in state.model_extra
    children = await store.list_summaries(FlowStateQuery(where={"parent": "x"}))
    assert ["child"] == [summary.id for summary in children.summaries]


@pytest.mark.parametrize("outcome", ["stored", "unknown"])
async def test_a_child_that_is_being_created_is_cancelled_with_its_parent(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """The reply of the store comes after the cancellation, or never."""
    flows = Flows(store)
    is_created = asyncio.Event()
    create = store.create

    async def create_slowly(id: str, state: Any, **options: Any) -> None:
        await create(id, state, **options)
        if id == "child":
            is_created.set()
            await asyncio.sleep(0.2)
            if outcome == "unknown":
                raise StoreUnavailableError("lost", outcome_unknown=True)

    monkeypatch.setattr(store, "create", create_slowly)

    parent = parent_of_one_that_asks(flows)
    handle = await flows.start(parent, id="x")
    await is_created.wait()
    await handle.cancel("enough")
    with pytest.raises(FlowCancelledError):
        await handle.result(timeout=30)
    with pytest.raises(FlowCancelledError):
        await flows.result("child", timeout=30)
    await flows.close()


async def test_a_cancelled_run_cancels_a_long_chain_of_children(flows: Flows, store: CountingStore) -> None:
    """The chain is longer than Python's stack is deep. Each child in turn does what is left to do after its end."""

    @flows.flow
    async def nested(run: Run, depth: int) -> int:
        return (
            await run.child("child", nested, depth - 1, id=f"x{depth - 1}") if depth else await run.interrupt("a", int)
        )

    await flows.start(nested, 250, id="x250")
    for depth in range(251):
        while await store.load(f"x{depth}") is None:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.01)
        await blocked(store, f"x{depth}")
    await flows.cancel("x250")

    states = await store.load_many(f"x{depth}" for depth in range(251))
    assert {"cancelled"} == {state.operation.metadata["run"]["ended"] for state in states.values()}
    assert [] == [id for id, state in states.items() if "todo" in state.operation.metadata["run"]]


async def test_the_time_of_a_run_is_up(flows: Flows, store: CountingStore) -> None:
    """flow(timeout=) is a cancel at its time, of a waiting run too."""

    @flows.flow(timeout=timedelta(milliseconds=50))
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    with pytest.raises(FlowCancelledError, match="time"):
        await flows.run(asking)


async def test_the_time_of_a_suspended_run_is_up_at_its_claim(flows: Flows, store: CountingStore) -> None:
    """A claim that finds the time up ends the run in the same write. Its function is not called."""
    calls = 0

    @flows.flow(timeout=timedelta(hours=1))
    async def asking(run: Run) -> int:
        nonlocal calls
        calls += 1
        return await run.interrupt("a", int)

    await flows.start(asking, id="x")
    await blocked(store, "x")
    state = await store.load("x")
    deadline = state.operation.metadata["run"]["deadline"]
    assert deadline == state.model_extra["wakeAt"]
    later = MovedClock(deadline)
    flows._engine.clock = later

    assert "cancelled" == await flows.drive("x")
    with pytest.raises(FlowCancelledError, match="the time of the run is up"):
        await flows.result("x")
    assert 1 == calls
    assert "wakeAt" not in (await store.load("x")).model_extra


async def test_a_run_that_is_retried_has_all_of_its_time_again(flows: Flows, store: CountingStore) -> None:
    """flow(timeout=) counts from the next claim on, since the time before is long up."""

    @flows.flow(timeout=timedelta(hours=1))
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    await flows.start(asking, id="x")
    await blocked(store, "x")
    before = (await store.load("x")).operation.metadata["run"]["deadline"]
    later = flows._engine.clock = MovedClock(before)
    assert "cancelled" == await flows.drive("x")
    await flows.retry("x")

    assert "waiting" == await flows.drive("x")
    deadline = (await store.load("x")).operation.metadata["run"]["deadline"]
    assert before <= deadline - 3_600_000 <= later.now()


class MovedClock(SystemClock):
    """The machine's clock, moved so that it shows some moment now."""

    def __init__(self, now: int) -> None:
        self._ahead = now - super().now()

    def now(self) -> int:
        return super().now() + self._ahead


@pytest.mark.parametrize("ahead", [0, 30_000])
async def test_a_retry_goes_on_at_once(flows: Flows, ahead: int) -> None:
    """Its wake time is later than the last claim, whose clock may have been ahead, or may stand still since then."""
    ran: list[str] = []

    async def step() -> str:
        ran.append("step")
        if len(ran) == 1:
            raise ConnectionError("down")
        return "up"

    @flows.flow
    async def working(run: Run) -> str:
        return await run.step("a", step)

    now = SystemClock().now()
    flows._engine.clock = StillClock(now + ahead)
    with pytest.raises(FlowFailedError):
        await flows.run(working, id="x")
    flows._engine.clock = StillClock(now)
    await flows.retry("x")

    assert "up" == await flows.result("x", timeout=5)
    assert ["step", "step"] == ran


class StillClock(SystemClock):
    """The machine's clock, with a time that stands still, as tests freeze it."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now


async def test_retry_runs_again_what_failed(flows: Flows, store: CountingStore) -> None:
    """All other results are kept. A run that has not failed cannot be retried."""
    ran: list[str] = []

    async def step(name: str) -> str:
        ran.append(name)
        if name == "bad" and ran.count("bad") == 1:
            raise ConnectionError("down")
        return name

    @flows.flow
    async def working(run: Run) -> list[str]:
        return [await run.step(name, step, name) for name in ("good", "bad", "last")]

    with pytest.raises(FlowFailedError):
        await flows.run(working, id="x")
    await flows.retry("x")

    assert ["good", "bad", "last"] == await flows.result("x", timeout=5)
    assert ["good", "bad", "bad", "last"] == ran
    with pytest.raises(NotFailedError):
        await flows.retry("x")


async def test_a_retry_keeps_an_inner_step_that_is_named_show(flows: Flows) -> None:
    """What an interrupt shows has such a key too, and goes with the interrupt. A step does not go."""
    ran: list[str] = []

    async def step(name: str) -> str:
        ran.append(name)
        if name == "bad" and ran.count(name) == 1:
            raise ConnectionError("down")
        return name

    async def outer() -> list[str]:
        return [await current_run().step(name, step, name) for name in ("show", "bad")]

    @flows.flow
    async def working(run: Run) -> list[str]:
        return await run.step("outer", outer)

    with pytest.raises(FlowFailedError):
        await flows.run(working, id="x")
    await flows.retry("x")

    assert ["show", "bad"] == await flows.result("x", timeout=5)
    assert ["show", "bad", "bad"] == ran


@pytest.mark.parametrize("before", ["first", "c"])
@pytest.mark.parametrize("id", ["k", None])
async def test_retry_from_a_child_runs_what_failed_in_it_again(flows: Flows, id: str | None, before: str) -> None:
    """One whose id the flow gave is retried, as by a retry of what failed. Else another child takes its place."""
    ran: list[str] = []

    async def step(name: str) -> str:
        ran.append(name)
        if name == "bad" and ran.count(name) == 1:
            raise ConnectionError("down")
        return name

    @flows.flow
    async def child(run: Run) -> list[str]:
        return [await run.step(name, step, name) for name in ("good", "bad")]

    @flows.flow
    async def parent(run: Run) -> list[str]:
        await run.step("first", str)
        return await run.child("c", child, id=id)

    with pytest.raises(FlowFailedError):
        await flows.run(parent, id="x")
    await flows.retry("x", from_step=before)

    assert ["good", "bad"] == await flows.result("x", timeout=5)
    assert ["good", "bad", *(["bad"] if id else ["good", "bad"])] == ran


async def test_a_retry_leaves_a_run_alone_that_was_taken_for_a_child(flows: Flows) -> None:
    """It has the id of the child, and is not one. It failed too, by its own error."""
    ran: list[str] = []

    @flows.flow
    async def failing(run: Run) -> None:
        ran.append(run.id)
        raise ValueError

    @flows.flow
    async def parent(run: Run) -> None:
        await run.child("c", failing, id="stranger")

    for flow, id in ((failing, "stranger"), (parent, "x")):
        with pytest.raises(FlowFailedError):
            await flows.run(flow, id=id)
    await flows.retry("x")
    with pytest.raises(FlowFailedError, match="which is not a child of 'x'"):
        await flows.result("x", timeout=5)

    assert ["stranger"] == ran


async def test_retry_from_what_was_shown_is_refused(flows: Flows, store: CountingStore) -> None:
    """What was shown is not a result, so it has no place in the order."""

    @flows.flow
    async def asking(run: Run) -> None:
        await run.step("echo", echo, 1)
        await run.interrupt("approve", bool, show="this")
        raise ValueError

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    await handle.resume(True)
    with pytest.raises(FlowFailedError):
        await handle.result(timeout=5)

    with pytest.raises(ValueError, match="has no result of 'approve/show'"):
        await handle.retry(from_step="approve/show")
    assert "failed" == (await store.load("x")).status


class _WatchFailsStore(CountingStore):
    """A store that gives up a watch."""

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        raise DeadlineError("Firestore did not answer within 30 s.", flow_id=id)
        yield


@pytest.mark.parametrize("timeout", [None, 5])
async def test_a_deadline_of_the_store_is_not_the_end_of_the_time_for_a_result(timeout: float | None) -> None:
    """It is a TimeoutError too, and says what has happened: the run may have ended long ago."""
    flows = Flows(_WatchFailsStore(MemoryFlowStateStore()))

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    async with flows:
        await flows.start(asking, id="x")
        with pytest.raises(DeadlineError, match="Firestore did not answer"):
            await flows.result("x", timeout=timeout)


async def test_the_end_of_the_time_for_a_result_says_how_long_it_was(flows: Flows) -> None:
    """The run goes on, and its result can be awaited again."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    handle = await flows.start(asking, id="x")
    with pytest.raises(TimeoutError, match=r"the run 'x' has not ended within 0\.02 s; it goes on") as caught:
        await handle.result(timeout=0.02)
    assert not isinstance(caught.value, DeadlineError)
    await handle.resume(5, step="number")

    assert 5 == await handle.result(timeout=5)


@pytest.mark.parametrize("how", ["tasks", "map"])
async def test_one_retry_runs_again_all_that_failed_together(flows: Flows, how: str) -> None:
    """The function is told of one failure and ends. The others were recorded, and it never saw them."""
    is_mended, ran = False, list[int]()

    async def fragile(number: int) -> int:
        ran.append(number)
        if number and not is_mended:
            raise ValueError(number)
        return number

    @flows.flow
    async def failing(run: Run) -> list[int]:
        if how == "map":
            return await run.map("item", fragile, range(4))
        tasks = [asyncio.ensure_future(run.step("item", fragile, number)) for number in range(4)]
        try:
            return [await task for task in asyncio.as_completed(tasks)]
        finally:
            for task in tasks:
                task.cancel()

    with pytest.raises(FlowFailedError):
        await flows.run(failing, id="x")
    is_mended, before = True, len(ran)
    await flows.retry("x")

    assert [0, 1, 2, 3] == sorted(await flows.result("x", timeout=5))
    assert [0, 1, 2, 3] == sorted(ran[:before])
    assert [1, 2, 3] == sorted(ran[before:])


async def test_a_failure_that_the_function_has_seen_to_is_not_run_again(flows: Flows) -> None:
    """A retry leaves it, since it did not make the run fail."""
    ran: list[str] = []

    async def fragile(name: str) -> None:
        ran.append(name)
        raise ValueError(name)

    @flows.flow
    async def failing(run: Run) -> None:
        with suppress(StepFailedError):
            await run.step("seen to", fragile, "seen to")
        try:
            await run.step("last", fragile, "last")
        except StepFailedError as error:
            raise LookupError from error

    with pytest.raises(FlowFailedError):
        await flows.run(failing, id="x")
    await flows.retry("x")
    with pytest.raises(FlowFailedError):
        await flows.result("x", timeout=5)

    assert ["seen to", "last", "last"] == ran


@pytest.mark.parametrize("end", ["failed", "cancelled"])
async def test_a_failure_that_an_earlier_drive_has_seen_to_is_not_run_again(
    flows: Flows, store: CountingStore, end: str
) -> None:
    """A later drive that ends before its replay gets there does not take it for one that the function never saw."""
    is_ending, ran = False, list[str]()

    async def fragile(name: str) -> str:
        ran.append(name)
        if name == "first":
            raise ValueError(name)
        return name

    @flows.flow
    async def failing(run: Run) -> str:
        if is_ending and end == "failed":
            raise LookupError
        first = asyncio.ensure_future(run.step("first", fragile, "first"))
        if is_ending:
            await asyncio.sleep(0)  # so that it is asked for
            flows._engine.drives["x"].cancelled("now")
        try:
            name = await first
        except StepFailedError:
            name = await run.step("second", fragile, "second")
        await run.interrupt("ask", bool)
        return name

    await flows.start(failing, id="x")
    await blocked(store, "x")
    is_ending = True
    await flows.resume("x", True)
    with pytest.raises(FlowFailedError if end == "failed" else FlowCancelledError):
        await flows.result("x", timeout=5)
    is_ending = False
    await flows.retry("x")

    assert "second" == await flows.result("x", timeout=5)
    assert ["first", "second"] == ran


async def test_a_run_whose_id_is_as_long_as_can_be_has_children(flows: Flows, store: CountingStore) -> None:
    """The id is too long for a scalar beside the child's state, and is in its record alone."""
    id = "p" * 1500

    @flows.flow
    async def childish(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def parental(run: Run) -> int:
        return await run.child("child", childish)

    handle = await flows.start(parental, id=id)
    await blocked(store, id)
    child = (await store.load(id)).operation.metadata["run"]["waits"]["child"]["child"]
    await blocked(store, child)
    assert {} == (await store.load(child)).model_extra
    await flows.resume(child, 5)

    assert 5 == await handle.result(timeout=5)


@pytest.mark.parametrize("step", ["__a__", "a//b", "/", "a/"])
async def test_an_answer_to_what_no_step_can_be_called_is_refused(
    flows: Flows, store: CountingStore, step: str
) -> None:
    """No step would ever take it, and Firestore refuses some such texts as keys of a map."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    with pytest.raises(NotWaitingError, match="No step of the run 'x' can have the key"):
        await flows.resume("x", 5, step=step)
    await flows.resume("x", 6)

    assert 6 == await handle.result(timeout=5)


async def test_retry_from_a_step_runs_all_after_it_again(flows: Flows, store: CountingStore) -> None:
    """The steps get other idempotency keys, since they are to be done again. An unknown step is a ValueError."""
    from firestore_flowstate.flows import current_step

    keys: dict[str, list[str]] = {}
    fail = [True]

    async def step(name: str) -> str:
        keys.setdefault(name, []).append(current_step().idempotency_key)
        return name

    @flows.flow
    async def working(run: Run) -> list[str]:
        done = [await run.step(name, step, name) for name in "abc"]
        answer = await run.interrupt("ok", bool)
        if fail[0]:
            raise ValueError
        return [*done, str(answer)]

    handle = await flows.start(working, id="x")
    await blocked(store, "x")
    await flows.resume("x", True)
    with pytest.raises(FlowFailedError):
        await handle.result(timeout=5)
    fail[0] = False
    with pytest.raises(ValueError, match="no result of 'z'"):
        await flows.retry("x", from_step="z")
    await flows.retry("x", from_step="b")
    await blocked(store, "x")

    assert {"a": 1, "b": 2, "c": 2} == {name: len(found) for name, found in keys.items()}
    assert {"a": 1, "b": 2, "c": 2} == {name: len(set(found)) for name, found in keys.items()}
    await flows.resume("x", True)
    assert ["a", "b", "c", "True"] == await handle.result(timeout=5)


async def test_retry_from_a_step_runs_what_is_inside_of_it_again(flows: Flows) -> None:
    """An inner step has its place in the order before its outer one, and goes all the same."""
    ran: list[str] = []

    async def inner() -> int:
        ran.append("inner")
        return len(ran)

    async def outer() -> int:
        return await current_run().step("inner", inner)

    @flows.flow
    async def working(run: Run) -> int:
        number = await run.step("outer", outer)
        if number == 1:
            raise ValueError
        return number

    with pytest.raises(FlowFailedError):
        await flows.run(working, id="x")
    await flows.retry("x", from_step="outer")

    assert 2 == await flows.result("x", timeout=5)


@pytest.mark.parametrize("is_driven", [False, True])
@pytest.mark.parametrize("child_id", [None, "child"])
async def test_retry_retries_the_child_that_was_cancelled_with_its_parent(
    flows: Flows, store: CountingStore, child_id: str | None, is_driven: bool
) -> None:
    """The child waits again for what it waited for."""
    lingers = asyncio.Event()

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("ask", int)

    @flows.flow
    async def parent(run: Run) -> int:
        lingering = asyncio.create_task(run.step("linger", lingers.wait)) if is_driven else None
        answer = await run.child("c", asking, id=child_id)
        if lingering is not None:
            await lingering
        return answer

    handle = await flows.start(parent, id="x")
    while True:
        children = (await store.list_summaries(FlowStateQuery(where={"parent": "x"}))).summaries
        if children:
            break
        await asyncio.sleep(0.001)
    child = children[0].id
    await blocked(store, child)
    if not is_driven:
        await blocked(store, "x")
    await handle.cancel("enough")
    lingers.set()
    for id in ("x", child):
        with pytest.raises(FlowCancelledError):
            await flows.result(id, timeout=30)
    await handle.retry()
    await blocked(store, child)
    await flows.resume(child, 5)

    assert 5 == await handle.result(timeout=30)


class Undelivered:
    """A dispatcher that wakes nothing: another process would do so later."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Do nothing."""


@dataclass
class TwoBranches:
    """A flow whose runs wait for a child that asks, and fail beside it while `is_down`.

    Attributes:
        flows: The flows.
        store: Their store.
        id: The id of the child; None: the default.
        drops: Whether the function cancels its call of the child when it fails.
        is_down: Whether the other branch fails.
        children: The ids of the children that were begun.
    """

    flows: Flows
    store: CountingStore
    id: str | None = "kid"
    drops: bool = False
    is_down: bool = True
    children: list[str] = field(default_factory=list)

    async def fail(self) -> None:
        """Start the run x, and return when it has failed. The child waits."""
        await self.flows.start(self._flow(), id="x")
        await self.failed()

    async def failed(self) -> None:
        """Return when the run has failed once more, and the child that it has begun waits."""
        with pytest.raises(FlowFailedError, match="down"):
            await self.flows.result("x", timeout=5)
        await blocked(self.store, self.children[-1])

    @asynccontextmanager
    async def unwoken(self) -> AsyncIterator[None]:
        """Let nothing wake runs in this context."""
        engine = self.flows._engine
        dispatcher, engine.dispatcher = engine.dispatcher, Undelivered()
        try:
            yield
        finally:
            engine.dispatcher = dispatcher

    def _flow(self) -> Flow[None, int]:
        @self.flows.flow
        async def asking(run: Run) -> int:
            if run.id not in self.children:
                self.children.append(run.id)
            return await run.interrupt("a", int)

        async def work(before: int) -> None:
            while self.is_down and len(self.children) == before:  # noqa: ASYNC110  # another drive fills it
                await asyncio.sleep(0.001)
            if self.is_down:
                raise ConnectionError("down")

        @self.flows.flow
        async def parent(run: Run) -> int:
            await run.step("first", str)
            child = asyncio.ensure_future(run.child("kid", asking, id=self.id))
            try:
                await run.step("work", work, len(self.children))
            except StepFailedError:
                if self.drops:
                    child.cancel()
                    await asyncio.wait([child])
                raise
            return await child

        return parent


@pytest.mark.parametrize("before", ["failed", "dropped", "cancelled"])
async def test_a_child_from_before_a_retry_is_cancelled_with_its_parent(
    flows: Flows, store: CountingStore, before: str
) -> None:
    """The run is cancelled before a drive of it has come to the child again."""
    branches = TwoBranches(flows, store, drops=before == "dropped")
    await branches.fail()
    branches.is_down = False
    if before == "cancelled":
        await flows.retry("x")
        await blocked(store, "x")
        await flows.cancel("x")
        assert "cancelled" == ended_of(await store.load("kid"))
    async with branches.unwoken():
        await flows.retry("x")
        assert ended_of(await store.load("kid")) is None
        await flows.cancel("x")

    with pytest.raises(FlowCancelledError, match="'x', which started it, was cancelled"):
        await flows.result("kid", timeout=0)

    await flows.retry("x")
    await blocked(store, "x")
    await blocked(store, "kid")
    await flows.resume("kid", 5)
    assert 5 == await flows.result("x", timeout=5)
    assert {} == record_of(await store.load("x")).earlier_children


@pytest.mark.parametrize("drops", [False, True])
async def test_a_child_that_ended_before_its_parent_was_retried_is_joined(
    flows: Flows, store: CountingStore, *, drops: bool
) -> None:
    """It could tell its end to nobody, since its parent had ended."""
    branches = TwoBranches(flows, store, drops=drops)
    await branches.fail()
    branches.is_down = False
    await flows.resume("kid", 5)
    assert 5 == await flows.result("kid", timeout=5)
    await flows.retry("x")

    assert 5 == await flows.result("x", timeout=5)
    assert ["kid"] == branches.children


async def test_a_child_that_failed_with_its_parent_is_cancelled_with_it_after_a_retry(
    flows: Flows, store: CountingStore
) -> None:
    """A retry of the run retries it, before a drive of the run has come to it again."""

    @flows.flow
    async def failing(run: Run) -> None:
        raise ConnectionError("down")

    @flows.flow
    async def parent(run: Run) -> None:
        await run.child("kid", failing, id="kid")

    with pytest.raises(FlowFailedError, match="down"):
        await flows.run(parent, id="x")
    async with TwoBranches(flows, store).unwoken():
        await flows.retry("x")
        await flows.cancel("x")

    with pytest.raises(FlowCancelledError, match="'x', which started it, was cancelled"):
        await flows.result("kid", timeout=0)


async def test_children_from_before_retries_from_a_step_are_cancelled_with_their_parent(
    flows: Flows, store: CountingStore
) -> None:
    """Others have taken their places, and a retry of what was cancelled leaves them as they are."""
    branches = TwoBranches(flows, store, id=None)
    await branches.fail()
    for _ in range(2):
        await flows.retry("x", from_step="first")
        await branches.failed()
    branches.is_down = False
    first, second, third = branches.children
    await flows.resume(second, 2)
    assert 2 == await flows.result(second, timeout=5)
    await flows.retry("x")
    await blocked(store, "x")

    await flows.cancel("x")
    for id in (first, third):
        with pytest.raises(FlowCancelledError, match="'x', which started it, was cancelled"):
            await flows.result(id, timeout=0)

    await flows.retry("x")
    await blocked(store, third)
    assert ["cancelled", "done"] == [ended_of(await store.load(id)) for id in (first, second)]
    await flows.resume(third, 5)
    assert 5 == await flows.result("x", timeout=5)
    assert [first, second, third] == branches.children


async def test_a_child_whose_cancellation_was_cut_off_is_cancelled_after_a_retry(
    flows: Flows, store: CountingStore
) -> None:
    """The process that had cancelled the run died before it had cancelled the child."""
    branches = TwoBranches(flows, store, id=None)
    await branches.fail()
    branches.is_down = False
    await flows.retry("x")
    await blocked(store, "x")
    [first] = branches.children
    image = image_of("x", await store.load("x"))
    await write_end(flows._engine, image, None, cancelled_end("cut off"))
    async with branches.unwoken():
        await flows.retry("x", from_step="first")
        assert ended_of(await store.load(first)) is None
        await flows.cancel("x")

    with pytest.raises(FlowCancelledError, match="'x', which started it, was cancelled"):
        await flows.result(first, timeout=0)


async def test_children_from_before_a_retry_go_on_when_the_run_is_done(flows: Flows, store: CountingStore) -> None:
    """The run forgets them."""
    branches = TwoBranches(flows, store, id=None)
    await branches.fail()
    branches.is_down = False
    await flows.retry("x", from_step="first")
    await blocked(store, "x")
    first, second = branches.children
    assert {first: "kid"} == record_of(await store.load("x")).earlier_children
    await flows.resume(second, 5)

    assert 5 == await flows.result("x", timeout=5)
    assert {} == record_of(await store.load("x")).earlier_children
    assert ended_of(await store.load(first)) is None


async def test_a_run_ends_whose_children_have_no_room_in_what_it_keeps() -> None:
    """It keeps none of them then."""

    class Narrow(CountingStore):
        async def update(self, id: str, **changes: Any) -> str:
            run = changes["operation"].metadata["run"] if "operation" in changes else {}
            if run.get("earlierChildren"):
                raise FlowStateTooLargeError("too large", flow_id=id, path="operation.metadata", size=2, limit=1)
            return await super().update(id, **changes)

    store = Narrow(MemoryFlowStateStore())
    flows = Flows(store)
    branches = TwoBranches(flows, store)
    await flows.start(branches._flow(), id="x")
    with pytest.raises(FlowFailedError, match="What the run keeps of its steps cannot be stored: too large"):
        await flows.result("x", timeout=5)

    assert {} == record_of(await store.load("x")).earlier_children
    await flows.close()


async def test_an_interrupt_in_the_place_of_a_child_from_before_a_retry_takes_an_answer(
    flows: Flows, store: CountingStore
) -> None:
    """The code was changed meanwhile."""
    began, is_mended = asyncio.Event(), False

    @flows.flow
    async def asking(run: Run) -> int:
        began.set()
        return await run.interrupt("a", int)

    @flows.flow
    async def parent(run: Run) -> int:
        await run.step("first", str)
        if is_mended:
            return await run.interrupt("kid", int)
        child = asyncio.ensure_future(run.child("kid", asking, id="kid"))
        await began.wait()
        raise ConnectionError(f"down, while {child.get_name()} waits")

    with pytest.raises(FlowFailedError, match="down"):
        await flows.run(parent, id="x")
    is_mended = True
    await flows.retry("x", from_step="first")
    await blocked(store, "x")
    await flows.resume("x", 5, step="kid")

    assert 5 == await flows.result("x", timeout=5)


async def test_a_child_from_before_a_retry_takes_no_answer(flows: Flows, store: CountingStore) -> None:
    """Its key is that of a child, also before a drive has come to it again."""
    branches = TwoBranches(flows, store)
    await branches.fail()
    async with branches.unwoken():
        await flows.retry("x")
        with pytest.raises(NotWaitingError, match="'kid' of the run 'x' is a child"):
            await flows.resume("x", 1, step="kid")


async def test_retry_retries_the_child_that_failed(flows: Flows, store: CountingStore) -> None:
    """The old knock of the child is dropped, and the child knocks again."""
    fail = [True]

    @flows.flow
    async def small(run: Run) -> int:
        if fail[0]:
            raise ValueError("child")
        return 1

    @flows.flow
    async def parent(run: Run) -> int:
        return await run.child("c", small)

    with pytest.raises(FlowFailedError, match="child"):
        await flows.run(parent, id="x")
    fail[0] = False
    await flows.retry("x")

    assert 1 == await flows.result("x", timeout=5)


async def test_retry_retries_a_long_chain_of_children(store: CountingStore) -> None:
    """It may be longer than Python's stack is deep. The last is due first, so that no parent finds its child failed."""
    depth = 1500
    woken: list[str] = []

    class Noting:
        async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
            woken.append(id)

        async def close(self) -> None:
            pass

    for number in range(depth):
        state = FlowState.start(name="nested")
        state.operation.done = True
        state.operation.result = FlowResult(error="ValueError: deep")
        state.operation.metadata = {"run": {"ended": "failed", "failedBy": ["c"]}}
        if number:
            error = {"type": "FlowFailedError", "message": "deep"}
            state.cache["c"] = CacheEntry(empty=True, n=1, kind="child", child=f"x{number - 1}", error=error)
        await store.create(f"x{number}", state)

    await Flows(store, dispatcher=Noting()).retry(f"x{depth - 1}")

    assert [f"x{number}" for number in range(depth)] == woken
    assert None is ended_of(await store.load("x0"))
    assert {} == (await store.load(f"x{depth - 1}")).cache


async def test_a_run_that_waits_for_its_start_is_cancelled(flows: Flows) -> None:
    """It ends then, and never begins: so ends a loop of runs of which each starts the next one."""
    begun: list[str] = []

    @flows.flow
    async def turn(run: Run) -> None:
        begun.append(run.id)

    handle = await flows.start(turn, id="x", delay=timedelta(hours=1))
    await handle.cancel()

    assert "cancelled" == ended_of(state := await handle.state())
    assert "wakeAt" not in state.model_extra
    assert [] == begun


async def test_retry_of_a_cancelled_run_goes_on(flows: Flows, store: CountingStore) -> None:
    """The cancellation is cleared."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    await flows.start(asking, id="x")
    await blocked(store, "x")
    await flows.cancel("x")
    await flows.retry("x")
    await blocked(store, "x")
    await flows.resume("x", 3)

    assert 3 == await flows.result("x", timeout=5)


async def test_watch_ends_after_the_ended_state(flows: Flows, store: CountingStore) -> None:
    """It yields each change once. To watch a run that never was, or to await its result, is an error."""

    @flows.flow
    async def one(run: Run) -> int:
        return await run.step("one", echo, 1)

    handle = await flows.start(one, id="x")
    watched = [state async for state in handle.watch()]
    states = [state.status for state in watched]

    assert "done" == states[-1]
    assert len(watched) == len({state.version for state in watched})
    with pytest.raises(FlowStateNotFoundError):
        await flows.result("y")
    with pytest.raises(FlowStateNotFoundError, match="There is no run 'y'"):
        await asyncio.wait_for(anext(flows.handle("y").watch()), 10)


@pytest.mark.parametrize("is_polled", [False, True])
async def test_a_run_that_is_deleted_while_it_is_watched_is_an_error(
    flows: Flows, store: CountingStore, monkeypatch: pytest.MonkeyPatch, is_polled: bool
) -> None:
    """So it is for who awaits its result. A store without `watch` is polled."""
    if is_polled:
        monkeypatch.setattr(store, "watch", None, raising=False)

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    watching = handle.watch()
    awaiting = asyncio.ensure_future(handle.result())
    assert "blocked" == (await anext(watching)).status
    await store.delete("x")

    for gone in (anext(watching), awaiting):
        with pytest.raises(FlowStateNotFoundError, match="There is no run 'x', or it has expired"):
            await asyncio.wait_for(gone, 10)


DAY = timedelta(days=1)


@pytest.mark.parametrize(("given", "kept"), [(UNSET, DAY), (7 * DAY, 7 * DAY), (None, None)], ids=str)
async def test_a_state_is_kept_for_so_long_after_the_end_of_its_run(given: Any, kept: timedelta | None) -> None:
    """The store says for how long, unless `start` does. A run that waits does not expire."""
    flows = Flows(MemoryFlowStateStore(FlowStateSettings(expire_after=DAY)))

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    handle = await flows.start(asking, id="x", expire_after=given)
    await blocked(CountingStore(flows.store), "x")
    waiting = await handle.state()
    before = datetime.now(timezone.utc)
    await handle.resume(1)
    await handle.result(timeout=5)
    after = datetime.now(timezone.utc)
    ended = await handle.state()
    await flows.close()

    assert waiting is not None
    assert ended is not None
    assert waiting.expire_at is None
    if kept is None:
        assert ended.expire_at is None
    else:
        assert ended.expire_at is not None
        assert before - timedelta(seconds=1) <= ended.expire_at - kept <= after + timedelta(seconds=1)


async def test_a_result_that_takes_longer_is_a_timeout(flows: Flows, store: CountingStore) -> None:
    """The run goes on."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    handle = await flows.start(asking, id="x")
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.05)
    await blocked(store, "x")


async def test_a_result_without_patience_is_one_look(flows: Flows, store: CountingStore) -> None:
    """It returns the result if it is there, as futures do, and claims nothing about a run that nobody has looked at."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("a", int)

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    with pytest.raises(TimeoutError, match="the run 'x' has not ended; it goes on"):
        await handle.result(timeout=0)
    await handle.resume(5)
    await handle.result(timeout=5)

    assert 5 == await handle.result(timeout=0)
    with pytest.raises(FlowStateNotFoundError, match="There is no run 'y'"):
        await flows.result("y", timeout=timedelta(0))


async def test_a_retry_from_nowhere_names_the_results(flows: Flows) -> None:
    """The error names the first results, if there are many, and says so if there are none."""

    @flows.flow
    async def failing(run: Run, steps: int) -> None:
        for number in range(steps):
            await run.step("s", echo, number)
        raise ValueError

    for id, steps in (("none", 0), ("many", 12)):
        with pytest.raises(FlowFailedError):
            await flows.run(failing, steps, id=id)

    with pytest.raises(ValueError, match=r"the run 'none' has no result of 'z', nor of any other step$"):
        await flows.retry("none", from_step="z")
    with pytest.raises(ValueError, match="from_step is a text that is not empty"):
        await flows.retry("none", from_step="")
    with pytest.raises(TypeError, match="from_step is a text or None, not 3"):
        await flows.retry("none", from_step=3)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match=r"no result of 'z'; it has results of s, s-1, .*, s-9 and 2 more$"):
        await flows.retry("many", from_step="z")


async def test_progress_stands_beside_the_state(flows: Flows, store: CountingStore) -> None:
    """Browsers and queries see it. A key of the state itself is refused."""

    @flows.flow
    async def working(run: Run) -> None:
        run.progress(percent=50)
        await run.step("one", echo, 1)
        run.progress(percent=100)
        with pytest.raises(ValueError, match="wakeAt"):
            run.progress(wakeAt=1)

    await flows.run(working, id="x")

    assert {"percent": 100} == (await store.load("x")).model_extra


@pytest.mark.parametrize("moment", [-math.inf, math.inf, math.nan, -(2**63), 2**63 - 1, -1e300])
async def test_a_moment_that_no_clock_shows_stops_nobody(flows: Flows, store: CountingStore, moment: float) -> None:
    """Others can write any number as `wakeAt`: the run goes on when it is answered, and sweeps go on to all others."""

    @flows.flow
    async def ask(run: Run) -> int:
        return await run.interrupt("number", int)

    handle = await flows.start(ask, id="x")
    await blocked(store, "x")
    state = await store.load("x")
    state.wakeAt = moment
    await store.save("x", state)
    overdue = FlowState.start(name="ask")
    overdue.wakeAt = 1000  # type: ignore[attr-defined]
    await store.create("y", overdue)
    await flows.sweep()
    await blocked(store, "y")
    assert "waiting" == await flows.drive("x")
    await handle.resume(5, step="number")

    assert 5 == await handle.result(timeout=5)


@pytest.mark.parametrize(
    "metadata",
    [
        {"run": {"waits": [1]}},
        {"run": {"waits": {"a": "b"}}},
        {"run": {"waits": {"a": {}}}},
        {"run": {"waits": {"a": {"kind": "sleep", "until": "soon"}}}},
        {"run": {"recoveries": "many", "owner": "o"}},
        {"run": {"drives": [1]}},
        {"run": {"deadline": "soon"}},
        {"run": {"retries": {"add": 5}}},
        {"run": {"retries": {"add": {"attempts": "x", "next": "y"}}}},
        {"run": {"intents": 5}},
        {"run": {"todo": {"children": 5}}},
        {"run": {}, "inbox": {"cancel": 5}},
        {"run": {}, "inbox": {"answers": 5}},
    ],
    ids=range(13),
)
async def test_a_record_that_others_have_spoilt_is_an_error(flows: Flows, store: CountingStore, metadata: Any) -> None:
    """Whatever is asked of the run, the error names it and the path. Nothing is claimed."""

    @flows.flow
    async def adding(run: Run) -> int:
        return await run.step("add", echo, 1)

    state = FlowState.start(name="adding", flow_id="x")
    state.operation.metadata = metadata
    state.wakeAt = 5
    await store.create("x", state)

    for call in (flows.drive, flows.cancel, flows.resume):
        with pytest.raises(FlowStateDecodeError, match=r"The run 'x' cannot be read: operation.metadata.(run|inbox): "):
            await call("x", **({"step": "a"} if call == flows.resume else {}))
    assert metadata == (await store.load("x")).operation.metadata


async def test_entries_that_others_have_numbered_are_taken_as_genkits(flows: Flows, store: CountingStore) -> None:
    """What is not a whole number is not a place in the order. Such an entry fits."""

    @flows.flow
    async def adding(run: Run) -> list[int]:
        return [await run.step(name, echo, 0) for name in "abcdef"]

    state = FlowState.start(name="adding", flow_id="x")
    for number, n in enumerate(["x", 1.5, math.nan, math.inf, True, 10**30]):
        state.cache["abcdef"[number]] = CacheEntry(value=number, n=n)
    await store.create("x", state)

    assert "done" == await flows.drive("x")
    assert [0, 1, 2, 3, 4, 5] == await flows.result("x")


async def test_what_cannot_be_ended_holds_up_itself_alone(flows: Flows, store: CountingStore) -> None:
    """No update takes out a `wakeAt` beyond 64 bits: others in the loop go on, and the run ends once that has gone."""

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    handle = await flows.start(asking, id="x")
    await blocked(store, "x")
    state = await store.load("x")
    state.wakeAt = 10**400
    await store.save("x", state)
    await handle.resume(5, step="number")

    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.5)
    assert 1 == await flows.run(one)
    state = await store.load("x")
    state.wakeAt = 5
    await store.save("x", state)
    with pytest.raises(FlowFailedError, match="FlowStateEncodeError"):
        await handle.result(timeout=10)


async def test_a_sweep_dispatches_what_is_overdue(flows: Flows, store: CountingStore) -> None:
    """It dispatches runs whose flow this process knows. A worker takes what is due now."""

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    for number, name in enumerate(("one", "strange", "one")):
        state = FlowState.start(name=name)
        state.wakeAt = 1000 + number  # type: ignore[attr-defined]
        await store.create(f"x{number}", state)

    assert 2 == await flows.sweep()
    assert [1, 1] == [await flows.result(id, timeout=5) for id in ("x0", "x2")]
    assert 0 == await flows.sweep()


async def test_a_worker_drives_what_is_due(flows: Flows, store: CountingStore) -> None:
    """It leaves runs alone whose flow it does not know."""

    @flows.flow
    async def one(run: Run) -> int:
        return 1

    async with flows.worker(poll=0.01):
        for number in range(40):
            state = FlowState.start(name="one" if number % 2 else "strange")
            state.wakeAt = 1000 + number  # type: ignore[attr-defined]
            await store.create(f"x{number}", state)
        assert 20 * [1] == [await flows.result(f"x{number}", timeout=5) for number in range(1, 40, 2)]
