"""`Flows`: the flows of an application over one store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from firestore_flowstate import UNSET, FlowState, Unset, VersionedFlowStateStore
from firestore_flowstate.errors import shown

from . import results
from .arguments import check_count, check_dispatcher, check_retry, check_store, check_text, check_verify
from .background import Background
from .budget import budget_seconds
from .cancelling import cancel
from .clock import SystemClock
from .decorator import FlowDecorator
from .dispatch import Dispatcher, InProcess
from .engine import Engine, lease_in_milliseconds
from .final import DriveOutcome
from .flow import Flow, own_name
from .foreground import run
from .genkit_wire import check_names
from .handle import FlowHandle
from .harmless_telemetry import HarmlessTelemetry
from .http import make_app
from .open_telemetry import OpenTelemetry
from .preparing import prepared
from .resuming import resume
from .retry import Retry
from .retrying import retry
from .run import JsonScalar, Run
from .running import drive
from .signals import Termination
from .starting import create_or_join
from .step_options import milliseconds, seconds
from .sweeping import sweep, worker

if TYPE_CHECKING:
    from .blocking import BlockingFlows

Input = TypeVar("Input")
Result = TypeVar("Result")


_SHORTEST_POLL_SECONDS: Final = 0.01
"""About what the query of one look takes."""


class Flows:
    """The flows of an application over one store: they are defined, started, answered and driven by it.

    ::

        flows = Flows(MemoryFlowStateStore())

        @flows.flow
        async def greet(run: Run, name: str) -> str:
            return f"Hello, {name}"

        greeting = await flows.run(greet, "Ada")

    Args:
        store: The store that keeps the runs. It stays open when the flows are closed.
        dispatcher: What has runs driven; None: this process drives those that it starts, resumes or retries.
        lease: How long a claim lasts unless it is extended. If a process dies, its runs are taken over by another one
            after that time and a grace of a tenth of it, at least 2 s.
        version: The version of the code, which is kept with each run that is started by it: `Run.version`.
        max_recoveries: How often in a row a run may be taken over without a new result, before it fails.
        retry: When steps without a Retry of their own are tried again; None: never.

    Attributes:
        store: The store that keeps the runs.
        dispatcher: The dispatcher that was given; None: this process drives its runs.

    Raises:
        TypeError: An argument is of another type.
        ValueError: The store lets states expire that have not ended, so that a waiting run would be lost. Or the lease
            is less than 1 s, or `max_recoveries` is negative, or `version` is empty.
    """

    def __init__(
        self,
        store: VersionedFlowStateStore,
        *,
        dispatcher: Dispatcher | None = None,
        lease: timedelta = timedelta(seconds=60),
        version: str | None = None,
        max_recoveries: int = 10,
        retry: Retry | None = None,
    ) -> None:
        check_store(store)
        check_dispatcher(dispatcher)
        check_retry(retry)
        check_text(version, "version")
        check_count(max_recoveries, "max_recoveries", least=0)
        self.store = store
        self.dispatcher = dispatcher
        self._background = Background(lambda: self._engine)
        self._engine = Engine(
            store=store,
            dispatcher=dispatcher or InProcess(self._background.drive, lambda: self._engine),
            clock=SystemClock(),
            lease=lease_in_milliseconds(lease),
            version=version,
            max_recoveries=max_recoveries,
            retry=retry,
            telemetry=HarmlessTelemetry(OpenTelemetry()),
        )
        if dispatcher is None:
            self._engine.drives_here = self._background.begin
        self._termination = Termination(self._hand_over)
        self._blocking: BlockingFlows | None = None
        self._has_wire = False  # whether an application of these serves Genkit JS's wire

    # Flows

    @overload
    def flow(self, function: Callable[[Run, Input], Awaitable[Result]], /) -> Flow[Input, Result]: ...
    @overload
    def flow(self, function: Callable[[Run], Awaitable[Result]], /) -> Flow[None, Result]: ...
    @overload
    def flow(self, /, *, name: str | None = None, timeout: timedelta | None = None) -> FlowDecorator: ...
    def flow(
        self,
        function: Callable[..., Awaitable[Any]] | None = None,
        /,
        *,
        name: str | None = None,
        timeout: timedelta | None = None,
    ) -> Any:
        """Make a durable flow of an async function ``(run, input)`` or ``(run)``.

        ::

            @flows.flow(name="review", timeout=timedelta(days=30))
            async def review_article(run: Run, topic: str) -> str:
                return await run.interrupt("review", str)

        Args:
            function: The function.
            name: The name that runs are stored with; None: the function's own.
            timeout: How long a run may take in all, waits included, before it is cancelled; None: as long as it likes.

        Raises:
            TypeError: The function is not async, or takes other parameters.
            ValueError: There is a flow of that name already, or the timeout is negative. Or there is an application
                with `genkit`, and the flow is named drive, sweep or health, or has a slash in its name.
        """
        length = None if timeout is None else milliseconds(timeout, "timeout")
        check_text(name, "name")

        def decorate(function: Callable[..., Awaitable[Any]]) -> Flow[Any, Any]:
            return self._add(Flow(function, name=name or own_name(function), timeout=length))

        return decorate if function is None else decorate(function)

    def _add(self, flow: Flow[Any, Any]) -> Flow[Any, Any]:
        if self._has_wire:
            check_names([flow.name])
        if flow.name in self._engine.flows:
            raise ValueError(f"there is a flow {flow.name!r} already: give one of them another name")
        self._engine.flows[flow.name] = flow
        flow.home = self
        return flow

    # Runs

    @overload
    async def start(
        self,
        flow: Flow[None, Result],
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> FlowHandle[Result]: ...
    @overload
    async def start(
        self,
        flow: Flow[Input, Result],
        input: Input,
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> FlowHandle[Result]: ...
    @overload
    async def start(
        self,
        flow: str,
        input: Any = UNSET,
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> FlowHandle[Any]: ...
    async def start(
        self,
        flow: Flow[Any, Any] | str,
        input: Any = UNSET,
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> FlowHandle[Any]:
        """Start a run, and return its handle as soon as the run is stored.

        If a run of this flow has the id already, that run is the one that is returned. It stays as it is, and if it
        was started with another input, a warning in the log says so.

        ::

            handle = await flows.start(publish, "rivers", id="order-18", extra={"owner": "ada"})

        Args:
            flow: The flow; or its name, which this process need not know if there is a dispatcher.
            input: The input, if the flow takes one. Without it the default of the function's parameter is stored as the
                input, if this process knows the flow and the default is of the parameter's type.
            id: The id to store the run under; None: a random UUID.
            delay: How long from now the run is to begin; None: it begins now.
            extra: Scalars beside the state, for queries and security rules, such as an owner.
            expire_after: How long after its end the state is kept; None: for ever. Not given: as the store says.

        Raises:
            InvalidPayloadError: The input does not fit. Nothing was written.
            InvalidFlowIdError: The id cannot name a document. Nothing was written.
            FlowStateEncodeError: `extra` has what the store's `update` does not take, or the input has no JSON form.
                Nothing was written.
            ValueError: `extra` has a key of the state itself. Nothing was written.
            FlowStateExistsError: A run of another flow has the id.
            UnknownFlowError: There is no dispatcher, and this process does not know the flow.
            DispatchError: The queue did not take the task. The run is stored, and a sweep finds it.
        """
        begin = prepared(self._engine, flow, input, id=id, delay=delay, extra=extra, expire_after=expire_after)
        await create_or_join(self._engine, begin)
        return FlowHandle(self, begin.id)

    @overload
    async def run(self, flow: Flow[None, Result], *, id: str | None = None) -> Result: ...
    @overload
    async def run(self, flow: Flow[Input, Result], input: Input, *, id: str | None = None) -> Result: ...
    async def run(self, flow: Flow[Any, Any], input: Any = UNSET, *, id: str | None = None) -> Any:
        """Start a run, drive it in this process, and return its result, also if the run waits in between.

        If a run of this flow has the id already, its result is awaited and returned.

        ::

            article = await flows.run(write, "rivers")

        Raises:
            FlowFailedError: The run failed.
            FlowCancelledError: The run was cancelled.
            InvalidPayloadError: The input does not fit. Nothing was written.
            FlowStateExistsError: A run of another flow has the id.
            UnknownFlowError: The flow belongs to another `Flows`, or is a name that this process does not know.
            DispatchError: The queue did not take the task that was to wake the run, which is stored. A sweep finds it.
        """
        return await run(self._engine, prepared(self._engine, flow, input, id=id, here=True))

    def handle(self, id: str) -> FlowHandle[Any]:
        """Return a handle of the run with the id, whether or not there is one.

        Raises:
            InvalidFlowIdError: The id is not text, or empty.
        """
        return FlowHandle(self, id)

    async def resume(self, id: str, payload: Any = None, *, step: str | None = None, key: str | None = None) -> None:
        """Answer a run, and have it go on.

        An answer to an interrupt that the run has not reached yet is kept for it, and checked when the run asks: the
        interrupt raises InvalidPayloadError if the answer does not fit. An answer to a sleep ends the sleep.

        ::

            await flows.resume("order-17", True, step="approve", key="form-1")

        Args:
            id: The id of the run.
            payload: The answer. It is checked by the JSON Schema that is stored with the interrupt. Patterns in it that
                Python cannot compile are passed over: the type checks these when the run reads the answer, and the
                interrupt raises InvalidPayloadError if it does not fit.
            step: The key of the interrupt or sleep; None: the first interrupt that is open when this is called. If
                somebody else answers that one meanwhile, this is NotWaitingError, and answers no other.
            key: A name for this answer, so that it can be given again: then nothing is written, and it is a success.

        Raises:
            FlowStateNotFoundError: There is no such run.
            NotWaitingError: The run has ended, or the step has its answer or its result, or takes no answer.
            InvalidPayloadError: The answer does not fit, or the stored schema is not one. Nothing was written.
            FlowStateEncodeError: The answer has no JSON form. Nothing was written.
            DispatchError: The queue did not take the task. The answer is stored, and a sweep finds the run.
        """
        await resume(self._engine, id, payload, step=step, key=key)

    async def cancel(self, id: str, reason: str = "") -> None:
        """Cancel a run: at once if nobody drives it, else when its steps in flight have ended.

        A run that has ended stays as it is, without an error. So does one whose driver was at its last write when this
        was called: it may be ``done`` in the end. `result` says how it ended. The children of a cancelled run
        are cancelled too, also those that it does not wait for any more, or that it had begun before a retry.

        ::

            await flows.cancel("order-17", "the customer withdrew")

        Args:
            id: The id of the run.
            reason: Why: `FlowCancelledError.reason`. Of more than 4,000 characters the first 4,000 are stored.

        Raises:
            FlowStateNotFoundError: There is no such run.
            DispatchError: The queue did not take the task that was to wake the parent of the run. The run is cancelled,
                and a sweep wakes the parent and cancels the children.
        """
        await cancel(self._engine, id, reason)

    async def retry(self, id: str, *, from_step: str | None = None) -> None:
        """Have a run that failed or was cancelled go on: the steps that made it fail run again, all others are kept.

        Steps that had failed in other branches run again too, if the function was not told of that before it ended.
        What runs again loses its recorded failure. What has no result begins anew, such as a sleep, the timeout of an
        interrupt, or a step with ``at_most_once`` that was cut off: see what that step did first. How the run
        had ended stays in its history, with the first 200 characters of the error: the stretch in `executions` that it
        ended in has ``ended`` and ``error``.

        ::

            await flows.retry("failed-17", from_step="outline")

        Args:
            id: The id of the run.
            from_step: The key of a step to run again, with all that reached the function after it, also of parallel
                branches; None: only what made the run fail. What runs again has another `Step.idempotency_key`.
                Children among that begin anew, but for those whose id the flow gives: these are retried if they failed.
                A child that went on goes on beside the one that takes its place, and is cancelled with the run.

        Raises:
            FlowStateNotFoundError: There is no such run.
            NotFailedError: The run neither failed nor was cancelled.
            ValueError: The run has no result of `from_step`, or it is empty.
            TypeError: `from_step` is not text.
            DispatchError: The queue did not take the task of the run, or of a child that is retried before it. A sweep
                finds what is due. Call this again if the run has still failed.
        """
        await retry(self._engine, id, from_step=from_step)

    async def result(self, id: str, *, timeout: timedelta | float | None = None) -> Any:
        """Wait until a run has ended, and return what it returned.

        ::

            article = await flows.result("done-17", timeout=60)

        Args:
            id: The id of the run.
            timeout: How long to wait, as a timedelta or in seconds; 0: look once; None: for ever.

        Raises:
            FlowFailedError: The run failed.
            FlowCancelledError: The run was cancelled.
            TimeoutError: The run has not ended in time. It goes on.
            BackendError: The store cannot be reached; a DeadlineError of it is a TimeoutError too.
            FlowStateNotFoundError: There is no such run.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        if limit == 0:
            return await results.result_now(self._engine, id)
        if limit is None:
            return await results.result(self._engine, id)
        return await results.result_within(self._engine, id, limit)

    # Driving

    async def drive(self, id: str, *, budget: timedelta | float | None = None) -> DriveOutcome:
        """Claim a run that is due, and drive it in this process until it ends or waits.

        The handler of a task calls this.

        ::

            outcome = await flows.drive("order-17", budget=timedelta(minutes=9))

        Args:
            id: The id of the run.
            budget: How long this may take, as a timedelta or in seconds: as long as the request lasts. In its last
                tenth, at least 5 and at most 60 seconds, no step begins, and the run is handed over to another drive.
                With a budget the run is handed over at SIGTERM too, if this is called on the main thread. None: as long
                as the run needs.

        Returns:
            How the drive ended; see `DriveOutcome`.

        Raises:
            UnknownFlowError: This process does not know the flow of the run. Nothing was claimed.
            BackendError: The store cannot be reached.
            DispatchError: The queue did not take the task that was to wake the run or its parent. What the drive did is
                stored, and a sweep finds the run.
            ValueError: The budget is not more than 5 seconds, which are kept at its end for steps in flight.
        """
        length = None if budget is None else budget_seconds(budget)
        if length is not None:
            self._termination.chain()  # in a host without a lifespan nobody enters the flows
        return await drive(self._engine, id, budget=length)

    async def sweep(self, *, limit: int = 1000) -> int:
        """Dispatch the runs that have been due for 10 seconds, and return how many there were.

        It is to be called each minute, and finds the runs whose tasks were lost. It passes over runs whose flow this
        process does not know.

        ::

            dispatched = await flows.sweep()

        Args:
            limit: The most runs that are dispatched in one call.

        Raises:
            DispatchError: The queue did not take a task. The runs that were not dispatched are found by the next sweep.
        """
        check_count(limit, "limit", least=1)
        return await sweep(self._engine, limit)

    def worker(self, *, at_once: int = 16, poll: timedelta | float = 1.0) -> AbstractAsyncContextManager[None]:
        """Drive the runs that are due, in this process, for as long as the context is held open.

        ::

            async with flows.worker(at_once=4):
                await asyncio.sleep(0.1)  # a service awaits its end here

        Args:
            at_once: How many runs are driven at a time.
            poll: The pause after a look that found no run which is due, as a timedelta or in seconds. A look is a query
                for each 300 runs that are due.

        Raises:
            ValueError: `at_once` is less than 1, or `poll` less than 0.01 s.
        """
        check_count(at_once, "at_once", least=1)
        pause = seconds(poll, "poll")
        if pause < _SHORTEST_POLL_SECONDS:
            raise ValueError(
                f"poll is at least {_SHORTEST_POLL_SECONDS} s, about what the query of a look takes, not {shown(poll)}"
            )
        return worker(self._engine, at_once=at_once, poll=pause)

    def app(self, *, verify: Any, genkit: bool = False, budget: timedelta = timedelta(minutes=4)) -> Any:
        """Return an ASGI application with ``POST /drive``, ``POST /sweep`` and ``GET /health``.

        If it is served alone, its lifespan enters the flows. If it is mounted, the lifespan of the outer application
        must do so: ``async with flows``.

        ::

            app = flows.app(verify=None)  # on private Cloud Run, which verifies callers itself

        Args:
            verify: What decides who may call any route but ``/health``: an `Oidc`, or a function, which may be async,
                that takes starlette's Request and returns whether to let it in. None: the platform verifies callers, as
                private Cloud Run does.
            genkit: Whether to serve Genkit JS's wire too: ``POST /FLOW``.
            budget: How long a request may take. It is to be less than the time after which the host cuts a request off.
                In its last tenth, at least 5 and at most 60 seconds, no step begins, and the run is handed over.

        Raises:
            FlowStateError: The extra ``http`` is not installed.
            TypeError: `verify` cannot be called, or is a class.
            ValueError: With `genkit`, a flow is named drive, sweep or health, or has a slash in its name. Or the budget
                is not more than 5 seconds.
        """
        check_verify(verify)
        length = budget_seconds(budget)
        app = make_app(self, verify=verify, genkit=genkit, budget=length)
        self._has_wire = self._has_wire or genkit
        return app

    @property
    def blocking(self) -> BlockingFlows:
        """The same methods for hosts without an event loop: they block.

        On the main thread this sets a handler of SIGTERM that hands runs over.
        """
        if self._blocking is None:
            from .blocking import BlockingFlows

            self._blocking = BlockingFlows(self)
        self._termination.chain()
        return self._blocking

    async def __aenter__(self) -> Flows:
        self._engine.is_closing = False
        self._termination.chain()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hand over all runs that are driven in this process, and close the dispatcher. The store stays open.

        Steps in flight are awaited for 8 seconds, and after 9 seconds what could not be handed over is left to its
        lease, such as a run whose last write fails. That takes 10 seconds at most; then the dispatcher is closed. What
        `drive` and `run` are awaited for ends there, not here: it is handed over too, and not driven in this process
        again by itself. What is started later is.
        """
        self._hand_over()
        try:
            await self._background.close()
            await self._engine.dispatcher.close()
        finally:
            self._engine.close()
            self._engine.is_closing = False  # also if this was interrupted: what is started later is to be driven
            self._termination.unchain()

    # Behind it

    def _hand_over(self) -> None:
        self._engine.is_closing = True
        for driven in list(self._engine.drives.values()):
            with suppress(RuntimeError):  # its loop is closed, and with it the drive; the others are told all the same
                driven.leave()

    def _watch(self, id: str) -> AsyncIterator[FlowState]:
        return results.watch(self._engine, id)
