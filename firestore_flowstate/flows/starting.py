"""Starting a run: its state is created, and claimed in the same write if this process drives it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from firestore_flowstate import (
    UNSET,
    FlowState,
    FlowStateExecution,
    FlowStateExistsError,
    FlowStateNotFoundError,
    StoreUnavailableError,
    Unset,
)

from .claiming import claimed_record, new_token
from .engine import LOG, Engine
from .flow import Flow
from .image import image_of
from .json_round_trip import is_same
from .lease import Claim, Lease
from .readiness import claimable_at, look_at
from .record import Inbox, RunRecord, ended_of, metadata_of, record_of, wake_at, wake_now
from .scalars import parent_scalar, scalars


@dataclass(frozen=True)
class Start:
    """What a run starts with.

    Attributes:
        name: The name of the flow.
        input: The input in its JSON form; UNSET: there is none.
        id: The id of the run.
        flow: The flow, if this process knows it.
        parent: The id of the run that starts this one as a child.
        key: The key of this child in its parent.
        delay: How many milliseconds after now the run is to begin.
        extra: Scalars beside the state.
        expire_after: How long after its end the state expires; None: never; UNSET: as the store says.
    """

    name: str
    input: Any = UNSET
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    flow: Flow[Any, Any] | None = None
    parent: str | None = None
    key: str | None = None
    delay: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    expire_after: timedelta | Unset | None = UNSET


async def create(engine: Engine, start: Start, *, here: bool | None = None) -> Claim | None:
    """Create the run, and have it driven; return the claim if the caller is to drive the run.

    Args:
        engine: What all drives share.
        start: What the run starts with.
        here: True: claim the run for the caller, unless this process is to end. None: the dispatcher has it driven.

    Raises:
        FlowStateExistsError: There is a state with this id.
    """
    engine.check_process()
    if here and not engine.is_closing:
        return await _create_claimed(engine, start)
    is_now = start.flow is not None and not start.delay and not engine.is_closing
    if engine.drives_here is not None and is_now:
        engine.drives_here(await _create_claimed(engine, start))
        return None
    wake = engine.clock.now() + start.delay
    state = _state(engine, start, wake=wake, record=_record(engine, start, wake))
    await _store(engine, start, state, token=None)
    await engine.dispatch(start.id, wake, at=wake if start.delay else None)
    return None


async def create_or_join(engine: Engine, start: Start, *, here: bool | None = None) -> Claim | None:
    """Do as `create` does; if the run is there already, have it driven if it is due.

    The process that started it may have died after the run was stored and before it was dispatched.

    Raises:
        FlowStateExistsError: A run of another flow has the id.
    """
    try:
        return await create(engine, start, here=here)
    except FlowStateExistsError:
        await _join(engine, start)
        return None


async def _join(engine: Engine, start: Start) -> None:
    state = await engine.store.load(start.id)
    if state is None:
        raise FlowStateNotFoundError(
            f"The run {start.id!r} was there and was deleted meanwhile: start it again.", flow_id=start.id
        )
    if state.name != start.name:
        raise FlowStateExistsError(
            f"There is a run {start.id!r} of the flow {state.name!r} already: choose another id.", flow_id=start.id
        )
    if not is_same(state.input if state.has("input") else UNSET, start.input):
        LOG.warning("The run %r is there already, with another input, and stays as it is.", start.id)
    if ended_of(state) is not None:
        return
    now = engine.clock.now()
    look = look_at(start.id, state, now=now, lease=engine.lease)
    if look.what == "due":
        wake = wake_at(state)
        await engine.dispatch(start.id, wake if wake is not None else wake_now(state, now))
    elif look.at is not None and not engine.has(start.id):  # the process that was to look at it then may be gone
        await engine.look_later(start.id, look.at)


async def _create_claimed(engine: Engine, start: Start) -> Claim:
    assert start.flow is not None  # noqa: S101  # who drives it knows it
    now, token = engine.clock.now(), new_token()
    record = claimed_record(engine, _record(engine, start, now), token, start.flow)
    state = _state(engine, start, wake=now + engine.lease, record=record)
    state.executions = [FlowStateExecution(start_time=now, trace_ids=list(engine.telemetry.trace_ids()))]
    sent_at = engine.clock.monotonic()
    try:
        state = await _store(engine, start, state, token=token)
    except asyncio.CancelledError:  # the run may be stored, and nobody drives it
        await engine.look_later(start.id, claimable_at(start.id, record, now + engine.lease, lease=engine.lease))
        raise
    return Claim(image_of(start.id, state), token, Lease(engine.clock, engine.lease, now + engine.lease, sent_at))


def _record(engine: Engine, start: Start, begins: int) -> RunRecord:
    record = RunRecord(code_version=engine.version, parent=start.key, parent_id=start.parent)
    if start.flow is not None and start.flow.timeout is not None:
        record.deadline = begins + start.flow.timeout
    return record


def _state(engine: Engine, start: Start, *, wake: int, record: RunRecord) -> FlowState:
    state = FlowState.start(name=start.name, input=start.input, flow_id=start.id)
    state.start_time = engine.clock.now()
    state.operation.metadata = metadata_of(state.operation, record, Inbox())
    if (trace := engine.telemetry.trace_context()) is not None:
        state.trace_context = trace
    unknown = state.model_extra
    assert unknown is not None  # noqa: S101  # the model takes any
    # Not by setattr, which would write to an attribute or property of the same name.
    unknown.update({**scalars(start.extra), **parent_scalar(start.parent), "wakeAt": wake})
    return state


async def _store(engine: Engine, start: Start, state: FlowState, *, token: str | None) -> FlowState:
    about: dict[str, Any] = {} if isinstance(start.expire_after, Unset) else {"expire_after": start.expire_after}
    try:
        await engine.store.create(start.id, state, **about)
        engine.telemetry.event("run.started", name=start.name)
    except (FlowStateExistsError, StoreUnavailableError) as error:
        if token is None or not getattr(error, "outcome_unknown", isinstance(error, FlowStateExistsError)):
            raise
        stored = await engine.store.load(start.id)
        if stored is None or record_of(stored).owner != token:
            raise
        return stored
    return state
