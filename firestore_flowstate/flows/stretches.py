"""The stretches of a run, which are its ``executions``: one for each drive, and one for each end without a drive.

Beside Genkit's keys a stretch may have these, which a save of Genkit JS drops, and which decide nothing:

- ``driven``: false if the run was ended without a drive. Such a stretch has no length.
- ``waits``: what the run waited for when it failed or was cancelled.
- ``ended`` and ``error``: how the run ended, if it was retried since, and by what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from firestore_flowstate import FlowStateExecution

from .entries import kept_text
from .record import Ended, Wait

KEPT_STRETCHES: Final = 100
"""How many stretches a run keeps, the last ones: each drive adds one, and a run may go on for months."""
_KEPT_WAITS: Final = 10
"""How many waits a stretch keeps, the first ones: a run may wait for a thousand children."""
_KEPT_ERROR: Final = 200
"""How many characters of an error a stretch keeps: a hundred retries must leave room for the state."""


def begun(stretches: Sequence[FlowStateExecution], *, now: int, trace_ids: Sequence[str]) -> list[FlowStateExecution]:
    """Return the stretches, of which the last one begins now; `now` is in milliseconds since the epoch."""
    return [*stretches, FlowStateExecution(start_time=now, trace_ids=list(trace_ids))][-KEPT_STRETCHES:]


def closed(
    stretches: Sequence[FlowStateExecution], *, now: int, waits: Mapping[str, Wait]
) -> Sequence[FlowStateExecution]:
    """Return the stretches, of which the last one, of a drive, ends now.

    Args:
        stretches: The stretches.
        now: The time, in milliseconds since the epoch.
        waits: What the run waited for, if it ends and waits for that no more.
    """
    if not stretches or stretches[-1].end_time is not None:
        return stretches
    return [*stretches[:-1], stretches[-1].model_copy(update={"end_time": now, **_waited(waits)})]


def ended_undriven(
    stretches: Sequence[FlowStateExecution], *, now: int, waits: Mapping[str, Wait]
) -> list[FlowStateExecution]:
    """Return the stretches with one of no length for the end of a run that nobody drives; arguments as of `closed`."""
    end = FlowStateExecution(start_time=now, end_time=now, trace_ids=[])
    return [*stretches, end.model_copy(update={"driven": False, **_waited(waits)})][-KEPT_STRETCHES:]


def retried(stretches: list[FlowStateExecution], *, ended: Ended, error: str | None) -> list[FlowStateExecution]:
    """Return the stretches, of which the last one keeps how the run ended that is retried now."""
    if not stretches:
        return stretches
    about = {"ended": ended, "error": (error or ended)[:_KEPT_ERROR]}
    return [*stretches[:-1], stretches[-1].model_copy(update=about)]


def is_of_a_drive(stretch: FlowStateExecution) -> bool:
    """Return whether the stretch is one of a drive, and not of an end without one."""
    return (stretch.model_extra or {}).get("driven") is not False


def _waited(waits: Mapping[str, Wait]) -> dict[str, Any]:
    first = sorted(waits.items(), key=lambda item: item[1].n)[:_KEPT_WAITS]
    return {"waits": [{"step": kept_text(key), **_about(wait)} for key, wait in first]} if first else {}


def _about(wait: Wait) -> dict[str, Any]:
    about = {"kind": wait.kind, "since": wait.since, "until": wait.until, "child": wait.child}
    return {name: value for name, value in about.items() if value is not None}
