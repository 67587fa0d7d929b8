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
from .errors import DispatchError
from .record import Wait, ended_of, parent_of, record_of
from .starting import Start, create
from .waiting import OpenWait, Waits, forbid_at_most_once, may_go_on, result_of

if TYPE_CHECKING:
    from .driving import Drive
    from .flow import Flow

FIRST_LOOK_MILLISECONDS: Final = 3_600_000
"""A parent loads a child that has not knocked after an hour, since a child that was deleted never knocks."""
LATER_LOOKS_MILLISECONDS: Final = 86_400_000
"""After that the parent loads it once a day: a look is a billed read."""
_SHARED_LOOK_MILLISECONDS: Final = 2_000
"""When a child that does not know of the wait is loaded, if this drive dies before it has done so: so soon that the run
is not suspended until then."""


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
        entry, is_shared = await _register(drive, key, flow, input, child_id)
    n: int | None
    if entry is not None:
        n = drive.record(key, entry)
    else:
        until = drive.engine.clock.now() + (_SHARED_LOOK_MILLISECONDS if is_shared else FIRST_LOOK_MILLISECONDS)
        each = drive.waits.begin(key, Wait("child", until=until, child=child_id))
        if is_shared:
            each.looking += 1
            drive.waits.spawn(_look_when_stored(drive.waits, each))
        elif key in drive.image.events:  # also if the child was retried after its first knock: it may have ended again
            drive.waits.look_at_child(each)
        n = await result_of(drive, each)
    await drive.gate.pass_through(n)


def default_id(drive: Drive, key: str) -> str:
    """Return the id of a child that was given none.

    It is the same on every replay, and another one after `retry(from_step=)`, which starts a new child.
    """
    return uuid_in(drive.id, "child", key, drive.image.record.rewinds)


def can_be_met(id: str, key: str, child: str, *, rewinds: int) -> bool:
    """Return whether the function of the run may come to the child again, and does not start another in its place.

    So it is with a child whose id the flow gave. One with a default id is met until the run is retried from a step.

    Args:
        id: The id of the run that started the child.
        key: The key of the child in that run.
        child: The id of the child.
        rewinds: How often the run was retried from a step.
    """
    return all(uuid_in(id, "child", key, before) != child for before in range(rewinds))


async def _register(
    drive: Drive, key: str, flow: Flow[Any, Any], input: Any | Unset, id: str
) -> tuple[CacheEntry | None, bool]:
    """Create the child, or find that it is there.

    While the store cannot be reached this tries again, since an outage is not a result of the child. Neither is a queue
    that does not take the child's task: the child is stored then, and a sweep finds it.

    Returns:
        The entry of the child, if it has ended. And whether the child was started under another key, so that its end
        is told to this one only if it finds the wait stored.
    """
    known = drive.image.record.waits.get(key)
    is_known = id == (known.child if known is not None else drive.image.record.dropped_children.get(key))
    has_knocked = key in drive.image.events and not (known is not None and known.knocked)
    if is_known and not has_knocked:  # it was created before, and goes on
        return None, False
    is_there = is_known
    pause = 0.1
    while True:
        try:
            if is_there:
                state = await drive.engine.store.load(id)
                if is_known:
                    return _result(drive, id, state), False
                is_shared = state is not None and record_of(state).parent != key
                return _result(drive, id, state, name=flow.name), is_shared
            await may_begin(drive, key, is_step=False)
            await create(drive.engine, Start(flow.name, input, id=id, flow=flow, parent=drive.id, key=key))
        except FlowStateExistsError:
            is_there = True
        except DispatchError as error:
            LOG.warning("The child %r of the run %r is stored, and waits for a sweep: %s", id, drive.id, error)
            return None, False
        except Exception as error:
            if isinstance(error, FlowStateError) and not isinstance(error, BackendError):
                raise  # such as an id or an input that cannot be stored
            LOG.warning("The child %r of the run %r cannot be registered now: %s", id, drive.id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)
            if not is_there and not drive.may_go_on and await _was_created(drive, id):
                return None, False  # so that it is cancelled with its parent
        else:
            return None, False


async def _was_created(drive: Drive, id: str) -> bool:
    """Return whether a try whose outcome is unknown has created the child; False if the store cannot tell."""
    try:
        state = await drive.engine.store.load(id)
    except Exception:  # noqa: BLE001  # whatever the store raises
        return False
    return state is not None and parent_of(state) == drive.id


def _result(drive: Drive, id: str, state: FlowState | None, *, name: str | None = None) -> CacheEntry | None:
    """Return the entry of a child that has ended, was deleted, or is not that child; None: it goes on.

    Args:
        drive: The drive.
        id: The id of the child.
        state: The state with that id; None: there is none.
        name: The name of the child's flow; None: it is known that the child is of its flow.
    """
    if state is None:
        message = f"the child {id!r} is gone: it was deleted, or has expired"
        return _failure(drive, id, "FlowFailedError", message)
    if parent_of(state) != drive.id:
        message = f"there is a run {id!r} already, which is not a child of {drive.id!r}: choose another id"
        return _failure(drive, None, "FlowFailedError", message)  # without its id: a retry would retry that run
    if name is not None and state.name != name:
        message = f"there is a run {id!r} of the flow {state.name!r} already, not of {name!r}: choose another id"
        return _failure(drive, None, "FlowFailedError", message)
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


def _failure(drive: Drive, id: str | None, type: str, message: str, stacktrace: str | None = None) -> CacheEntry:
    record = {"type": type, "message": message, "stacktrace": stacktrace}
    return error_entry(record, kind="child", child=id, endTime=drive.engine.clock.now())


async def look(waits: Waits, each: OpenWait) -> None:
    """Load the child of a wait, and end the wait if the child has ended or is gone."""
    drive, id = waits.drive, each.wait.child or ""
    pause = 0.1
    while True:
        try:
            entry = _result(drive, id, await drive.engine.store.load(id))
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
    now = drive.engine.clock.now()
    first = (each.wait.since or 0) + FIRST_LOOK_MILLISECONDS
    each.wait.until = first if first > now else now + LATER_LOOKS_MILLISECONDS
    each.wait.knocked = each.key in drive.image.events
    drive.checkpoint.note_record(needed=False)
    waits.arm(each)
    drive.moved()


async def _look_when_stored(waits: Waits, each: OpenWait) -> None:
    """Look at a child that was started under another key, once the wait is stored.

    A child that ends before that does not know of the wait, and one that ends later does.
    """
    drive = waits.drive
    drive.checkpoint.note_record(needed=True)
    await drive.checkpoint.flush()
    await look(waits, each)
