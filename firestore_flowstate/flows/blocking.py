"""Durable flows for hosts without an event loop, such as Firebase Functions and Flask: every method blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from firestore_flowstate import UNSET, FlowState, FlowStateError, Unset

from .flow import Flow
from .flows import Flows
from .flows_thread import FlowsThread, FlowsThreads, ThreadEndedError
from .handle import FlowHandle
from .run import JsonScalar

T = TypeVar("T")
P = ParamSpec("P")
Input = TypeVar("Input")
Result = TypeVar("Result")
_Result = TypeVar("_Result", covariant=True)


class _Blocking(Protocol):
    """What wraps an object with asynchronous methods, and waits for them."""

    def _wrapped(self) -> Any: ...
    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


def _call(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[_Blocking, P], T]:
    """Return the blocking form of a method, with its signature, its types and its docstring."""

    @wraps(method)
    def call(self: _Blocking, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(method(self._wrapped(), *args, **kwargs))

    return call


class BlockingFlows:
    """`Flows` for threads without an event loop. Its methods take and raise what those of `Flows` do, and block.

    Everything runs on one event loop in each process, on a thread that begins with the first call. So any number of
    threads may use it, before and after forks.

    ::

        handle = flows.blocking.start(write, "rivers", id="order-18")
        article = handle.result(timeout=60)

    On a thread whose event loop is running every method raises FlowStateError: await the methods of `Flows` there.
    """

    def __init__(self, flows: Flows) -> None:
        self._flows = flows
        self._threads = FlowsThreads()

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
        """Return a handle of the run with the id, whether or not there is one.

        Raises:
            InvalidFlowIdError: The id is not text, or empty.
        """
        return BlockingFlowHandle(self, id)

    # Signatures and docstrings are those of `Flows`. Overloads cannot be passed on: start and run have them once more.
    resume = _call(Flows.resume)
    cancel = _call(Flows.cancel)
    retry = _call(Flows.retry)
    result = _call(Flows.result)
    drive = _call(Flows.drive)
    sweep = _call(Flows.sweep)

    def close(self) -> None:
        """Hand over the runs that are driven here, and end the thread. The next call begins another thread.

        Calls of other threads that go on when the thread ends raise FlowStateError. If another thread closes already,
        this awaits that. On a thread whose event loop is running nothing is changed.
        """
        if _has_running_loop():
            raise _running_loop_error()
        thread = self._threads.here()
        if not thread.may_close():
            thread.join()
            return
        try:
            self._wait(self._flows.close(), on=thread)
        finally:
            self._threads.leave(thread)
            thread.stop()
            self._flows._engine.is_closing = False  # also if this was interrupted
            self._flows._termination.unchain()  # which only the main thread can, if this is it

    def _wrapped(self) -> Flows:
        return self._flows

    def _wait(self, coroutine: Coroutine[Any, Any, T], *, on: FlowsThread | None = None) -> T:
        """Wait for the coroutine on the thread; None: on the thread of this process, also if others close it meanwhile.

        Raises:
            FlowStateError: The thread was ended when the coroutine had begun. Or this thread has a running loop.
        """
        if _has_running_loop():
            coroutine.close()
            raise _running_loop_error()
        while True:
            try:
                thread = on or self._threads.here()
                return thread.wait(coroutine)
            except ThreadEndedError as ended:
                if not ended.begun and on is None and not thread.is_over:
                    self._threads.leave(thread)
                    continue
                if not ended.begun:
                    coroutine.close()
                error = _closed_error(thread)
            except FlowStateError:
                coroutine.close()  # if there is no thread for it; otherwise it has ended
                raise
            raise error


class BlockingFlowHandle(Generic[_Result]):
    """`FlowHandle` for threads without an event loop.

    Attributes:
        id: The id of the run.
    """

    def __init__(self, flows: BlockingFlows, id: str) -> None:
        self.id = id
        self._blocking = flows
        self._handle: FlowHandle[_Result] = FlowHandle(flows._flows, id)

    state = _call(FlowHandle.state)
    resume = _call(FlowHandle.resume)
    cancel = _call(FlowHandle.cancel)
    retry = _call(FlowHandle.retry)

    def result(self, *, timeout: timedelta | float | None = None) -> _Result:
        """Wait until the run has ended, and return what it returned; see `FlowHandle.result`."""
        return self._wait(self._handle.result(timeout=timeout))

    def watch(self) -> Iterator[FlowState]:
        """Yield the state now and after each change; see `FlowHandle.watch`."""
        states: AsyncIterator[FlowState] = self._handle.watch()
        thread = self._blocking._threads.here()  # an iterator belongs to the event loop that it began on
        try:
            while (state := self._blocking._wait(_next(states), on=thread)) is not None:
                yield state
        finally:
            with suppress(FlowStateError):  # the end of the thread has closed it
                self._blocking._wait(_end(states), on=thread)

    def _wrapped(self) -> FlowHandle[_Result]:
        return self._handle

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._blocking._wait(coroutine)


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _running_loop_error() -> FlowStateError:
    return FlowStateError(
        "flows.blocking was used on a thread whose event loop is running, which it would block: await the method of "
        "flows itself there"
    )


def _closed_error(thread: FlowsThread) -> FlowStateError:
    if thread.is_over:
        return FlowStateError("the interpreter is ending, and has ended the thread that flows.blocking works on")
    return FlowStateError(
        "flows.blocking was closed by another thread while this call went on: look what is stored, and call again"
    )


async def _next(states: AsyncIterator[FlowState]) -> FlowState | None:
    return await anext(states, None)


async def _end(states: Any) -> None:
    await states.aclose()
