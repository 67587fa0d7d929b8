"""What the function of a flow sees of its run."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from typing_extensions import override

from firestore_flowstate import UNSET, Unset

from . import operations
from .arguments import check_count, check_function, check_items, check_retry
from .calls import call
from .context import uuid_in
from .entries import arguments_sum
from .flow import Flow
from .mapping import map_items
from .options import StepOptions
from .retry import Retry
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

    The methods count their key when they are called, not when they are awaited: names, not positions, are the keys, and
    the second call with a name gets the key ``name-1``.
    """

    def __init__(self, drive: Drive, options: StepOptions | None = None) -> None:
        self._drive = drive
        self._options = options

    def __repr__(self) -> str:
        return f"Run({self.id!r}, flow={self.name!r})"

    @property
    def id(self) -> str:
        """The id of the run, which its state is stored under."""
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
        """When the run first began, in UTC; the same on every replay."""
        return datetime.fromtimestamp((self._drive.image.record.began or 0) / 1000, timezone.utc)

    @property
    def is_replaying(self) -> bool:
        """Whether no operation so far was without a recorded result."""
        return self._drive.is_replaying

    @overload
    def step(
        self, name: str, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def step(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Return what the function returns, from the record if it has run.

        ::

            outline = await run.step("outline", make_outline, topic)

        The result goes through JSON and is validated as the function's annotated type, on the first call as on a
        replay. A function that is not async runs in a thread.

        Raises:
            StepFailedError: It failed for good; rebuilt from the record.
            FlowCodeChangedError: The key has a result of something else.
            ValueError: The name cannot be one of a step.
            TypeError: `fn` cannot be called.
        """
        check_function(fn, name)
        called = call(self._drive)
        key = called.scope.key_for(name)
        total = arguments_sum(args, kwargs) if called.is_foreign else None
        options, scope = self._step_options, called.scope
        once = options.at_most_once or scope.at_most_once
        return step(called, StepCall(key, fn, args, kwargs, options, total, is_once=once, is_straight=scope.straight))

    def options(
        self,
        *,
        retry: Retry | None = None,
        timeout: timedelta | float | None = None,
        at_most_once: bool = False,
        result: Any = UNSET,
    ) -> Run:
        """Return this run with options for the steps that are called on it.

        ::

            await run.options(retry=Retry(5), timeout=30).step("ask", ask, prompt)

        Args:
            retry: When to try again.
            timeout: How long each attempt may take, in seconds; on `map` for each item. A timeout is a failed attempt.
            at_most_once: Never begin the step twice; what is lost in a crash is StepInterruptedError.
            result: The type to read the result as, in place of the function's annotation.
        """
        check_retry(retry)
        merged = self._step_options.merged(retry=retry, timeout=timeout, at_most_once=at_most_once, result=result)
        if merged.at_most_once and merged.retry is not None and merged.retry.attempts > 1:
            raise ValueError("a step with at_most_once is never begun again: leave retry out")
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
        """Return what the function returns for each item, in order: a step for each, at most `at_once` at a time.

        Raises:
            StepFailedError: An item failed for good. No further item was begun; those in flight are recorded.
        """
        check_count(at_once, "at_once", least=1)
        check_function(fn, name)
        members = check_items(items, name)
        called = call(self._drive)
        keys = called.scope.keys_for(name, len(members))
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
                is_spaced=False,
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
        """Wait until somebody answers by `resume`, and return the answer. No process waits meanwhile.

        Args:
            name: The name of the step.
            type: What the answer is to be; None: any JSON value.
            show: What people need to see for their answer: stored once as ``cache["KEY/show"]``.
            timeout: How long to wait, in seconds.

        Raises:
            WaitTimeoutError: Nobody answered in time.
            InvalidPayloadError: The answer does not fit the type after all; ask again under another name.
        """
        called = self._call_without_options("interrupt")
        key = called.scope.key_for(name)
        return operations.interrupt(called, key, type, show, timeout)

    def sleep(
        self, name: str, duration: timedelta | float | None = None, *, until: datetime | None = None
    ) -> Coroutine[Any, Any, None]:
        """Wait for a time, or until a moment. No process waits meanwhile.

        Args:
            name: The name of the step.
            duration: How long, in seconds.
            until: The moment, with its time zone.
        """
        if (duration is None) == (until is None):
            raise ValueError("sleep takes a duration or until, one of the two")
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
        """Start another run, and return its result.

        Args:
            name: The name of the step.
            flow: What to run.
            input: Its input.
            id: The id of the other run; None: one made of this run's id and the key.

        Raises:
            FlowFailedError: It failed; `step` is the key.
            FlowCancelledError: It was cancelled.
        """
        called = self._call_without_options("child")
        return operations.child(called, called.scope.key_for(name), flow, input, id)

    def progress(self, **scalars: JsonScalar) -> None:
        """Show scalars beside the state, with the next checkpoint or after a second; silent while replaying.

        Raises:
            ValueError: A name is a key of the state itself.
            FlowStateEncodeError: The store's `update` does not take a name or a value.
        """
        operations.progress(self._drive, scalars)

    def now(self, name: str = "now") -> Coroutine[Any, Any, datetime]:
        """Return the time, in UTC; it is recorded, so it is the same on every replay."""
        called = self._call_without_options("now")
        return operations.now(called, called.scope.key_for(name))

    def uuid(self, name: str = "uuid") -> str:
        """Return a UUID made of the run's id and the key: the same on every replay, without a record."""
        return uuid_in(self.id, "uuid", call(self._drive).scope.key_for(name))

    @property
    def log(self) -> logging.LoggerAdapter[Any]:
        """A logger that is silent while replaying, with ``flow_id`` and ``flow`` in each record."""
        return _Log(logging.getLogger("firestore_flowstate.flows.run"), self)

    @property
    def _step_options(self) -> StepOptions:
        return self._options or _NO_OPTIONS

    def _call_without_options(self, what: str) -> Any:
        if self._options is not None:
            raise ValueError(f"options are for steps: {what} takes none")
        return call(self._drive)


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # which takes no parameter before Python 3.11


class _Log(_Adapter):
    """Says nothing while a run is replaying."""

    def __init__(self, logger: logging.Logger, run: Run) -> None:
        super().__init__(logger, {"flow_id": run.id, "flow": run.name})
        self._run = run

    @override
    def isEnabledFor(self, level: int) -> bool:
        return not self._run.is_replaying and super().isEnabledFor(level)
