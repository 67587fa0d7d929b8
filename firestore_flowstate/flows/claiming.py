"""Claiming a run: one compare-and-swap, after which this process drives it."""

from __future__ import annotations

import asyncio
import secrets

from firestore_flowstate import BackendError, FlowState, FlowStateConflictError, FlowStateNotFoundError
from firestore_flowstate.copies import Copier

from .ending import End, cancelled_end, given_up_end, time_is_up
from .engine import Engine
from .flow import Flow
from .image import Image, image_of
from .lease import Claim, Lease
from .readiness import claimable_at
from .record import RunRecord, record_of, wake_at
from .scalars import parent_scalar
from .stretches import begun
from .undriven import write_end


def new_token() -> str:
    """Return a random token for an owner; nothing of the machine is in it."""
    return secrets.token_hex(8)


def is_taken_over(record: RunRecord) -> bool:
    """Return whether who claims the run takes it over: its drive has died, or was handed over without a new result."""
    return record.owner is not None or record.fruitless


def claimed_record(engine: Engine, record: RunRecord, token: str, flow: Flow[object, object]) -> RunRecord:
    """Note in the record that the drive of the token has claimed the run; return the record."""
    now = engine.clock.now()
    if is_taken_over(record):
        record.recoveries += 1
    record.owner, record.fruitless = token, False
    record.drives += 1
    record.began = record.began or now
    if record.deadline is None and flow.timeout is not None:
        record.deadline = now + flow.timeout
    return record


async def claim(
    engine: Engine, id: str, state: FlowState, flow: Flow[object, object], token: str, *, copier: Copier | None = None
) -> Claim | End | None:
    """Claim the run as it was loaded.

    Args:
        engine: What all drives share.
        id: The id of the run.
        state: The state as it was loaded.
        flow: The flow of the run.
        token: The owner that is to be written.
        copier: Makes copies of the state; None: its store does not tell how.

    Returns:
        The claim. Or how the run ended, if its end was due instead. Or None, if another writer was first or the outcome
        of the write is unknown: then load the run, and try again with the same token.
    """
    image = image_of(id, state, copier=copier)
    record = claimed_record(engine, image.record, token, flow)
    end = _end(engine, image)
    if end is not None:
        return await _write_end(engine, image, token, end)
    until = engine.clock.now() + engine.lease
    image.executions = begun(image.executions, now=engine.clock.now(), trace_ids=engine.telemetry.trace_ids())
    sent_at = engine.clock.monotonic()
    try:
        image.version = await engine.store.update(
            id,
            operation=image.operation_with(record),
            executions=image.executions,
            extra={"wakeAt": until, **parent_scalar(image.parent)},  # a save of Genkit JS may have dropped it
            if_version=image.version,
        )
    except (FlowStateConflictError, FlowStateNotFoundError):
        return None
    except asyncio.CancelledError:  # the claim may be stored, and nobody drives the run
        await engine.look_later(id, claimable_at(id, record, until, lease=engine.lease))
        raise
    except BackendError as error:
        if not getattr(error, "outcome_unknown", False):
            raise
        return None
    return Claim(image, token, Lease(engine.clock, engine.lease, until, sent_at))


def claimed_already(engine: Engine, id: str, state: FlowState, token: str, *, copier: Copier | None = None) -> Claim:
    """Return the claim of a run whose stored owner is our token: the claim was stored, and its reply was lost."""
    until = int((state.model_extra or {}).get("wakeAt", 0))
    left = (until - engine.clock.now() - engine.lease) / 1000
    return Claim(
        image_of(id, state, copier=copier),
        token,
        Lease(engine.clock, engine.lease, until, engine.clock.monotonic() + left),
    )


def is_lost(before: FlowState, state: FlowState, token: str) -> bool:
    """Return whether another process was first to claim the run.

    Other writers may have been first as well, such as one that answered the run: that claim is not lost.

    Args:
        before: The state that the claim was tried on.
        state: The state as it was loaded after that.
        token: The owner that was to be written.
    """
    record, tried = record_of(state), record_of(before)
    if record.owner == token:
        return False
    # The number of drives tells it if the drive of the other process is over by now.
    return record.drives > tried.drives or record.owner not in (None, tried.owner)


def tell_claim(engine: Engine, before: FlowState) -> None:
    """Tell telemetry of a claim that is stored.

    Args:
        engine: What all drives share.
        before: The state that the claim was made on.
    """
    record, wake = record_of(before), wake_at(before)
    if is_taken_over(record):
        engine.telemetry.event("recovery", name=before.name)
    elif wake is not None:
        engine.telemetry.event("wake", name=before.name, delay=max(0, engine.clock.now() - wake) / 1000)


def _end(engine: Engine, image: Image) -> End | None:
    if image.inbox.cancel is not None:
        return cancelled_end(image.inbox.cancel)
    if image.record.deadline is not None and image.record.deadline <= engine.clock.now():
        return cancelled_end(time_is_up())
    if image.record.recoveries > engine.max_recoveries:
        return given_up_end(image.record.recoveries, image.record.trying)
    return None


async def _write_end(engine: Engine, image: Image, token: str | None, end: End) -> End | None:
    image.record.drives -= 1  # the run ends without this drive
    try:
        await write_end(engine, image, token, end)
    except (FlowStateConflictError, FlowStateNotFoundError):
        return None
    return end
