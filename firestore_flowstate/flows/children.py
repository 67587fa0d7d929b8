"""Children: runs that a run starts, and whose results it waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from firestore_flowstate import BackendError, CacheEntry, FlowState, FlowStateError, FlowStateExistsError, Unset

from .beginning import may_begin
from .calls import Called
from .context import uuid_in
from .engine import LOG
from .entries import error_entry, order_of, result_entry
from .record import Wait, ended_of, parent_of
from .starting import Start, create
from .waiting import OpenWait, Waits, forbid_at_most_once, may_go_on, result_of

if TYPE_CHECKING:
    from .driving import Drive
    from .flow import Flow

FIRST_LOOK_MILLISECONDS: Final = 3_600_000
"""A parent loads a child that has not knocked after an hour, since a child that was deleted never knocks."""
LATER_LOOKS_MILLISECONDS: Final = 86_400_000
"""After that the parent loads it once a day: a look is a billed read."""


async def child(called: Called, key: str, flow: Flow[Any, Any], input: Any | Unset, id: str | None) -> None:
    """Start the child if it is not there, and return when its result is the next to reach the function.

    The caller reads the result from the drive, as on a replay.
    """
    await called.begin()
    drive = called.drive
    forbid_at_most_once(called, key)
    entry = drive.recorded(key, "child")
    if entry is not None:
        await drive.gate.pass_through(order_of(entry))
        return
    await may_go_on(drive, key)
    known = drive.image.record.waits.get(key)
    child_id = known.child if known is not None else None
    if child_id is None:
        child_id = id if id is not None else default_id(drive, key)
    with drive.busy(key):
        entry = await _register(drive, key, flow, input, child_id)
    n: int | None
    if entry is not None:
        n = drive.record(key, entry)
    else:
        until = drive.engine.clock.now() + FIRST_LOOK_MILLISECONDS
        each = drive.waits.begin(key, Wait("child", until=until, child=child_id))
        if key in drive.image.events and not each.wait.knocked:
            drive.waits.look_at_child(each)
        n = await result_of(drive, each)
    await drive.gate.pass_through(n)


def default_id(drive: Drive, key: str) -> str:
    """Return the id of a child that was given none.

    It is the same on every replay, and another one after `retry(from_step=)`, which starts a new child.
    """
    return uuid_in(drive.id, "child", key, drive.image.record.rewinds)


async def _register(drive: Drive, key: str, flow: Flow[Any, Any], input: Any | Unset, id: str) -> CacheEntry | None:
    """Create the child, or find that it is there; return its entry if it has ended.

    While the store or the dispatcher cannot be reached this tries again, since an outage is not a result of the child.
    """
    known = drive.image.record.waits.get(key)
    if known is not None and known.child is not None and (key not in drive.image.events or known.knocked):
        return None
    is_there = known is not None and known.child is not None  # it was created before this drive
    pause = 0.1
    while True:
        try:
            if is_there:
                return _result(drive, key, id, await drive.engine.store.load(id))
            await may_begin(drive, key, is_step=False)
            await create(drive.engine, Start(flow.name, input, id=id, flow=flow, parent=drive.id, key=key))
        except FlowStateExistsError:
            is_there = True
        except Exception as error:
            if isinstance(error, FlowStateError) and not isinstance(error, BackendError):
                raise  # such as an id or an input that cannot be stored
            LOG.warning("The child %r of the run %r cannot be registered now: %s", id, drive.id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
            if not is_there and not drive.may_go_on and await _was_created(drive, id):
                return None  # so that it is cancelled with its parent
        else:
            return None


async def _was_created(drive: Drive, id: str) -> bool:
    """Return whether a try whose outcome is unknown has created the child; False if the store cannot tell."""
    try:
        state = await drive.engine.store.load(id)
    except Exception:  # noqa: BLE001  # whatever the store raises
        return False
    return state is not None and parent_of(state) == drive.id


def _result(drive: Drive, key: str, id: str, state: FlowState | None) -> CacheEntry | None:
    """Return the entry of a child that has ended, was deleted, or has another parent; None: it goes on."""
    if state is None:
        message = f"the child {id!r} is gone: it was deleted, or has expired"
        return _failure(drive, id, "FlowFailedError", message)
    if parent_of(state) != drive.id:
        message = f"there is a run {id!r} already, which is not a child of {drive.id!r}: choose another id"
        return _failure(drive, id, "FlowFailedError", message)
    how, result = ended_of(state), state.operation.result
    if how is None:
        return None
    if how == "done":
        return result_entry(
            result.response if result is not None else None, kind="child", child=id, endTime=drive.engine.clock.now()
        )
    kind = "FlowCancelledError" if how == "cancelled" else "FlowFailedError"
    return _failure(
        drive,
        id,
        kind,
        (result.error if result is not None else None) or "",
        stacktrace=result.stacktrace if result is not None else None,
    )


def _failure(drive: Drive, id: str, type: str, message: str, stacktrace: str | None = None) -> CacheEntry:
    record = {"type": type, "message": message, "stacktrace": stacktrace}
    return error_entry(record, kind="child", child=id, endTime=drive.engine.clock.now())


async def look(waits: Waits, each: OpenWait) -> None:
    """Load the child of a wait, and end the wait if the child has ended or is gone."""
    drive, id = waits.drive, each.wait.child or ""
    pause = 0.1
    while True:
        try:
            entry = _result(drive, each.key, id, await drive.engine.store.load(id))
            break
        except Exception:  # noqa: BLE001  # whatever the store raises: the run stays claimed meanwhile
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
    each.looking -= 1
    if drive.is_over or waits.open.get(each.key) is not each:
        return
    if entry is not None:
        waits.end(each, entry)
        return
    each.wait.until = drive.engine.clock.now() + LATER_LOOKS_MILLISECONDS
    each.wait.knocked = each.key in drive.image.events
    drive.checkpoint.note_record(needed=False)
    waits.arm(each)
    drive.moved()
