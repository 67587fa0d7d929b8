"""`Run`: what the function of a flow sees of its run."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from typing_extensions import override

from firestore_flowstate import UNSET, Unset

from . import operations
from .arguments import check_count, check_flag, check_function, check_items, check_moment, check_retry
from .calls import call
from .context import uuid_in
from .entries import arguments_sum
from .flow import Flow
from .mapping import map_items
from .retry import Retry
from .step_options import StepOptions
from .stepping import StepCall, step

if TYPE_CHECKING:
    from .driving import Drive

P = ParamSpec("P")
T = TypeVar("T")
Input = TypeVar("Input")
Result = TypeVar("Result")
_NO_OPTIONS: Final = StepOptions()
JsonScalar = str | int | float | bool


class Run:
    """One run of a flow, as its function sees it.

    What a method returns is recorded under a key, and a replay reads it from there. The key is the name that the method
    is given; the second call with one name gets ``name-1``. Keys are counted when a method is called, not when its
    coroutine is awaited.
    """

    def __init__(self, drive: Drive, options: StepOptions | None = None) -> None:
        self._drive = drive
        self._options = options

    def __repr__(self) -> str:
        return f"Run({self.id!r}, flow={self.name!r})"

    @property
    def id(self) -> str:
        """The id of the run: its state is stored under it."""
        return self._drive.id

    @property
    def name(self) -> str:
        """The name of the flow."""
        return self._drive.flow.name

    @property
    def version(self) -> str | None:
        """The version of the code that started the run: `Flows(version=...)`."""
        return self._drive.image.record.code_version

    @property
    def started_at(self) -> datetime:
        """When the run was first claimed to be driven, in UTC: the same on every replay."""
        return datetime.fromtimestamp((self._drive.image.record.began or 0) / 1000, timezone.utc)

    @property
    def is_replaying(self) -> bool:
        """Whether an earlier drive has come this far: every operation so far had a recorded result."""
        return self._drive.is_replaying

    @overload
    def step(
        self, name: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Call the function once, record what it returns, and return that; on a replay return what is recorded.

        ::

            outline = await run.step("outline", make_outline, "rivers")

        The result goes through JSON and is validated as the type that the function is annotated to return, on the first
        call as on a replay. A function that is not async runs in one of the 32 threads of its `Flows`.

        Args:
            name: The name of the step.
            fn: The function. It may run again if the process dies before its result is stored.
            args: What it is called with.
            kwargs: What it is called with by name.

        Raises:
            StepFailedError: The function raised an error, and there are no more attempts. It is built from the record.
            FlowCodeChangedError: What is recorded under the key is of another kind, or of other arguments. Arguments
                are compared only if this was called in another task than the flow's own, in which calls of one name
                may come in another order; in the flow's own task the recorded result is returned whatever they are.
            ValueError: The name is empty, has a slash or a lone surrogate, or has the form ``__x__``.
            TypeError: `fn` cannot be called.
        """
        check_function(fn, name)
        called = call(self._drive)
        key = called.scope.key_for(name)
        total = arguments_sum(args, kwargs) if called.is_foreign else None
        options, scope = self._options or _NO_OPTIONS, called.scope
        once = options.at_most_once or scope.at_most_once
        return step(called, StepCall(key, fn, args, kwargs, options, total, once, scope.straight))

    def options(
        self,
        *,
        retry: Retry | None = None,
        timeout: timedelta | float | None = None,
        at_most_once: bool = False,
        result: Any = UNSET,
    ) -> Run:
        """Return this run with options for the steps that are called on what is returned.

        ::

            answer = await run.options(retry=Retry(5), timeout=30).step("ask", ask, "rivers")

        Args:
            retry: How often and when a step is tried again; None: as `Flows(retry=...)` says.
            timeout: How long each attempt may take, as a timedelta or in seconds; on `map` each attempt of each item.
                A function that is not async goes on in its thread when its time is over.
                An attempt that takes longer has failed, by a TimeoutError. The time that it spends in a wait inside of
                the step does not count.
            at_most_once: Whether the step must never begin twice. If it was begun, and no result of it is stored, the
                step raises StepInterruptedError. `Flows.retry` of the run begins it again, since somebody has looked
                by then whether it was done.
            result: The type to read the result as, in place of the one that the function is annotated to return.

        Raises:
            ValueError: `at_most_once` is given together with a Retry of more than one attempt, or `timeout` is
                negative.
            TypeError: `retry` is not a Retry, `timeout` is not a duration, `at_most_once` is not a bool, or `result` is
                not a type.
        """
        check_retry(retry)
        check_flag(at_most_once, "at_most_once")
        if not isinstance(result, Unset):
            self._drive.engine.values.check_type(result, "result")
        merged = self._step_options.merged(retry=retry, timeout=timeout, at_most_once=at_most_once, result=result)
        if merged.at_most_once and merged.retry is not None and merged.retry.attempts > 1:
            raise ValueError("a step with at_most_once is never begun again: leave retry out, or at_most_once")
        return Run(self._drive, merged)

    @overload
    def map(
        self, name: str, fn: Callable[[Input], Awaitable[T]], items: Iterable[Input], *, at_once: int = 8
    ) -> Coroutine[Any, Any, list[T]]: ...
    @overload
    def map(
        self, name: str, fn: Callable[[Input], T], items: Iterable[Input], *, at_once: int = 8
    ) -> Coroutine[Any, Any, list[T]]: ...
    def map(
        self, name: str, fn: Callable[[Any], Any], items: Iterable[Any], *, at_once: int = 8
    ) -> Coroutine[Any, Any, list[Any]]:
        """Call the function for each item, and return the results in the order of the items.

        Each item is a step of its own, with the keys ``name``, ``name-1``, ``name-2``.

        ::

            parts = await run.map("draft", write_part, ["source", "delta"], at_once=4)

        Args:
            name: The name of the steps.
            fn: The function, which takes one item.
            items: The items. On a replay they must come in the same order.
            at_once: How many items are in flight at a time.

        Raises:
            StepFailedError: An item failed. No further item has begun, and those that were in flight are recorded.
            ValueError: The name cannot be that of a step, or `at_once` is less than 1.
            TypeError: `fn` cannot be called, or `items` cannot be iterated over.
        """
        check_count(at_once, "at_once", least=1)
        check_function(fn, name)
        members = check_items(items, name)
        called = call(self._drive)
        keys, series = called.scope.keys_for(name, len(members)), object()
        calls = [
            StepCall(
                key,
                fn,
                [member],
                {},
                self._step_options,
                arguments_sum([member], {}) if called.is_foreign else None,
                is_once=self._step_options.at_most_once or called.scope.at_most_once,
                is_straight=False,
                series=series,
            )
            for key, member in zip(keys, members, strict=True)
        ]
        return map_items(called, calls, at_once)

    @overload
    def interrupt(
        self, name: str, type: type[T], *, show: Any = UNSET, timeout: timedelta | float | None = None
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def interrupt(
        self, name: str, type: None = None, *, show: Any = UNSET, timeout: timedelta | float | None = None
    ) -> Coroutine[Any, Any, Any]: ...
    def interrupt(
        self, name: str, type: Any = None, *, show: Any = UNSET, timeout: timedelta | float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Wait until somebody answers by `Flows.resume`, and return the answer. No process waits meanwhile.

        ::

            ok = await run.interrupt("approve", bool, show="a draft", timeout=timedelta(days=3))

        Args:
            name: The name of the interrupt.
            type: The type of the answer, whose JSON Schema is stored for those who answer; None: any JSON value.
            show: What people need to see for their answer. It is stored once, as ``cache["KEY/show"]``.
            timeout: How long to wait, as a timedelta or in seconds; None: until somebody answers.

        Raises:
            TypeError: `type` is not a type that an answer can be read as.
            WaitTimeoutError: Nobody answered in time.
            InvalidPayloadError: The stored answer does not fit the type. Ask again under another name.
        """
        called = self._call_without_options("interrupt")
        if type is not None:
            self._drive.engine.values.check_type(type, "type")
        key = called.scope.key_for(name)
        return operations.interrupt(called, key, type, show, timeout)

    def sleep(
        self, name: str, duration: timedelta | float | None = None, *, until: datetime | None = None
    ) -> Coroutine[Any, Any, None]:
        """Wait for a time, or until a moment. No process waits meanwhile.

        ::

            await run.sleep("embargo", timedelta(days=1))

        Args:
            name: The name of the sleep.
            duration: How long to wait, as a timedelta or in seconds.
            until: The moment to wait for, with its time zone. One that has passed ends the sleep at once.

        Raises:
            ValueError: Both `duration` and `until` are given, or neither; or `until` has no time zone.
            TypeError: `duration` is not a duration, or `until` is not a datetime.
        """
        if (duration is None) == (until is None):
            raise ValueError("sleep takes either a duration or until, not both and not neither")
        if until is not None:
            check_moment(until, "until")
        if until is not None and until.tzinfo is None:
            raise ValueError(f"until needs a time zone, such as timezone.utc: {until!r} has none")
        called = self._call_without_options("sleep")
        return operations.sleep(called, called.scope.key_for(name), duration, until)

    @overload
    def child(self, name: str, flow: Flow[None, Result], *, id: str | None = None) -> Coroutine[Any, Any, Result]: ...
    @overload
    def child(
        self, name: str, flow: Flow[Input, Result], input: Input, *, id: str | None = None
    ) -> Coroutine[Any, Any, Result]: ...
    def child(
        self, name: str, flow: Flow[Any, Any], input: Any | Unset = UNSET, *, id: str | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Start another run, wait until it has ended, and return its result. No process waits meanwhile.

        ::

            review = await run.child("review", review_article, "rivers")

        Args:
            name: The name of the child in this run.
            flow: The flow to run, of the same `Flows`.
            input: The input of the child.
            id: The id of the child; None: one made of this run's id and the key.

        Raises:
            FlowFailedError: The child failed, was deleted, or another run has its id. The error's `step` is the key.
            FlowCancelledError: The child was cancelled.
            InvalidPayloadError: The input does not fit the flow.
            UnknownFlowError: The flow belongs to another `Flows`.
        """
        called = self._call_without_options("child")
        return operations.child(called, called.scope.key_for(name), flow, input, id)

    def progress(self, **scalars: JsonScalar) -> None:
        """Store scalars beside the state, for people and queries; on a replay nothing is stored.

        They are written with the next checkpoint, or within a second. The function of a step may call this too, from
        its thread.

        ::

            run.progress(percent=40, stage="drafts")

        Args:
            scalars: The values by their names: texts, numbers and booleans.

        Raises:
            ValueError: A name is a key of the state itself.
            FlowStateEncodeError: The store's `update` does not take a name or a value.
        """
        operations.progress(self._drive, scalars)

    def now(self, name: str = "now") -> Coroutine[Any, Any, datetime]:
        """Return the time in UTC. It is recorded, so every replay returns the same.

        ::

            today = (await run.now()).date()
        """
        called = self._call_without_options("now")
        return operations.now(called, called.scope.key_for(name))

    def uuid(self, name: str = "uuid") -> str:
        """Return a UUID that is made of the run's id and the key: the same on every replay, without a record."""
        return uuid_in(self.id, "uuid", call(self._drive).scope.key_for(name))

    @property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger that says nothing while the run is replaying; its records have ``flow_id`` and ``flow``."""
        return _Log(logging.getLogger("firestore_flowstate.flows.run"), self)

    @property
    def _step_options(self) -> StepOptions:
        return self._options or _NO_OPTIONS

    def _call_without_options(self, what: str) -> Any:
        if self._options is not None:
            raise ValueError(f"options are for steps: call {what} on the run itself, not on run.options(...)")
        return call(self._drive)


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # which takes no parameter before Python 3.11


class _Log(_Adapter):
    """A logger adapter that says nothing while the run is replaying."""

    def __init__(self, logger: logging.Logger, run: Run) -> None:
        super().__init__(logger, {"flow_id": run.id, "flow": run.name})
        self._run = run

    @override
    def isEnabledFor(self, level: int) -> bool:
        return not self._run.is_replaying and super().isEnabledFor(level)
