"""Retrying a run that failed or was cancelled: its result is dropped, and what made it fail runs again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from firestore_flowstate import FlowState, FlowStateConflictError, FlowStateNotFoundError

from .engine import Engine
from .entries import child_of, failed, kind_of, order_of
from .errors import NotFailedError
from .record import Inbox, ended_of, inbox_of, metadata_of, record_of, wake_now

_NAMED: Final = 10
"""How many results an error names."""


async def retry(engine: Engine, id: str, *, from_step: str | None = None) -> None:
    """Have a run that failed or was cancelled go on: without the failures that ended it, or from a step.

    Raises:
        FlowStateNotFoundError: There is no such run.
        NotFailedError: The run neither failed nor was cancelled.
        ValueError: The run has no result of `from_step`.
    """
    while True:
        try:
            async with engine.store.edit(id) as state:
                dropped = _dropped(id, state, from_step)
                if from_step is None:
                    await _retry_children(engine, state, dropped)
                wake = _reset(engine, state, dropped, rewind=from_step is not None)
        except FlowStateNotFoundError:
            raise FlowStateNotFoundError(f"There is no run {id!r}, or it has expired.", flow_id=id) from None
        except FlowStateConflictError:
            continue
        engine.moved(id)
        await engine.dispatch(id, wake)
        return


def _dropped(id: str, state: FlowState, from_step: str | None) -> set[str]:
    """Return the keys of what is to run again."""
    if ended_of(state) not in ("failed", "cancelled"):
        raise NotFailedError(
            f"The run {id!r} neither failed nor was cancelled, so nothing is to be retried.", flow_id=id
        )
    if from_step is None:
        keys = set(record_of(state).failed_by)
        inside = {key for key in state.cache if failed(state.cache[key]) and _is_inside(key, keys)}
        return keys | inside
    if from_step not in state.cache or kind_of(state.cache[from_step]) == "show":
        raise ValueError(f"the run {id!r} has no result of {from_step!r}{_results_of(state)}")
    return _behind(state, from_step)


def _results_of(state: FlowState) -> str:
    there = [key for key, entry in state.cache.items() if kind_of(entry) != "show"]
    if not there:
        return ", nor of any other step"
    more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
    return f"; it has results of {', '.join(there[:_NAMED])}{more}"


def _behind(state: FlowState, from_step: str) -> set[str]:
    """Return the step, what is inside of it, and all that has reached the function after it."""
    n = order_of(state.cache[from_step])
    later = {
        key for key, entry in state.cache.items() if (other := order_of(entry)) is not None and (n is None or other > n)
    }
    return {from_step} | later | {key for key in state.cache if _is_inside(key, {from_step})}


def _is_inside(key: str, outer: Iterable[str]) -> bool:
    return any(key.startswith(f"{each}/") for each in outer)


async def _retry_children(engine: Engine, state: FlowState, dropped: Iterable[str]) -> None:
    """Retry the children among what failed, before this run looks at them again."""
    for key in dropped:
        child = child_of(state.cache[key]) if key in state.cache else None
        if child is None:
            continue
        try:
            await retry(engine, child)
        except (NotFailedError, FlowStateNotFoundError):  # retried already, or gone: the run will see
            continue


def _reset(engine: Engine, state: FlowState, dropped: set[str], *, rewind: bool) -> int:
    """Change the state to that of a run that is due; return its wake time, in milliseconds since the epoch."""
    for key in [key for key in state.cache if key in dropped or key.removesuffix("/show") in dropped]:
        del state.cache[key]
    for key in [key for key in state.events_triggered if key in dropped]:
        del state.events_triggered[key]
    record, inbox = record_of(state), inbox_of(state)
    record.owner, record.ended, record.todo, record.deadline = None, None, None, None
    record.failed_by, record.trying, record.intents = [], [], []
    record.waits, record.retries = {}, {}
    record.recoveries, record.fruitless = 0, False
    record.rewinds += rewind
    kept = {step: key for step, key in inbox.answers.items() if step in state.events_triggered}
    operation = state.operation.model_copy(update={"done": False})
    operation.metadata = metadata_of(operation, record, Inbox(answers=kept))
    _without_result(operation)
    state.operation = operation
    state.blocked_on_step = None
    wake = wake_now(state, engine.clock.now())
    state.wakeAt = wake
    return wake


def _without_result(operation: object) -> None:
    fields = operation.__dict__
    fields["result"] = None
    operation.__pydantic_fields_set__.discard("result")  # type: ignore[attr-defined]  # absent, not null, which Genkit JS refuses
