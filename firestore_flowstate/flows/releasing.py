"""Giving a claim back before a drive of it has begun, since the process is to end."""

from __future__ import annotations

from firestore_flowstate import FlowStateConflictError, FlowStateNotFoundError

from .batch import Batch, changes_of
from .engine import LOG, Engine
from .final import DriveOutcome, handed_over
from .image import image_of
from .lease import Claim


async def release(engine: Engine, claimed: Claim) -> DriveOutcome:
    """Hand over a run that this process has claimed, and whose function was not called.

    No step could begin. So, unlike a drive that has recorded nothing, this does not count as a failed attempt to get on
    with the run.

    Raises:
        BackendError: The store cannot be reached. The run is left to the lease.
    """
    image, is_leaving = claimed.image, engine.is_closing  # which may be over before the write is stored
    while True:
        now = engine.clock.now()
        final = handed_over(image, claimed.token, now=now, fruitless=False)
        try:
            changes = changes_of(Batch(), image, final, now=now, until=None)
            await engine.store.update(image.id, if_version=image.version, **changes)
            break
        except FlowStateNotFoundError:
            return "missing"
        except FlowStateConflictError:  # such as an answer or a cancellation, which others write meanwhile
            state = await engine.store.load(image.id)
            if state is None:
                return "missing"
            image = image_of(image.id, state)
            if image.record.owner is None and image.record.last == claimed.token:
                break  # the write was stored, and its reply was lost
            if image.record.owner != claimed.token:
                return "busy"
    LOG.info("The run %r (%s) is handed over before a drive of it begins.", image.id, image.name)
    engine.moved(image.id)
    await engine.dispatch(image.id, now, elsewhere=is_leaving)
    return "handed over"
