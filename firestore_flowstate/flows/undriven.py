"""Ending runs from outside, in one write if nobody drives them."""

from __future__ import annotations

from firestore_flowstate import UNSET, FlowState, FlowStateConflictError, FlowStateNotFoundError

from .ending import End, cancelled_end
from .engine import LOG, Engine
from .image import Image, image_of
from .readiness import look_at
from .record import ended_of, is_owned, metadata_of, record_of
from .stretches import ended_undriven


async def end_or_ask(
    engine: Engine, id: str, reason: str, *, missing_ok: bool = False, elsewhere: bool = False
) -> Image | None:
    """Do as `cancel` does, and leave to the caller what is left to do after the end.

    Args:
        engine: What all drives share.
        id: The id of the run.
        reason: Why it is cancelled.
        missing_ok: Return None if there is no such run.
        elsewhere: Whether another process is to end it if its owner has died: the flows of this one were closed.

    Returns:
        The run, if this call has ended it; else None.

    Raises:
        FlowStateNotFoundError: There is no such run.
    """
    while True:
        state = await engine.store.load(id)
        if state is None:
            if missing_ok:
                return None
            raise FlowStateNotFoundError(f"There is no run {id!r}, or it has expired.", flow_id=id)
        if ended_of(state) is not None:
            return None
        image = image_of(id, state)
        is_driven = _is_driven(engine, id, state)
        try:
            if is_driven:
                image.inbox.cancel = image.inbox.cancel or reason
                metadata = metadata_of(image.operation, image.record, image.inbox)
                operation = image.operation.model_copy(update={"metadata": metadata})
                await engine.store.update(id, operation=operation, if_version=image.version)
            else:
                await write_end(engine, image, None, cancelled_end(reason))
        except FlowStateConflictError:
            continue
        if is_driven:
            await engine.told(id, state, elsewhere=elsewhere)
            return None
        engine.moved(id)
        return image


def _is_driven(engine: Engine, id: str, state: FlowState) -> bool:
    """Return whether a drive holds the run that may be alive: it goes on here, or its lease and grace are not over."""
    if not is_owned(state, record_of(state)):
        return False
    return engine.has(id) or look_at(id, state, now=engine.clock.now(), lease=engine.lease).what == "busy"


async def write_end(engine: Engine, image: Image, token: str | None, end: End) -> None:
    """End a run that nobody drives.

    Args:
        engine: What all drives share.
        image: The run as it was loaded.
        token: The token of the drive that was about to claim it; None: it is ended without a drive.
        end: How it ends.

    Raises:
        FlowStateConflictError: Another writer was first.
    """
    now = engine.clock.now()
    final = end.final(image, token, now=now)
    image.version = await engine.store.update(
        image.id,
        operation=image.operation_with(final.record, **final.operation),
        blocked_on_step=None,
        executions=ended_undriven(image.executions, now=now, waits=image.record.waits),
        extra={"wakeAt": UNSET if final.wake is None else final.wake},
        if_version=image.version,
    )
    final.stored_in(image)
    engine.telemetry.event("run.ended", flow_id=image.id, name=image.name, outcome=end.how)
    LOG.info("The run %r (%s) ends without a drive: %s.", image.id, image.name, end.how)
