"""Answering a run from outside."""

from __future__ import annotations

from typing import Any, Final

from firestore_flowstate import (
    UNSET,
    FlowState,
    FlowStateConflictError,
    FlowStateNotFoundError,
    StoreUnavailableError,
)
from firestore_flowstate.errors import shown

from .arguments import check_text
from .engine import Engine
from .errors import NotWaitingError
from .json_round_trip import is_same
from .keys import check_name
from .payloads import check_payload
from .readiness import look_at
from .record import (
    Inbox,
    RunRecord,
    ended_of,
    inbox_of,
    is_owned,
    metadata_of,
    open_interrupts,
    record_of,
    wake_at,
    wake_now,
)

_NAMED: Final = 10
"""How many interrupts an error names."""


async def resume(engine: Engine, id: str, payload: Any, *, step: str | None, key: str | None) -> None:
    """Store the answer, and have the run woken if it waits for the answer and nobody drives it, or its owner has died.

    Raises:
        FlowStateNotFoundError: There is no such run.
        NotWaitingError: The run has ended, or does not take this answer.
        InvalidPayloadError: The answer does not fit. Nothing was written.
    """
    check_text(step, "step")
    check_text(key, "key")
    form = engine.values.dump(payload, Any, "the answer")
    in_doubt = False
    while True:
        state = await engine.store.load(id)
        if state is None:
            raise FlowStateNotFoundError(f"There is no run {id!r}, or it has expired.", flow_id=id)
        record, inbox = record_of(state), inbox_of(state)
        is_there = in_doubt and step is not None and is_same(state.events_triggered.get(step, UNSET), form)
        if is_there or (key is not None and _was_given(inbox, step, key)):
            await _wake_again(engine, id, state)
            return
        step = _check(state, record, id, step)
        wait = record.waits.get(step)
        check_payload(form, payload, wait.schema if wait is not None else None, id=id, step=step)
        has_owner = is_owned(state, record)
        wake = wake_now(state, engine.clock.now()) if wait is not None and not has_owner else None
        try:
            await _write(engine, id, state, step, form, key=key, wake=wake)
        except FlowStateConflictError:
            continue
        except StoreUnavailableError as error:
            if not error.outcome_unknown or in_doubt:
                raise
            in_doubt = True
            continue
        await (engine.told(id, state) if has_owner else engine.woken(id, wake))
        return


async def _wake_again(engine: Engine, id: str, state: FlowState) -> None:
    """Have the run woken, if it is due, though this answer was stored before.

    Whoever stored the answer may have died before the run was woken, or did not hear that the answer was stored.
    """
    wake = wake_at(state)
    if ended_of(state) is not None or wake is None:
        return
    if is_owned(state, record_of(state)):
        await engine.told(id, state)
    elif look_at(id, state, now=engine.clock.now(), lease=engine.lease).what == "due":
        await engine.woken(id, wake)


def _was_given(inbox: Inbox, step: str | None, key: str) -> bool:
    if step is not None:
        return inbox.answers.get(step) == key
    return key in inbox.answers.values()


def _check(state: FlowState, record: RunRecord, id: str, step: str | None) -> str:
    """Return the key that the answer is for.

    Raises:
        NotWaitingError: The run has ended, or nothing in it takes this answer.
    """
    if (how := ended_of(state)) is not None:
        raise NotWaitingError(f"The run {id!r} has ended ({how}), so that nothing takes the answer.", flow_id=id)
    if step is None:
        return _first_interrupt(state, record, id)
    if step in state.cache or step in state.events_triggered:
        raise NotWaitingError(
            f"{step!r} of the run {id!r} was answered already, or has a result. {_asked(state, record)}", flow_id=id
        )
    wait = record.waits.get(step)
    if wait is None:
        _check_name(step, id)
    if wait is None and (step in record.dropped_children or step in record.earlier_children.values()):
        raise NotWaitingError(
            f"{step!r} of the run {id!r} is a child, and takes no answer. {_asked(state, record)}", flow_id=id
        )
    if wait is not None and wait.kind in ("child", "retry"):
        what = "another run" if wait.kind == "child" else "the next attempt of a step"
        raise NotWaitingError(
            f"{step!r} of the run {id!r} waits for {what}, not for an answer. {_asked(state, record)}", flow_id=id
        )
    return step


def _check_name(step: str, id: str) -> None:
    """Refuse an answer under a key that no step can have: nothing would ever take it.

    Raises:
        NotWaitingError: No step has such a key.
    """
    try:
        for name in step.split("/"):
            check_name(name)
    except ValueError:
        raise NotWaitingError(
            f"No step of the run {id!r} can have the key {shown(step)}, so that nothing takes the answer.", flow_id=id
        ) from None


def _first_interrupt(state: FlowState, record: RunRecord, id: str) -> str:
    if asked := open_interrupts(state, record):
        return asked[0]
    raise NotWaitingError(
        f"The run {id!r} does not wait for an answer now. To answer an interrupt that it has not reached yet, give the "
        "key of the interrupt as step.",
        flow_id=id,
    )


def _asked(state: FlowState, record: RunRecord) -> str:
    """Return a sentence that says which answers the run waits for."""
    if not (asked := open_interrupts(state, record)):
        return "The run does not wait for an answer now."
    more = f" and {len(asked) - _NAMED} more" if len(asked) > _NAMED else ""
    return f"The run waits for an answer to {', '.join(map(repr, asked[:_NAMED]))}{more}."


async def _write(
    engine: Engine, id: str, state: FlowState, step: str, form: Any, *, key: str | None, wake: int | None
) -> None:
    changes: dict[str, Any] = {"events_triggered": {step: form}}
    if key is not None:
        inbox = inbox_of(state)
        inbox.answers[step] = key
        metadata = metadata_of(state.operation, record_of(state), inbox)
        changes["operation"] = state.operation.model_copy(update={"metadata": metadata})
    if wake is not None:
        changes["extra"] = {"wakeAt": wake}
    await engine.store.update(id, **changes, if_version=state.version or "")
