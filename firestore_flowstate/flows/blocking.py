"""The flows for hosts without an event loop, such as Firebase Functions and Flask: every method blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from firestore_flowstate import UNSET, FlowState, FlowStateError, Unset

from .final import DriveOutcome
from .flow import Flow
from .handle import FlowHandle
from .loop_thread import LoopThreads
from .run import JsonScalar

if TYPE_CHECKING:
    from .flows import Flows

T = TypeVar("T")
Input = TypeVar("Input")
Result = TypeVar("Result")
_Result = TypeVar("_Result", covariant=True)


class BlockingFlows:
    """`Flows` for threads without an event loop; the methods take and raise the same, and block.

    All runs on one event loop, on a thread that begins with the first call, once a process; so it may be used from any
    number of threads, and before and after forks.

    ::

        @tasks_fn.on_task_dispatched()
        def driveflow(request: tasks_fn.CallableRequest) -> None:
            flows.blocking.drive(request.data["id"], budget=540)

    On a thread whose event loop is running every method raises FlowStateError: await the flows themselves there.
    """

    def __init__(self, flows: Flows) -> None:
        self._flows = flows
        self._threads = LoopThreads()

    @overload
    def start(
        self,
        flow: Flow[None, Result],
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> BlockingFlowHandle[Result]: ...
    @overload
    def start(
        self,
        flow: Flow[Input, Result],
        input: Input,
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> BlockingFlowHandle[Result]: ...
    @overload
    def start(
        self,
        flow: str,
        input: Any = UNSET,
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> BlockingFlowHandle[Any]: ...
    def start(
        self,
        flow: Any,
        input: Any = UNSET,
        *,
        id: str | None = None,
        delay: timedelta | None = None,
        extra: Mapping[str, JsonScalar] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
    ) -> BlockingFlowHandle[Any]:
        """Start a run; see `Flows.start`."""
        handle = self._wait(self._flows.start(flow, input, id=id, delay=delay, extra=extra, expire_after=expire_after))
        return self.handle(handle.id)

    @overload
    def run(self, flow: Flow[None, Result], *, id: str | None = None) -> Result: ...
    @overload
    def run(self, flow: Flow[Input, Result], input: Input, *, id: str | None = None) -> Result: ...
    def run(self, flow: Flow[Any, Any], input: Any = UNSET, *, id: str | None = None) -> Any:
        """Start a run, drive it here, and return its result; see `Flows.run`."""
        return self._wait(self._flows.run(flow, input, id=id))

    def handle(self, id: str) -> BlockingFlowHandle[Any]:
        """Return a handle of the run with the id, whether or not there is one."""
        return BlockingFlowHandle(self, id)

    def resume(self, id: str, payload: Any = None, *, step: str | None = None, key: str | None = None) -> None:
        """Answer a run; see `Flows.resume`."""
        self._wait(self._flows.resume(id, payload, step=step, key=key))

    def cancel(self, id: str, reason: str = "") -> None:
        """Cancel a run; see `Flows.cancel`."""
        self._wait(self._flows.cancel(id, reason))

    def retry(self, id: str, *, from_step: str | None = None) -> None:
        """Have a run that failed go on; see `Flows.retry`."""
        self._wait(self._flows.retry(id, from_step=from_step))

    def result(self, id: str, *, timeout: timedelta | float | None = None) -> Any:
        """Return what the run returns, when it has ended; see `Flows.result`."""
        return self._wait(self._flows.result(id, timeout=timeout))

    def drive(self, id: str, *, budget: timedelta | float | None = None) -> DriveOutcome:
        """Drive a run until it ends or waits; see `Flows.drive`."""
        return self._wait(self._flows.drive(id, budget=budget))

    def sweep(self, *, limit: int = 1000) -> int:
        """Dispatch what has been due for 10 seconds; see `Flows.sweep`."""
        return self._wait(self._flows.sweep(limit=limit))

    def close(self) -> None:
        """Hand over what is driven, and end the thread; the next call begins another."""
        self._wait(self._flows.close())
        self._threads.stop()
        self._flows._termination.unchain()  # which only the main thread can, if this is it

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._threads.here().wait(coroutine)
        coroutine.close()
        raise FlowStateError(
            "flows.blocking was used on a thread whose event loop is running, which it would block: await the method "
            "of the flows themselves there"
        )


class BlockingFlowHandle(Generic[_Result]):
    """`FlowHandle` for threads without an event loop.

    Attributes:
        id: The id of the run.
    """

    def __init__(self, flows: BlockingFlows, id: str) -> None:
        self.id = id
        self._blocking = flows
        self._handle: FlowHandle[_Result] = FlowHandle(flows._flows, id)

    def state(self) -> FlowState | None:
        """Return the state of the run as it is stored, or None if there is none."""
        return self._blocking._wait(self._handle.state())

    def result(self, *, timeout: timedelta | float | None = None) -> _Result:
        """Return what the run returns, when it has ended; see `FlowHandle.result`."""
        return self._blocking._wait(self._handle.result(timeout=timeout))

    def resume(self, payload: Any = None, *, step: str | None = None, key: str | None = None) -> None:
        """Answer the run; see `Flows.resume`."""
        self._blocking._wait(self._handle.resume(payload, step=step, key=key))

    def cancel(self, reason: str = "") -> None:
        """Cancel the run; see `Flows.cancel`."""
        self._blocking._wait(self._handle.cancel(reason))

    def retry(self, *, from_step: str | None = None) -> None:
        """Retry the run; see `Flows.retry`."""
        self._blocking._wait(self._handle.retry(from_step=from_step))

    def watch(self) -> Iterator[FlowState]:
        """Yield the state now and after each change; see `FlowHandle.watch`."""
        states: AsyncIterator[FlowState] = self._handle.watch()
        try:
            while (state := self._blocking._wait(_next(states))) is not None:
                yield state
        finally:
            self._blocking._wait(_end(states))


async def _next(states: AsyncIterator[FlowState]) -> FlowState | None:
    return await anext(states, None)


async def _end(states: Any) -> None:
    await states.aclose()
