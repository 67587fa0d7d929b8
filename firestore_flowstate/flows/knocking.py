"""What is left to do after a run has ended: knock at the parent, and cancel the children.

A child knocks by an entry under its key in the parent's ``eventsTriggered``. The parent then loads the child's result.
"""

from __future__ import annotations

from collections import deque

from firestore_flowstate import UNSET, FlowState, FlowStateConflictError, FlowStateNotFoundError

from .engine import Engine
from .image import Image, image_of
from .record import Todo, ended_of, is_owned, record_of, wake_now
from .undriven import end_or_ask


async def finish_todo(engine: Engine, image: Image) -> None:
    """Do what is left to do after the run's end, and note that it is done; then the same for the cancelled children."""
    left = deque([image])  # not by recursion: a chain of children may be longer than Python's limit of recursion
    while left:
        image = left.popleft()
        if image.record.todo:
            left += await _do(engine, image, image.record.todo)
            await _note_that_it_is_done(engine, image)


async def _note_that_it_is_done(engine: Engine, image: Image) -> None:
    while image.record.todo:
        image.record.todo = None
        try:
            await engine.store.update(
                image.id,
                operation=image.operation_with(image.record),
                extra={"wakeAt": UNSET},
                if_version=image.version,
            )
        except FlowStateNotFoundError:
            return
        except FlowStateConflictError:
            state = await engine.store.load(image.id)
            if state is None or ended_of(state) is None:
                return
            image = image_of(image.id, state)


async def _do(engine: Engine, image: Image, todo: Todo) -> list[Image]:
    """Knock at the parent and cancel the children; return the children that have ended by that."""
    if "knock" in todo and image.parent is not None:
        await _knock(engine, image.parent, todo["knock"], image.id)
    reason = f"the run {image.id!r}, which started it, was cancelled"
    ended = [await end_or_ask(engine, child, reason, missing_ok=True) for child in todo.get("children", ())]
    return [child for child in ended if child is not None]


async def _knock(engine: Engine, parent: str, key: str, child: str) -> None:
    """Store in the parent that the child has ended, and have the parent woken if it waits for that."""
    while (state := await engine.store.load(parent)) is not None and ended_of(state) is None:
        if key in state.cache:
            return
        wake = _wake(engine, state, key)
        if key in state.events_triggered and wake is None:
            break
        events = {} if key in state.events_triggered else {key: {"child": child}}
        extra = {} if wake is None else {"wakeAt": wake}
        try:
            await engine.store.update(parent, events_triggered=events, extra=extra, if_version=state.version or "")
        except FlowStateConflictError:
            continue
        except FlowStateNotFoundError:
            return
        await engine.woken(parent, wake)
        return
    engine.poke(parent)


def _wake(engine: Engine, state: FlowState, key: str) -> int | None:
    """Return the new wake time of the parent, in milliseconds since the epoch, if it waits for the key undriven."""
    record = record_of(state)
    if is_owned(state, record) or key not in record.waits:
        return None
    return wake_now(state, engine.clock.now())
