"""Mistakes of an application, each with its clear end."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from firestore_flowstate import (
    FlowState,
    FlowStateEncodeError,
    FlowStateError,
    InvalidFlowIdError,
    MemoryFlowStateStore,
    SyncFlowStateStore,
)
from firestore_flowstate.flows import (
    DispatchError,
    FlowFailedError,
    Flows,
    InvalidPayloadError,
    Retry,
    Run,
    StepFailedError,
)
from firestore_flowstate.flows.cloud_tasks import CloudTasks
from firestore_flowstate.flows.firebase import FirebaseTasks
from firestore_flowstate.flows.http import Oidc
from firestore_flowstate.testing import crash_everywhere, simulate
from tests.flows.counting_store import CountingStore
from tests.flows.test_waits import blocked


async def test_a_timeout_of_asyncio_around_a_step_cancels_it_unrecorded(flows: Flows, store: CountingStore) -> None:
    """The function goes on, and nothing of the step is stored. `options(timeout=)` would have recorded a failure."""
    cancelled: list[bool] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @flows.flow
    async def impatient(run: Run) -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run.step("slow", slow), 0.01)
        return await run.step("next", str, 1)

    assert "1" == await flows.run(impatient, id="x")
    assert [True] == cancelled
    assert ["next"] == list((await store.load("x")).cache)


async def test_a_step_that_changed_its_arguments_is_noticed_on_a_replay(flows: Flows, store: CountingStore) -> None:
    """The next step of its branch was called with what a replay does not have: the run fails, and names that step."""

    async def grow(items: list[int]) -> None:
        items.append(2)

    async def use(items: list[int]) -> int:
        return len(items)

    @flows.flow
    async def growing(run: Run) -> int:
        async def branch() -> int:
            items = [1]
            await run.step("grow", grow, items)
            return await run.step("use", use, items)

        [number] = await asyncio.gather(branch())
        return number + await run.interrupt("more", int)

    await flows.start(growing, id="x")
    await blocked(store, "x")
    await flows.resume("x", 1)

    with pytest.raises(FlowFailedError, match=r"FlowCodeChangedError: .*'use'.* of other arguments"):
        await flows.result("x", timeout=5)


async def test_a_step_that_raises_stop_iteration_fails(flows: Flows) -> None:
    """No future can hold a StopIteration: the step would never end. It fails by a RuntimeError, as in a coroutine."""

    @flows.flow
    async def draining(run: Run) -> int:
        return await run.step("next", next, iter(()))

    with pytest.raises(FlowFailedError, match=r"RuntimeError: .*raised StopIteration"):
        await asyncio.wait_for(flows.run(draining, id="x"), 5)


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_step_that_raises_generator_exit_fails(
    flows: Flows, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is an error as any other, and not a fault of this package."""

    def leave() -> None:
        raise GeneratorExit("left")

    async def leave_later() -> None:
        leave()

    @flows.flow
    async def leaving(run: Run) -> str:
        with pytest.raises(StepFailedError) as left:
            await run.step("leave", leave_later if is_async else leave)
        return f"{left.value.error_type}: {left.value.error}"

    assert "GeneratorExit: left" == await asyncio.wait_for(flows.run(leaving, id="x"), 5)
    assert "fault of firestore-flowstate" not in caplog.text


class _WithoutTextError(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


@pytest.mark.parametrize("where", ["the function", "a step", "a step that is tried again"])
async def test_an_error_without_a_text_ends_the_run(flows: Flows, where: str) -> None:
    """An error whose `__str__` fails is named by its type."""

    def fail() -> None:
        raise _WithoutTextError

    @flows.flow
    async def failing(run: Run) -> None:
        if where == "the function":
            fail()
        retry = Retry(2, first=0) if where == "a step that is tried again" else None
        await run.options(retry=retry).step("fail", fail)

    with pytest.raises(FlowFailedError, match="_WithoutTextError"):
        await asyncio.wait_for(flows.run(failing, id="x"), 5)


class _WithMembersError(Exception):
    """An error of an application, which is no group of errors."""

    def __init__(self, exceptions: Any) -> None:
        super().__init__("2 of 3 failed")
        self.exceptions = exceptions


class _WithoutMembersError(Exception):
    @property
    def step(self) -> str:
        raise LookupError("no step")

    @property
    def exceptions(self) -> list[Exception]:
        raise LookupError("no members")


class _Receipt(BaseModel):
    at: datetime

    @field_validator("at", mode="before")
    @classmethod
    def _in_utc(cls, value: Any) -> Any:
        return value.astimezone(timezone.utc)  # of a text, as in the JSON form, there is none


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: _WithMembersError({"a": "timeout", "b": "refused"}), "_WithMembersError: 2 of 3 failed"),
        (lambda: _WithMembersError(["timeout", None]), "_WithMembersError: 2 of 3 failed"),
        (lambda: _WithMembersError(3), "_WithMembersError: 2 of 3 failed"),
        (_WithoutMembersError, "_WithoutMembersError"),
        (lambda: SyntaxError("no", ("a.py", 1, 1, 5)), "SyntaxError: no (a.py, line 1)"),
    ],
)
async def test_an_error_may_have_any_attributes(flows: Flows, make: Callable[[], Exception], says: str) -> None:
    """The run ends by it, and what it has in place of members of a group is passed over."""

    @flows.flow
    async def failing(run: Run) -> None:
        raise make()

    with pytest.raises(FlowFailedError) as caught:
        await asyncio.wait_for(flows.run(failing, id="x"), 5)
    assert says == caught.value.error


async def test_a_result_whose_validator_raises_what_it_likes_ends_the_run(flows: Flows) -> None:
    """The JSON form of the result is not what the validator expects: its own error ends the run."""

    @flows.flow
    async def receiving(run: Run) -> _Receipt:
        return _Receipt(at=datetime(2026, 1, 1, tzinfo=timezone.utc))

    with pytest.raises(FlowFailedError, match="AttributeError: 'str' object has no attribute 'astimezone'"):
        await asyncio.wait_for(flows.run(receiving, id="x"), 5)


class _OfATestRunner(BaseException):
    """An error such as `pytest.fail` raises: it is not an Exception."""


async def test_an_error_that_is_not_an_exception_is_an_error_of_the_step(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """It is recorded like any other error, and not taken for a fault of this package."""

    def fail() -> None:
        raise _OfATestRunner("expected 1")

    @flows.flow
    async def failing(run: Run) -> str:
        try:
            await run.step("fail", fail)
        except StepFailedError as error:
            return f"{error.error_type}: {error.error}"
        return ""

    assert "_OfATestRunner: expected 1" == await flows.run(failing, id="x")
    assert "fault of this package" not in caplog.text


async def test_a_step_may_raise_an_error_of_a_store(flows: Flows) -> None:
    """FlowStateEncodeError that a step raises itself is an error of the step, not one about its result."""

    async def save() -> None:
        await MemoryFlowStateStore().save("y", FlowState.start(input=object()))

    @flows.flow
    async def failing(run: Run) -> str:
        try:
            await run.step("save", save)
        except StepFailedError as error:
            return error.error_type
        return ""

    assert "FlowStateEncodeError" == await flows.run(failing, id="x")


@pytest.mark.parametrize("where", ["the function", "a step"])
async def test_the_text_of_an_error_is_cut(flows: Flows, store: CountingStore, where: str) -> None:
    """Some libraries put all that they were given into an error. The end of the run must fit into a document."""

    def fail() -> None:
        raise ValueError("x" * 3_000_000)

    @flows.flow
    async def failing(run: Run) -> None:
        if where == "the function":
            fail()
        await run.step("fail", fail)

    with pytest.raises(FlowFailedError, match="ValueError: xxx") as failure:
        await flows.run(failing, id="x")

    assert failure.value.error is not None
    assert len(failure.value.error) < 5_000
    assert "in fail" in (failure.value.stacktrace or "")
    assert len((await store.load("x")).model_dump_json()) < 50_000


@pytest.mark.parametrize(
    ("duration", "kind", "says"),
    [
        (timedelta.max, ValueError, "duration is at most 1,000 years, since moments end with the year 9999"),
        (timedelta(-1), ValueError, "duration is a duration of 0 seconds or more"),
        (10**400, ValueError, "duration is a duration of 0 seconds or more"),
        ("soon", TypeError, "duration is a timedelta or a number of seconds, not 'soon'"),
        (
            datetime(2024, 5, 31, tzinfo=timezone.utc),
            TypeError,
            "duration is a timedelta or a number of seconds, not datetime.datetime",
        ),
    ],
    ids=["too long", "negative", "huge", "text", "moment"],
)
async def test_a_duration_that_cannot_be_right_ends_the_run(
    flows: Flows, duration: Any, kind: type[Exception], says: str
) -> None:
    """The run fails, and the error names the argument. A run could not be woken in the year 10000."""

    @flows.flow
    async def sleeping(run: Run) -> None:
        await run.sleep("nap", duration)

    with pytest.raises(FlowFailedError, match=f"{kind.__name__}: {re.escape(says)}"):
        await asyncio.wait_for(flows.run(sleeping, id="x"), 5)
    with pytest.raises(kind, match=f"^{re.escape(says.replace('duration', 'delay', 1))}"):
        await flows.start(sleeping, delay=duration)


@pytest.mark.parametrize("moment", ["2030-01-01", date(2030, 1, 1), 1893456000])
async def test_a_moment_that_is_not_one_ends_the_run(flows: Flows, moment: Any) -> None:
    """The error names the argument."""

    @flows.flow
    async def sleeping(run: Run) -> None:
        await run.sleep("nap", until=moment)

    says = f"TypeError: until is a datetime with its time zone, not {moment!r}"
    with pytest.raises(FlowFailedError, match=re.escape(says)):
        await asyncio.wait_for(flows.run(sleeping, id="x"), 5)


async def test_an_option_that_is_neither_true_nor_false_ends_the_run(flows: Flows) -> None:
    """The text of an environment variable is true, whatever it says."""

    @flows.flow
    async def mistaken(run: Run) -> None:
        wrong: Any = "no"
        await run.options(at_most_once=wrong).step("idle", str)

    with pytest.raises(FlowFailedError, match="TypeError: at_most_once is True or False, not 'no'"):
        await flows.run(mistaken)


async def test_what_is_not_a_flow_is_refused_by_name(flows: Flows) -> None:
    """A function that was not decorated is the common case."""

    async def plain(run: Run) -> None: ...

    for given in (plain, None, 5):
        with pytest.raises(TypeError, match="is not a flow: decorate the async function"):
            await flows.start(given)  # type: ignore[call-overload]  # the mistake


async def test_an_id_that_is_not_text_is_refused(flows: Flows) -> None:
    """The error is that of the store."""

    @flows.flow
    async def idle(run: Run) -> None: ...

    with pytest.raises(InvalidFlowIdError, match="A flow id is a string, not int: 5"):
        await flows.start(idle, id=5)  # type: ignore[call-overload]  # the mistake


@pytest.mark.parametrize("key", ["status", "version", "expire_at"])
async def test_a_scalar_that_a_state_has_of_its_own_is_refused(flows: Flows, key: str) -> None:
    """The error names the key: a scalar of that name would contradict the state."""

    @flows.flow
    async def idle(run: Run) -> None: ...

    with pytest.raises(ValueError, match=f"^'{key}' is a key of the state itself"):
        await flows.start(idle, extra={key: "x"})


@pytest.mark.parametrize(
    "extra",
    [
        {"a": None},
        {"a": ["b"]},
        {"a": "x" * 1500},
        {"a": "\ud800"},
        {"a": 2**63},
        {"a": 10**5000},
        {"": 1},
        {"__a__": 1},
        {"a" * 1500: 1},
        {"\ud800": 1},
        {5: 1},
        {"shard": 1},
        {"summary": 1},
        {"expireAt": 1},
    ],
    ids=range(14),
)
async def test_a_scalar_that_no_update_could_set_is_refused(flows: Flows, store: CountingStore, extra: Any) -> None:
    """The error is the one that the store's update raises. A run shows no progress of such a kind either."""

    @flows.flow
    async def showing(run: Run) -> str:
        try:
            run.progress(**extra)
        except FlowStateEncodeError as refused:
            return str(refused)
        return "taken"

    await store.save("there", FlowState.start())
    with pytest.raises(FlowStateEncodeError) as expected:
        await store.update("there", extra=extra)
    with pytest.raises(FlowStateEncodeError) as refusal:
        await flows.start(showing, id="x", extra=extra)

    assert str(expected.value).removeprefix("Flow state 'there': ") == str(refusal.value)
    assert await store.load("x") is None
    if all(isinstance(name, str) for name in extra):
        assert str(refusal.value) == await flows.run(showing)


@pytest.mark.parametrize("extra", [5, "owner", [("owner", "me")]])
async def test_scalars_that_are_not_a_mapping_are_refused(flows: Flows, extra: Any) -> None:
    """The error shows the form."""

    @flows.flow
    async def idle(run: Run) -> None: ...

    with pytest.raises(TypeError, match="extra maps names to scalars, as"):
        await flows.start(idle, extra=extra)


@pytest.mark.parametrize("name", ["has", "flow_id", "start_time", "_own", "model_config", "cache_value", "start"])
async def test_a_scalar_may_have_any_name_that_is_not_the_states_own(
    flows: Flows, store: CountingStore, name: str
) -> None:
    """A name of one of the model's attributes is an unknown key all the same, and the state stays whole."""

    @flows.flow
    async def showing(run: Run) -> int:
        run.progress(**{name: 2})
        return 1

    handle = await flows.start(showing, id="x", extra={name: 1})
    assert 1 == await handle.result()

    state = await store.load("x")
    assert state is not None
    assert 2 == (state.model_extra or {})[name]
    assert "x" == state.flow_id


async def _not_decorated(run: Run) -> None: ...


async def _keyword_only(run: Run, *, topic: str) -> None: ...


async def _nothing_by_position(*, run: Run) -> None: ...


async def _two_inputs(run: Run, one: str, other: str) -> None: ...


class _Callable:
    """An object of some framework, whose call is awaited."""

    def __init__(self, factor: int = 2) -> None:
        self.factor = factor

    async def __call__(self, run: Run, number: int) -> int:
        return await run.step("times", _Times(self.factor), number)


class _Times:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    async def __call__(self, number: int) -> int:
        return self.factor * number


@dataclass
class _Awaited:
    """A class whose objects can be called. The class is a step's function itself, and makes an object."""

    number: int

    async def __call__(self) -> int:
        return self.number


@pytest.mark.parametrize("make", [_Callable, lambda: partial(_Callable(), number=5), lambda: _Callable().__call__])
async def test_a_callable_object_is_a_flow_and_a_step(flows: Flows, make: Callable[[], Any]) -> None:
    """If calling it is awaited, it takes its input and gives its result as it is annotated."""
    made = make()
    takes_input = not isinstance(made, partial)

    flow = flows.flow(name="times")(made)

    assert 10 == await flows.run(flow, *([5] if takes_input else []))
    if takes_input:
        with pytest.raises(InvalidPayloadError, match="the input does not fit the flow 'times'"):
            await flows.start(flow, "five")


async def test_a_class_is_a_step_that_makes_an_object(flows: Flows) -> None:
    """The object is not called, also if its call would be awaited."""

    @flows.flow
    async def making(run: Run) -> int:
        made = await run.step("make", _Awaited, 5)
        return made.number

    assert 5 == await flows.run(making)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda run: run.step("a", 5), "the step 'a' is given 5, which cannot be called"),
        (lambda run: run.step("a", _two_inputs(run, "", "")), "given a coroutine, which can run once only"),
        (lambda run: run.map("a", "b", [1]), "the step 'a' is given 'b', which cannot be called"),
        (lambda run: run.map("a", print, [1], at_once="x"), "at_once is a whole number"),
        (lambda run: run.map("a", print, 5), "the items of the map 'a' cannot be iterated over: they are 5"),
        (lambda run: run.options(retry=3), "retry is a Retry"),
    ],
)
async def test_a_step_that_cannot_be_called_ends_the_run(flows: Flows, make: Callable[[Run], Any], says: str) -> None:
    """The run ends at once, without an attempt. The error names the step and shows how to write it."""

    @flows.flow
    async def mistaken(run: Run) -> None:
        await make(run)

    with pytest.raises(FlowFailedError, match=f"TypeError: .*{re.escape(says)}") as failure:
        await flows.run(mistaken)
    assert "StepFailedError" not in str(failure.value)


@pytest.mark.parametrize(
    ("mistake", "kind", "says"),
    [
        (lambda flows: Flows(None), TypeError, "store is a VersionedFlowStateStore"),
        (lambda flows: Flows(MemoryFlowStateStore), TypeError, "store is a VersionedFlowStateStore"),
        (lambda flows: Flows(SyncFlowStateStore(flows.store)), TypeError, "that SyncFlowStateStore wraps"),
        (lambda flows: Flows(flows.store, dispatcher="x"), TypeError, "dispatcher is a Dispatcher"),
        (lambda flows: Flows(flows.store, retry=3), TypeError, "retry is a Retry, such as Retry(3)"),
        (lambda flows: Retry("x"), TypeError, "attempts is a whole number, not 'x'"),
        (lambda flows: Retry(2.5), TypeError, "attempts is a whole number, not 2.5"),
        (lambda flows: Retry(True), TypeError, "attempts is a whole number, not True"),
        (lambda flows: Retry(0), ValueError, "attempts is at least 1, not 0"),
        (lambda flows: Retry(first=timedelta(seconds=1)), TypeError, "first is a number of seconds, not datetime"),
        (lambda flows: Retry(first=-1), ValueError, "first is from 0 seconds to 1,000 years, not -1"),
        (lambda flows: Retry(first=math.nan), ValueError, "first is from 0 seconds to 1,000 years, not nan"),
        (lambda flows: Retry(most=math.inf), ValueError, "most is from 0 seconds to 1,000 years, not inf"),
        (lambda flows: Retry(most=10**400), ValueError, "most is from 0 seconds to 1,000 years, not 1000"),
        (lambda flows: Retry(factor="2"), TypeError, "factor is a number, not '2'"),
        (lambda flows: Retry(factor=0.5), ValueError, "factor is a finite number of at least 1, not 0.5"),
        (lambda flows: Retry(factor=math.nan), ValueError, "factor is a finite number of at least 1, not nan"),
        (lambda flows: Retry(on="OSError"), TypeError, "on is a class of errors or a tuple of such, not 'OSError'"),
        (lambda flows: Retry(on=OSError()), TypeError, "on is a class of errors or a tuple of such, not OSError()"),
        (lambda flows: Retry(jitter="no"), TypeError, "jitter is True or False, not 'no'"),
        (lambda flows: Retry(jitter=0), TypeError, "jitter is True or False, not 0"),
        (lambda flows: Retry(unless=[OSError]), TypeError, "unless is a class of errors or a tuple of such, not ["),
        (lambda flows: Retry(unless=(OSError, 5)), TypeError, "unless is a class of errors or a tuple of such, not ("),
        (lambda flows: flows.cancel("x", 5), TypeError, "reason is a text, not 5"),
        (lambda flows: flows.cancel("x", None), TypeError, "reason is a text, not None"),
        (lambda flows: Flows(flows.store, max_recoveries="x"), TypeError, "max_recoveries is a whole number"),
        (lambda flows: Flows(flows.store, max_recoveries=-1), ValueError, "max_recoveries is at least 0"),
        (lambda flows: Flows(flows.store, version=5), TypeError, "version is a text or None"),
        (lambda flows: Flows(flows.store, lease=5), TypeError, "lease is a timedelta, not 5"),
        (lambda flows: flows.flow(name=5), TypeError, "name is a text or None"),
        (lambda flows: flows.flow(name=""), ValueError, "name is a text that is not empty"),
        (lambda flows: flows.flow(name="\ud800"), ValueError, "can be written as UTF-8"),
        (lambda flows: flows.worker(at_once="x"), TypeError, "at_once is a whole number"),
        (lambda flows: flows.worker(at_once=0), ValueError, "at_once is at least 1"),
        (lambda flows: flows.worker(poll=0), ValueError, "poll is at least 0.01 s"),
        (lambda flows: flows.app(verify="x"), TypeError, "verify is an Oidc, a function of the request, or None"),
        (lambda flows: flows.app(verify=Oidc), TypeError, "verify is an Oidc, a function of the request, or None"),
        (lambda flows: flows.app(verify=None, budget=timedelta(0)), ValueError, "budget is more than 5 seconds"),
        (lambda flows: flows.drive("x", budget=5), ValueError, "budget is more than 5 seconds"),
        (lambda flows: flows.drive("x", budget=True), TypeError, "budget is a timedelta or a number of seconds"),
        (lambda flows: flows.resume("x", 1, step=5), TypeError, "step is a text or None"),
        (lambda flows: flows.resume("x", 1, step=""), ValueError, "step is a text that is not empty"),
        (lambda flows: flows.resume("x", 1, key=5), TypeError, "key is a text or None"),
        (lambda flows: flows.handle(5), InvalidFlowIdError, "A flow id is a string, not int: 5"),
        (lambda flows: flows.handle(None), InvalidFlowIdError, "A flow id is a string, not NoneType"),
        (lambda flows: flows.handle(""), InvalidFlowIdError, "The flow id '' is empty"),
        (lambda flows: flows.blocking.handle(""), InvalidFlowIdError, "The flow id '' is empty"),
        (lambda flows: flows.sweep(limit="x"), TypeError, "limit is a whole number"),
        (lambda flows: flows.sweep(limit=0), ValueError, "limit is at least 1"),
        (lambda flows: simulate(None), TypeError, "None is not a flow"),
        (lambda flows: simulate(_not_decorated), TypeError, "is not a flow"),
        (lambda flows: crash_everywhere(_not_decorated), TypeError, "is not a flow"),
        (lambda flows: simulate(flows.flow(_not_decorated), answers=5), TypeError, "answers maps the key of each"),
        (lambda flows: crash_everywhere(flows.flow(_not_decorated), answers=[5]), TypeError, "it is not [5]"),
        (lambda flows: simulate(flows.flow(_not_decorated), answers={5: 5}), TypeError, "it is not {5: 5}"),
        (lambda flows: simulate(flows.flow(_not_decorated), crash_before_write=0), ValueError, "is at least 1"),
        (
            lambda flows: simulate(flows.flow(_not_decorated), crash_after_write="x"),
            TypeError,
            "crash_after_write is a",
        ),
        (
            lambda flows: simulate(flows.flow(_not_decorated), store=5),
            TypeError,
            "store is a VersionedFlowStateStore, such as FirestoreFlowStateStore(), not 5",
        ),
        (lambda flows: flows.start(flows.flow(_not_decorated), expire_after=5), TypeError, "is a timedelta above 0"),
        (lambda flows: flows.flow(5), TypeError, "a flow is made of an async function, not of 5"),
        (lambda flows: flows.flow(_Callable()), TypeError, "has no name of its own: give it one by flow(name=...)"),
        (lambda flows: flows.flow(_keyword_only), TypeError, "async def _keyword_only(run: Run, topic), without the *"),
        (lambda flows: flows.flow(_nothing_by_position), TypeError, "takes a Run first: async def"),
        (lambda flows: flows.flow(_two_inputs), TypeError, "takes a Run and one input, no more"),
        (lambda flows: flows.flow(name="x")(_Awaited), TypeError, "'x' is not an async function"),
    ],
)
async def test_an_argument_that_cannot_be_right_is_refused_at_once(
    flows: Flows, mistake: Callable[[Flows], Any], kind: type[Exception], says: str
) -> None:
    """The error names the argument: the first run, or the first outage, would tell less."""

    async def make() -> None:
        made = mistake(flows)
        if inspect.isawaitable(made):
            await made

    with pytest.raises(kind, match=re.escape(says)):
        await make()


def uninstall(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Have the package not be there for who imports it from now on."""
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    around, _, name = package.rpartition(".")
    if around:
        monkeypatch.delattr(importlib.import_module(around), name, raising=False)
    monkeypatch.delitem(sys.modules, "firestore_flowstate.flows.asgi", raising=False)  # which imports starlette


QUEUE = "projects/demo/locations/here/queues/flows"


@pytest.mark.parametrize(
    ("package", "use", "kind", "says"),
    [
        ("starlette", lambda flows: flows.app(verify=None), FlowStateError, "flows.app needs the package starlette"),
        ("jsonschema", lambda flows: flows.resume("x", 5), FlowStateError, "checked by the package jsonschema"),
        (
            "google.cloud.tasks_v2",
            lambda _: CloudTasks(QUEUE, "https://shop.test/drive").dispatch("x", wake="1-0"),
            DispatchError,
            "CloudTasks needs the package google-cloud-tasks",
        ),
        (
            "google.cloud.tasks_v2",
            lambda _: CloudTasks(QUEUE, "https://shop.test/drive").check(),
            DispatchError,
            "CloudTasks needs the package google-cloud-tasks",
        ),
        (
            "firebase_admin",
            lambda _: FirebaseTasks("drive").dispatch("x", wake="1-0"),
            DispatchError,
            "FirebaseTasks needs firebase-admin 7.2 or later",
        ),
        (
            "firebase_admin",
            lambda _: FirebaseTasks("drive").check(),
            DispatchError,
            "FirebaseTasks needs firebase-admin 7.2 or later",
        ),
    ],
)
async def test_a_package_that_is_not_installed_is_named_with_its_extra(
    flows: Flows,
    store: CountingStore,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    use: Callable[[Flows], Any],
    kind: type[Exception],
    says: str,
) -> None:
    """The error says what to install. Nothing is written."""
    extra = {"starlette": "http", "jsonschema": "flows", "firebase_admin": "firebase"}.get(package, "cloud-tasks")

    @flows.flow
    async def asking(run: Run) -> int:
        return await run.interrupt("number", int)

    await flows.start(asking, id="x")
    await blocked(store, "x")
    writes = len(store.writes)
    uninstall(monkeypatch, package)

    async def using() -> None:
        made = use(flows)
        if inspect.isawaitable(made):
            await made

    with pytest.raises(kind, match=re.escape(says)) as caught:
        await using()
    assert str(caught.value).endswith(f": pip install 'firestore-flowstate[{extra}]'")
    assert writes == len(store.writes)


class Untyped:
    """A class of which pydantic knows nothing."""


async def untyped() -> Untyped:
    return Untyped()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda run: run.options(result="x"), "result: 'x' is not a type that a value can be read as"),
        (lambda run: run.options(result=5), "result: 5 is not a type that a value can be read as"),
        (lambda run: run.options(result=list["Undefined"]), "is not a type that a value can be read as"),  # noqa: F821
        (lambda run: run.interrupt("a", type=Untyped()), "type: <tests.flows.test_mistakes.Untyped object"),
        (lambda run: run.interrupt("a", type=Untyped), "Untyped'> is not a type that a value can be read as"),
        (lambda run: run.interrupt("a", type=Callable[[], int]), "has no JSON Schema, which says what an answer"),
        (lambda run: run.step("a", untyped), "the result of the step 'a': <class 'tests.flows.test_mistakes.Untyped'>"),
    ],
)
async def test_what_no_value_can_be_read_as_is_refused_before_anything_runs(
    flows: Flows, make: Callable[[Run], Any], says: str
) -> None:
    """The error is one sentence that names it. Pydantic's lines would come only after the step has run."""
    ran = []

    @flows.flow
    async def mistaken(run: Run) -> None:
        made = make(run)
        if isinstance(made, Run):
            made = made.step("a", lambda: ran.append(1))
        await made

    with pytest.raises(FlowFailedError) as failure:
        await asyncio.wait_for(flows.run(mistaken), 5)

    assert [] == ran
    assert failure.value.error is not None
    assert "\n" not in failure.value.error
    assert failure.value.error.startswith("TypeError: ")
    assert says in failure.value.error


async def test_the_stacktrace_says_why_no_value_can_be_read_as_a_type(flows: Flows) -> None:
    """It has pydantic's advice, which the one sentence of the error leaves out."""

    class Refusing:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: Any) -> Any:
            raise ValueError("the reason")

    @flows.flow
    async def mistaken(run: Run) -> None:
        await run.options(result=Refusing).step("a", untyped)

    with pytest.raises(FlowFailedError) as failure:
        await asyncio.wait_for(flows.run(mistaken), 5)

    assert "ValueError: the reason" in (failure.value.stacktrace or "")


@pytest.mark.parametrize(
    ("id", "says"), [("", "The flow id '' is empty"), (5, "not int: 5"), ([], "not list"), ("a/b", "contains a slash")]
)
async def test_an_id_that_no_child_can_have_is_refused(flows: Flows, id: Any, says: str) -> None:
    """An empty one is not taken for none, and one that is not text is not tried again and again."""

    @flows.flow
    async def small(run: Run) -> int:
        return 1

    @flows.flow
    async def parental(run: Run) -> int:
        return await run.child("a", small, id=id)

    with pytest.raises(FlowFailedError, match=f"InvalidFlowIdError: .*{says}"):
        await asyncio.wait_for(flows.run(parental, id="x"), 5)


async def test_a_child_that_is_not_a_flow_fails_the_run_by_name(flows: Flows) -> None:
    """The name of a flow is not enough: the types of its input and result are needed."""

    @flows.flow
    async def parental(run: Run) -> None:
        await run.child("a", "nope")  # type: ignore[call-overload]  # the mistake

    with pytest.raises(FlowFailedError, match="TypeError: 'nope' is not a flow"):
        await asyncio.wait_for(flows.run(parental, id="x"), 5)
