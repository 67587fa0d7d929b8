"""The flows of an application over one store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from firestore_flowstate import UNSET, FlowState, FlowStateError, Unset, VersionedFlowStateStore
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
from .handle import FlowHandle
from .open_telemetry import OpenTelemetry
from .options import milliseconds, seconds
from .preparing import prepared
from .resuming import resume
from .retry import Retry
from .retrying import retry
from .run import JsonScalar, Run
from .running import drive
from .signals import Termination
from .starting import create_or_join
from .sweeping import sweep, worker

if TYPE_CHECKING:
    from .blocking import BlockingFlows

Input = TypeVar("Input")
Result = TypeVar("Result")


_SHORTEST_POLL_SECONDS: Final = 0.01


class Flows:
    """The flows of an application over one store.

    ::

        flows = Flows(FirestoreFlowStateStore())

        @flows.flow
        async def publish(run: Run, topic: Topic) -> Article: ...

        handle = await flows.start(publish, topic, id="order-17")

    Args:
        store: Where the runs are kept. It is not closed with the flows.
        dispatcher: What has runs driven; None: this process does, for those that it starts, resumes or retries.
        lease: How long a claim lasts without being extended: so long it takes at least until another process takes
            over a run whose process has died.
        version: Of the code, kept with each run that it starts.
        max_recoveries: How often in a row a run may be taken over without a new result before it is given up.
        retry: When steps without a Retry of their own are tried again; None: never.

    Attributes:
        store: Where the runs are kept.
        dispatcher: What it was given to have runs driven; None: this process does.

    Raises:
        TypeError: An argument is of another type.
        ValueError: The store lets states expire that have not ended: a run that waits would be lost. Or the lease is
            less than 1 s, or another argument cannot be right.
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
            telemetry=OpenTelemetry(),
        )
        if dispatcher is None:
            self._engine.drives_here = self._background.begin
        self._termination = Termination(self._hand_over)
        self._blocking: BlockingFlows | None = None

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

        Args:
            function: The function.
            name: The name that runs are stored with; None: the function's own.
            timeout: How long a run may take in all, before it is cancelled.

        Raises:
            ValueError: There is a flow of that name already.
        """
        length = None if timeout is None else milliseconds(timeout, "timeout")
        check_text(name, "name")

        def decorate(function: Callable[..., Awaitable[Any]]) -> Flow[Any, Any]:
            return self._add(Flow(function, name=name or own_name(function), timeout=length))

        return decorate if function is None else decorate(function)

    def _add(self, flow: Flow[Any, Any]) -> Flow[Any, Any]:
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
        """Start a run, and return as soon as it is stored. With an id that is there already: the run that is there.

        Args:
            flow: The flow; or its name, which this process need not know if another one drives it.
            input: Its input.
            id: The id to store the run under; None: a random one.
            delay: When it is to begin.
            extra: Scalars beside the state, for queries and security rules, such as an owner.
            expire_after: How long after its end the state is kept; None: for ever. Not given: as the store says.

        Raises:
            InvalidPayloadError: The input does not fit. Nothing was written.
            FlowStateEncodeError: `extra` has what the store's `update` does not take. Nothing was written.
            ValueError: `extra` has a key of the state itself. Nothing was written.
            FlowStateExistsError: A run of another flow has the id.
            UnknownFlowError: Only this process drives runs, and does not know the flow.
        """
        begin = prepared(self._engine, flow, input, id=id, delay=delay, extra=extra, expire_after=expire_after)
        await create_or_join(self._engine, begin)
        return FlowHandle(self, begin.id)

    @overload
    async def run(self, flow: Flow[None, Result], *, id: str | None = None) -> Result: ...
    @overload
    async def run(self, flow: Flow[Input, Result], input: Input, *, id: str | None = None) -> Result: ...
    async def run(self, flow: Flow[Any, Any], input: Any = UNSET, *, id: str | None = None) -> Any:
        """Start a run, drive it here, and return its result, also if it waits in between.

        Raises:
            FlowFailedError: It failed.
            FlowCancelledError: It was cancelled.
        """
        return await run(self._engine, prepared(self._engine, flow, input, id=id))

    def handle(self, id: str) -> FlowHandle[Any]:
        """Return a handle of the run with the id, whether or not there is one."""
        return FlowHandle(self, id)

    async def resume(self, id: str, payload: Any = None, *, step: str | None = None, key: str | None = None) -> None:
        """Answer a run, and have it go on.

        An answer to a step that the run has not reached yet is kept for it, and checked when the run asks: the
        interrupt raises InvalidPayloadError if it does not fit. An answer to a sleep ends it.

        Args:
            id: The id of the run.
            payload: The answer, which is checked against the schema that the run asks for.
            step: The key of the interrupt; None: the first that is open.
            key: A name for this answer: the same again is a success, and nothing is written.

        Raises:
            FlowStateNotFoundError: There is no such run.
            NotWaitingError: It has ended, or the step has its answer, or is none that takes one.
            InvalidPayloadError: The answer does not fit. Nothing was written.
        """
        await resume(self._engine, id, payload, step=step, key=key)

    async def cancel(self, id: str, reason: str = "") -> None:
        """Cancel a run: at once if nobody drives it, else when its steps in flight have ended.

        A run that has ended stays as it is.

        Raises:
            FlowStateNotFoundError: There is no such run.
        """
        await cancel(self._engine, id, reason)

    async def retry(self, id: str, *, from_step: str | None = None) -> None:
        """Have a run that failed or was cancelled go on: what made it fail runs again, all else is kept.

        What had failed in other branches runs again too, if the function was not told of it before it ended.

        Args:
            id: The id of the run.
            from_step: Run this step again, and all that reached the function after it, of parallel branches too.

        Raises:
            FlowStateNotFoundError: There is no such run.
            NotFailedError: It neither failed nor was cancelled.
            ValueError: It has no result of `from_step`.
        """
        await retry(self._engine, id, from_step=from_step)

    async def result(self, id: str, *, timeout: timedelta | float | None = None) -> Any:
        """Return what the run returns, when it has ended.

        Args:
            id: The id of the run.
            timeout: How long to wait, in seconds; 0: look once; None: for ever.

        Raises:
            FlowFailedError: It failed.
            FlowCancelledError: It was cancelled.
            TimeoutError: It has not ended in time, and goes on.
            FlowStateNotFoundError: There is no such run.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        if limit == 0:
            return await results.result_now(self._engine, id)
        try:
            return await asyncio.wait_for(results.result(self._engine, id), limit)
        except asyncio.TimeoutError:
            raise TimeoutError(f"the run {id!r} has not ended within {limit} s; it goes on") from None

    # Driving

    async def drive(self, id: str, *, budget: timedelta | float | None = None) -> DriveOutcome:
        """Claim a run that is due, and go on with it here until it ends or waits: what the handler of a task calls.

        Args:
            id: The id of the run.
            budget: How long this may take, in seconds: what the request lasts. Before it is used the run is handed
                over to another drive, and at SIGTERM if this is the main thread.

        Raises:
            UnknownFlowError: This process has no flow of its name.
            ValueError: The budget is 5 seconds or less, which are kept at its end for steps in flight.
        """
        length = None if budget is None else budget_seconds(budget)
        if length is not None:
            self._termination.chain()  # in a host without a lifespan nobody enters the flows
        return await drive(self._engine, id, budget=length)

    async def sweep(self, *, limit: int = 1000) -> int:
        """Dispatch what has been due for 10 seconds, and return how many runs those were: to be called each minute."""
        check_count(limit, "limit", least=1)
        return await sweep(self._engine, limit)

    def worker(self, *, at_once: int = 16, poll: timedelta | float = 1.0) -> AbstractAsyncContextManager[None]:
        """Drive what is due in this process for as long as the context is held open.

        Args:
            at_once: How many runs at a time.
            poll: The pause between two looks, in seconds; each is one query.

        Raises:
            ValueError: `at_once` is less than 1, or `poll` less than 0.01 s.
        """
        check_count(at_once, "at_once", least=1)
        pause = seconds(poll, "poll")
        if pause < _SHORTEST_POLL_SECONDS:
            raise ValueError(f"poll is at least {_SHORTEST_POLL_SECONDS} s, about what a look takes, not {shown(poll)}")
        return worker(self._engine, at_once=at_once, poll=pause)

    def app(self, *, verify: Any, genkit: bool = False, budget: timedelta = timedelta(minutes=4)) -> Any:
        """Return an ASGI application with ``POST /drive``, ``POST /sweep`` and ``GET /health``.

        Served alone it enters the flows by its lifespan; if it is mounted, the lifespan of the outer application is
        to do so: ``async with flows``.

        Args:
            verify: Who may call, but for health: an `Oidc`, or a function of starlette's Request that says so, which
                may be async. None: the platform lets only those in who may, as private Cloud Run does.
            genkit: Serve Genkit JS's wire too: ``POST /FLOW``.
            budget: What a request may take, of which the last tenth is kept for handing over: less than what the host
                cuts requests at.

        Raises:
            FlowStateError: The extra ``http`` is not installed.
            TypeError: `verify` cannot be called.
            ValueError: With `genkit`, a flow is named drive, sweep or health. Or the budget is 5 seconds or less.
        """
        check_verify(verify)
        length = budget_seconds(budget)
        try:
            from .http import make_app
        except ImportError as error:
            raise FlowStateError(
                "flows.app needs the package starlette: pip install 'firestore-flowstate[http]'"
            ) from error
        return make_app(self, verify=verify, genkit=genkit, budget=length)

    @property
    def blocking(self) -> BlockingFlows:
        """The same for hosts without an event loop."""
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
        """Hand over all runs that are driven here, and release what the dispatcher holds. The store stays open."""
        self._hand_over()
        await self._background.close()
        await self._engine.dispatcher.close()
        self._engine.close()
        self._engine.is_closing = False
        self._termination.unchain()

    # Behind it

    def _hand_over(self) -> None:
        self._engine.is_closing = True
        for driven in list(self._engine.drives.values()):
            driven.hand_over()

    def _watch(self, id: str) -> AsyncIterator[FlowState]:
        return results.watch(self._engine, id)
