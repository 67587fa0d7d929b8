"""What is left to do after a run has ended: knock at the parent, and cancel the children.

A child knocks by an entry under its key in the parent's ``eventsTriggered``. The parent then loads the child's result.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from firestore_flowstate import UNSET, FlowStateConflictError, FlowStateNotFoundError

from .engine import Engine
from .image import Image, image_of
from .record import RunRecord, Todo, ended_of, has_told, is_owned, record_of, wake_now
from .undriven import end_or_ask


async def finish_todo(engine: Engine, image: Image, *, elsewhere: bool = False) -> None:
    """Do what is left to do after the run's end, and note that it is done; then the same for the cancelled children.

    Args:
        engine: What all drives share.
        image: The run, which has ended.
        elsewhere: Whether another process is to drive the parent: the flows of this one were closed.
    """
    left = deque([image])  # not by recursion: a chain of children may be longer than Python's limit of recursion
    while left:
        image = left.popleft()
        if image.record.todo:
            left += await _do(engine, image, image.record.todo, elsewhere=elsewhere)
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


async def _do(engine: Engine, image: Image, todo: Todo, *, elsewhere: bool) -> list[Image]:
    """Knock at the parent and cancel the children; return the children that have ended by that."""
    if "knock" in todo and image.parent is not None:
        await _knock(engine, image.parent, todo["knock"], image.id, elsewhere=elsewhere)
    reason = f"the run {image.id!r}, which started it, was cancelled"
    ended = [
        await end_or_ask(engine, child, reason, missing_ok=True, elsewhere=elsewhere)
        for child in todo.get("children", ())
    ]
    return [child for child in ended if child is not None]


async def _knock(engine: Engine, parent: str, key: str, child: str, *, elsewhere: bool) -> None:
    """Store in the parent that the child has ended, and have the parent woken if it waits for that.

    The parent may wait for one child under several keys, each of which is told. A key that was told before is told
    again by another value: the child was retried since, and has ended once more.
    """
    while (state := await engine.store.load(parent)) is not None and ended_of(state) is None:
        record = record_of(state)
        keys = [each for each in _keys(record, key, child) if each not in state.cache]
        if not keys:
            return
        is_waiting = any(each in record.waits for each in keys)
        has_owner = is_owned(state, record)
        wake = wake_now(state, engine.clock.now()) if is_waiting and not has_owner else None
        try:
            await engine.store.update(
                parent,
                events_triggered={each: _told(child, state.events_triggered.get(each)) for each in keys},
                extra={} if wake is None else {"wakeAt": wake},
                if_version=state.version or "",
            )
        except FlowStateConflictError:
            continue
        except FlowStateNotFoundError:
            return
        if has_owner:
            await engine.told(parent, state, elsewhere=elsewhere)
        else:
            await engine.woken(parent, wake, elsewhere=elsewhere)
        return
    engine.poke(parent)


def _keys(record: RunRecord, key: str, child: str) -> list[str]:
    """Return the keys under which the parent waits for the child, or is about to.

    Args:
        record: The record of the parent.
        key: The key that the child was started under. The wait under it may not be stored yet; or be one for another
            child, since the parent was retried from a step.
        child: The id of the child.
    """
    waiting = [each for each, wait in record.waits.items() if wait.kind == "child" and wait.child == child]
    return waiting if key in waiting or key in record.waits else [key, *waiting]


def _told(child: str, before: Any) -> dict[str, Any]:
    """Return what is stored under a key of the parent; `before` is what is stored there now, or None."""
    times = before.get("times", 1) if has_told(before, child) else 0
    return {"child": child, "times": times + 1} if times else {"child": child}
