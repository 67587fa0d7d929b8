"""Retrying a run that failed or was cancelled: its result is dropped, and what made it fail runs again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from firestore_flowstate import FlowState, FlowStateConflictError, FlowStateNotFoundError

from .arguments import check_text
from .children import can_be_met
from .engine import Engine
from .entries import child_of, failed, kind_of, order_of
from .errors import NotFailedError
from .record import Inbox, RunRecord, ended_of, inbox_of, metadata_of, record_of, wake_now
from .stretches import retried

_NAMED: Final = 10
"""How many results an error names."""


async def retry(engine: Engine, id: str, *, from_step: str | None = None) -> None:
    """Have a run that failed or was cancelled go on: without the failures that ended it, or from a step.

    Raises:
        FlowStateNotFoundError: There is no such run.
        NotFailedError: The run neither failed nor was cancelled.
        ValueError: The run has no result of `from_step`, or it is empty.
        TypeError: `from_step` is not text.
    """
    check_text(from_step, "from_step")
    chain = [id]  # not by recursion: a chain of children may be longer than Python's limit of recursion
    seen = {id}
    while chain:
        wake, children = None, list[str]()
        step = from_step if chain == [id] else None  # the step is one of this run, and not of its children
        try:
            async with engine.store.edit(chain[-1]) as state:
                dropped = _dropped(chain[-1], state, step)
                children = [child for child in _children(chain[-1], state, dropped, step=step) if child not in seen]
                if not children:
                    wake = _reset(engine, chain[-1], state, dropped, rewind=step is not None)
        except FlowStateNotFoundError:
            if chain == [id]:
                raise FlowStateNotFoundError(f"There is no run {id!r}, or it has expired.", flow_id=id) from None
        except NotFailedError:
            if chain == [id]:
                raise
        except FlowStateConflictError:
            continue
        if children:  # before this run looks at them again
            chain += children
            seen.update(children)
            continue
        retried = chain.pop()
        if wake is not None:
            engine.moved(retried)
            await engine.dispatch(retried, wake)


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


def _children(id: str, state: FlowState, dropped: Iterable[str], *, step: str | None) -> list[str]:
    """Return the ids of the children that are to be retried: those that failed, and that were cancelled with the run.

    After a retry from a step a child has another id, and begins anew. One with an id that the flow gave has the same
    id, and is retried. One that the function cannot come to again stays as it is.
    """
    record = record_of(state)
    found = _failed_children(state, dropped) | {child: key for key, child in record.cancelled_children.items()}
    if record.ended == "cancelled":
        found |= record.earlier_children
    return [
        child for child, key in found.items() if can_be_met(id, key, child, rewinds=record.rewinds + (step is not None))
    ]


def _failed_children(state: FlowState, dropped: Iterable[str]) -> dict[str, str]:
    """Return the keys of the children that failed, by their ids, among what is to run again."""
    return {
        child: key
        for key in dropped
        if key in state.cache and failed(state.cache[key]) and (child := child_of(state.cache[key])) is not None
    }


def _earlier(id: str, record: RunRecord, failed_children: dict[str, str]) -> dict[str, str]:
    """Return the keys of the children that may go on when the run is retried, by their ids; see `RunRecord`.

    Args:
        id: The id of the run.
        record: The record of the run, which has ended, with the `rewinds` that it gets.
        failed_children: The keys of the children that failed with the run, by their ids.
    """
    cancelled = {child: key for key, child in record.cancelled_children.items()}
    earlier = {**record.earlier_children, **cancelled, **failed_children}
    if record.ended != "cancelled" or record.todo:  # they were not cancelled, or not yet
        return earlier
    return {child: key for child, key in earlier.items() if can_be_met(id, key, child, rewinds=record.rewinds)}


def _reset(engine: Engine, id: str, state: FlowState, dropped: set[str], *, rewind: bool) -> int:
    """Change the state to that of a run that is due; return its wake time, in milliseconds since the epoch."""
    failed_children = _failed_children(state, dropped)
    for key in [key for key in state.cache if key in dropped or _shown_by(state, key) in dropped]:
        del state.cache[key]
    for key in [key for key in state.events_triggered if key in dropped]:
        del state.events_triggered[key]
    record, inbox = record_of(state), inbox_of(state)
    record.rewinds += rewind
    record.earlier_children = _earlier(id, record, failed_children)
    record.owner, record.ended, record.todo, record.deadline = None, None, None, None
    record.failed_by, record.trying, record.intents = [], [], []
    record.waits, record.retries, record.cancelled_children = {}, {}, {}
    record.recoveries, record.fruitless = 0, False
    kept = {step: key for step, key in inbox.answers.items() if step in state.events_triggered}
    how, result = ended_of(state), state.operation.result
    if how is not None:
        state.executions = retried(state.executions, ended=how, error=None if result is None else result.error)
    operation = state.operation.model_copy(update={"done": False})
    operation.metadata = metadata_of(operation, record, Inbox(answers=kept))
    _without_result(operation)
    state.operation = operation
    state.blocked_on_step = None
    wake = wake_now(state, engine.clock.now())
    state.wakeAt = wake
    return wake


def _shown_by(state: FlowState, key: str) -> str | None:
    """Return the key of the interrupt that shows this entry; None: it is a result, as of a step that is named show."""
    return key.removesuffix("/show") if kind_of(state.cache[key]) == "show" else None


def _without_result(operation: object) -> None:
    fields = operation.__dict__
    fields["result"] = None
    operation.__pydantic_fields_set__.discard("result")  # type: ignore[attr-defined]  # absent, not null, which Genkit JS refuses
