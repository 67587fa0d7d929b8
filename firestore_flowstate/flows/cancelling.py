"""Cancelling a run from outside."""

from __future__ import annotations

from firestore_flowstate import FlowStateConflictError, FlowStateNotFoundError

from .arguments import check_named
from .claiming import write_end
from .ending import cancelled_end
from .engine import Engine
from .image import Image, image_of
from .record import ended_of, metadata_of, wake_at


async def cancel(engine: Engine, id: str, reason: str = "") -> None:
    """End the run at once if nobody drives it, else have its driver end it. A run that has ended stays as it is.

    Raises:
        FlowStateNotFoundError: There is no such run.
        TypeError: The reason is not text.
    """
    check_named(reason, "reason")
    ended = await end_or_ask(engine, id, reason)
    if ended is not None:
        await engine.finish(ended)


async def end_or_ask(engine: Engine, id: str, reason: str, *, missing_ok: bool = False) -> Image | None:
    """Do as `cancel` does, and leave to the caller what is left to do after the end.

    Args:
        engine: What all drives share.
        id: The id of the run.
        reason: Why it is cancelled.
        missing_ok: Return None if there is no such run.

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
        is_owned = image.record.owner is not None and wake_at(state) is not None
        try:
            if is_owned:
                image.inbox.cancel = image.inbox.cancel or reason
                metadata = metadata_of(image.operation, image.record, image.inbox)
                operation = image.operation.model_copy(update={"metadata": metadata})
                await engine.store.update(id, operation=operation, if_version=image.version)
            else:
                await write_end(engine, image, None, cancelled_end(reason))
        except FlowStateConflictError:
            continue
        if is_owned:
            engine.poke(id)
            return None
        engine.moved(id)
        return image
