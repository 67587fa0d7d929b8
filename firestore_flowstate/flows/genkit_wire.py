"""Genkit JS's wire for durable flows: envelopes that start, schedule and resume runs, and operations as answers."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from firestore_flowstate import UNSET, FlowState, FlowStateConflictError, FlowStateError, FlowStateNotFoundError

from .engine import LOG
from .errors import UnknownFlowError
from .preparing import prepared
from .record import ended_of, is_run
from .running import drive_claimed
from .starting import create

if TYPE_CHECKING:
    from .flows import Flows

MOST_BYTES: Final = 10 * 1024 * 1024
"""How many bytes of an envelope are read: a state may have large values, which the store keeps in parts."""
RESERVED: Final = frozenset({"drive", "sweep", "health"})
"""Names of flows whose address would be one of the application's own routes."""

_LOOKS: Final = 2
"""How many looks in a row must find no drive of this process: a task that was begun runs by the second."""
_LOOK_SECONDS: Final = 0.02
"""How often it is looked whether a drive of this process goes on."""


def check_names(names: Any) -> None:
    """Refuse names of flows that cannot be an address, or are the address of one of the application's own routes.

    Raises:
        ValueError: A flow has such a name.
    """
    if unreachable := sorted(name for name in names if "/" in name):
        raise ValueError(
            f"with genkit=True no flow may have a / in its name, as {', '.join(unreachable)}: its address has one part"
        )
    if taken := RESERVED & set(names):
        raise ValueError(
            f"with genkit=True no flow may be named {', '.join(sorted(taken))}, which is the address of another route: "
            "give the flow another name"
        )


async def answer(flows: Flows, name: str, body: Any, *, budget: float) -> tuple[int, dict[str, Any]]:
    """Do what the envelope says; return the status and the body of the answer.

    The answer is that of Genkit JS: 200 with the operation for every outcome of the flow, also for a failure; 500 with
    the error if one was raised before there was an outcome.

    Args:
        flows: The flows.
        name: The name of the flow that was called.
        body: The envelope, as JSON has it; None: the body was not JSON.
        budget: How many seconds the request may take.
    """
    try:
        state = await _do(flows, name, _envelope(body), budget)
    except Exception as error:  # noqa: BLE001  # whatever is raised is told, as Genkit JS does
        if not isinstance(error, (FlowStateError, ValidationError, ValueError, TypeError)):
            LOG.exception("An envelope for the flow %r failed.", name)
        stacktrace = "".join(traceback.format_exception_only(type(error), error))
        return 500, {"done": True, "result": {"error": _printable(str(error)), "stacktrace": _printable(stacktrace)}}
    try:
        operation = state.operation.model_dump(mode="json", by_alias=True)
    except PydanticSerializationError:  # a key has half of a surrogate pair; JSON has an escape for it, and UTF-8 none
        operation = state.operation.model_dump(by_alias=True)
    operation.pop("metadata", None)  # which is ours
    return 200, operation


def _printable(text: str) -> str:
    """Return the text in a form that UTF-8 can hold: callers may send half of a surrogate pair."""
    return text.encode(errors="backslashreplace").decode()


def _envelope(body: Any) -> dict[str, Any]:
    data = body.get("data") or body if isinstance(body, dict) else None
    if not isinstance(data, dict):
        raise TypeError("the body is not an envelope: a map with start, schedule, runScheduled, resume, retry or state")
    return data


async def _do(flows: Flows, name: str, envelope: dict[str, Any], budget: float) -> FlowState:
    if name not in flows._engine.flows:
        raise UnknownFlowError(f"this process has no flow {name!r}: import the module that defines it", name=name)
    for kind in ("start", "schedule", "runScheduled", "resume", "retry", "state"):
        message = envelope.get(kind)
        if message is None:
            continue
        if not isinstance(message, dict):
            raise TypeError(f"{kind} is a map, not {type(message).__name__}")
        if kind == "start":
            return await _start(flows, name, message, budget)
        if kind == "schedule":
            delay = message.get("delay")
            if delay is not None and (isinstance(delay, bool) or not isinstance(delay, (int, float))):
                raise TypeError("delay is a number of seconds")
            about = None if not delay else _seconds(delay)
            handle = await flows.start(name, message.get("input", UNSET), delay=about)
            return await _state(flows, handle.id, name)
        id = message.get("flowId")
        if not isinstance(id, str):
            raise TypeError(f"{kind} has a flowId, which is a text")
        return await _continue(flows, name, kind, id, message, budget)
    raise ValueError(
        "Unexpected envelope message case, must set one of: start, schedule, runScheduled, resume, retry, state"
    )


def _seconds(delay: float) -> timedelta:
    try:
        return timedelta(seconds=delay)
    except OverflowError:
        raise ValueError(f"delay is a number of seconds of at most 1,000 years, not {delay}") from None


async def _start(flows: Flows, name: str, message: dict[str, Any], budget: float) -> FlowState:
    begin = prepared(flows._engine, flows._engine.flows[name], message.get("input", UNSET))
    claimed = await create(flows._engine, begin, here=True)
    if claimed is not None:
        await drive_claimed(flows._engine, claimed, budget=budget)
    return await _state(flows, begin.id, name)


async def _continue(flows: Flows, name: str, kind: str, id: str, message: dict[str, Any], budget: float) -> FlowState:
    state = await _state(flows, id, name)
    if kind == "runScheduled" and not is_run(state) and ended_of(state) is None:
        await _wake(flows, id, state)
    elif kind == "resume":
        await flows.resume(id, message.get("payload"))
    elif kind == "retry":
        await flows.retry(id)
    if kind != "state":
        await _drive(flows, id, budget)
    return await _state(flows, id, name)


async def _drive(flows: Flows, id: str, budget: float) -> None:
    """Drive the run; if the dispatcher in this process was the first to begin a drive of it, await that one."""
    engine = flows._engine
    by = engine.clock.monotonic() + budget
    outcome = await flows.drive(id, budget=budget)
    # How often in a row no drive was found. One look may fall between a claim and the beginning of its drive. A run
    # that has ended may be driven here all the same: Genkit JS, which claims nothing, may have stored that end.
    looks = 0 if outcome == "busy" else _LOOKS
    while (engine.has(id) or looks < _LOOKS) and engine.clock.monotonic() < by:
        looks = 0 if engine.has(id) else looks + 1
        await asyncio.sleep(_LOOK_SECONDS)


async def _wake(flows: Flows, id: str, state: FlowState) -> None:
    """Make a run due that Genkit JS left: JS stores no wake time, so that only this envelope says when a sleep ends."""
    with suppress(FlowStateConflictError):  # whoever has written to it has it driven
        await flows.store.update(id, extra={"wakeAt": flows._engine.clock.now()}, if_version=state.version or UNSET)


async def _state(flows: Flows, id: str, name: str) -> FlowState:
    state = await flows.store.load(id)
    if state is None or state.name not in (name, None):
        raise FlowStateNotFoundError(f"There is no run {id!r} of the flow {name!r}.", flow_id=id)
    return state
