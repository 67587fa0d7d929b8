"""The result of a run: awaiting it, and watching the run until then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from pydantic import ValidationError

from firestore_flowstate import FlowResult, FlowState, FlowStateDecodeError, FlowStateNotFoundError

from .engine import Engine
from .errors import FlowCancelledError, FlowFailedError
from .json_round_trip import fit_error
from .other_loops import call_on
from .reasons import reason_in
from .record import Ended, ended_of

_FIRST_POLL_SECONDS: Final = 0.1
"""The pause before a store that cannot be watched is read again; it doubles while nothing has changed."""
_LAST_POLL_SECONDS: Final = 2.0
"""The longest such pause: a poll is a billed read."""


def outcome_of(engine: Engine, id: str, name: str | None, how: Ended, result: FlowResult | None) -> Any:
    """Return what the run returned: as the type that its flow returns if this process knows the flow, else as JSON.

    Raises:
        FlowFailedError: The run failed.
        FlowCancelledError: The run was cancelled.
        FlowStateDecodeError: The result does not fit the type.
    """
    if how != "done":
        raise _failure(id, how, result)
    form = result.response if result is not None else None
    flow = engine.flows.get(name) if name is not None else None
    if flow is None:
        return form
    try:
        return engine.values.read(form, engine.values.returned_by(flow.function))
    except ValidationError as error:
        raise FlowStateDecodeError(
            f"The result of the run {id!r} does not fit what the flow {name!r} returns: {fit_error(error)}", flow_id=id
        ) from error


def _failure(id: str, how: Ended, result: FlowResult | None) -> FlowFailedError:
    error = (result.error if result is not None else None) or how
    trace = result.stacktrace if result is not None else None
    if how == "cancelled":
        message = f"The run {id!r} was {error}"
        return FlowCancelledError(message, flow_id=id, error=error, stacktrace=trace, reason=reason_in(error))
    return FlowFailedError(f"The run {id!r} failed: {error}", flow_id=id, error=error, stacktrace=trace)


async def result_now(engine: Engine, id: str) -> Any:
    """Return what the run has returned, after one read.

    Raises:
        FlowFailedError: The run failed.
        FlowCancelledError: The run was cancelled.
        TimeoutError: The run has not ended.
        FlowStateNotFoundError: There is no such run.
    """
    state = await engine.store.load(id)
    if state is None:
        raise FlowStateNotFoundError(f"There is no run {id!r}, or it has expired.", flow_id=id)
    how = ended_of(state)
    if how is None:
        raise TimeoutError(f"the run {id!r} has not ended; it goes on")
    return outcome_of(engine, id, state.name, how, state.operation.result)


async def result(engine: Engine, id: str) -> Any:
    """Wait until the run has ended, and return what it returned; errors are those of `result_now`, but TimeoutError."""
    async for state in watch(engine, id):
        how = ended_of(state)
        if how is not None:
            return outcome_of(engine, id, state.name, how, state.operation.result)
    raise FlowStateNotFoundError(f"The run {id!r} is gone: it was deleted, or has expired.", flow_id=id)


async def result_within(engine: Engine, id: str, limit: float) -> Any:
    """Do as `result` does, for at most `limit` seconds.

    Raises:
        TimeoutError: The run has not ended in time; or it is the store's own error, such as a DeadlineError.
    """

    async def awaited() -> tuple[Any, Exception | None]:
        try:
            return await result(engine, id), None
        except (TimeoutError, asyncio.TimeoutError) as error:  # which is not to be taken for the end of our limit
            return None, error

    try:
        value, error = await asyncio.wait_for(awaited(), limit)
    except asyncio.TimeoutError:
        raise TimeoutError(f"the run {id!r} has not ended within {limit} s; it goes on") from None
    if error is not None:
        raise error
    return value


async def watch(engine: Engine, id: str) -> AsyncIterator[FlowState]:
    """Yield the state now and after each change, until the run has ended.

    Raises:
        FlowStateNotFoundError: There is no such run, or it was deleted meanwhile.
    """
    changes = watch_states(engine, id)
    try:
        async for state in changes:
            if state is None:
                raise FlowStateNotFoundError(f"There is no run {id!r}, or it has expired.", flow_id=id)
            yield state
            if ended_of(state) is not None:
                return
    finally:
        await changes.aclose()  # type: ignore[attr-defined]  # both can be closed


def watch_states(engine: Engine, id: str) -> AsyncIterator[FlowState | None]:
    """Return the state now and after each change, by the store's `watch`, or by polling if it has none."""
    watching = getattr(engine.store, "watch", None)
    return watching(id) if watching is not None else _polled(engine, id)


async def _polled(engine: Engine, id: str) -> AsyncIterator[FlowState | None]:
    version, pause = "", _FIRST_POLL_SECONDS
    with _moves(engine, id) as moved:
        while True:
            moved.clear()
            state = await engine.store.load(id)
            if state is None or state.version != version:
                version, pause = (state.version or "") if state is not None else "", _FIRST_POLL_SECONDS
                yield state
            try:
                await asyncio.wait_for(moved.wait(), pause)
            except asyncio.TimeoutError:
                pause = min(2 * pause, _LAST_POLL_SECONDS)


@contextmanager
def _moves(engine: Engine, id: str) -> Iterator[asyncio.Event]:
    """Give an event that is set whenever this process has written to the run."""
    moved, loop = asyncio.Event(), asyncio.get_running_loop()

    def waker() -> None:
        if not call_on(loop, moved.set):
            forget()

    def forget() -> None:
        wakers = engine.wakers.get(id, set())
        wakers.discard(waker)
        if not wakers:
            engine.wakers.pop(id, None)

    engine.wakers.setdefault(id, set()).add(waker)
    try:
        yield moved
    finally:
        forget()
