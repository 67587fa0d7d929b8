"""Operations of a run that are not steps: interrupt, sleep, child, now, progress."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from firestore_flowstate import CacheEntry, Unset

from . import children
from .arguments import check_flow, check_home, check_id
from .calls import Called
from .entries import order_of, result_entry
from .other_loops import call_on
from .scalars import scalars
from .step_options import milliseconds
from .waiting import may_go_on, wait

if TYPE_CHECKING:
    from .driving import Drive
    from .flow import Flow


async def interrupt(called: Called, key: str, type: Any, show: Any | Unset, timeout: timedelta | float | None) -> Any:
    """Return the answer to an interrupt when there is one."""
    drive = called.drive
    kind = Any if type is None else type
    length = None if timeout is None else milliseconds(timeout, "timeout")

    def shown() -> CacheEntry | None:
        if isinstance(show, Unset):
            return None
        return result_entry(drive.engine.values.dump(show, Any, f"what the interrupt {key!r} shows"), kind="show")

    await wait(
        called,
        key,
        "interrupt",
        until=lambda: None if length is None else drive.engine.clock.now() + length,
        type=kind,
        schema=lambda: None if type is None else drive.engine.values.schema(type),
        show=shown,
    )
    return drive.result(key, kind)


async def sleep(called: Called, key: str, duration: timedelta | float | None, until: datetime | None) -> None:
    """Return when the duration has passed, or the moment has come."""
    length = None if duration is None else milliseconds(duration, "duration")

    def end() -> int:
        if until is not None:
            return round(until.timestamp() * 1000)
        return called.drive.engine.clock.now() + (length or 0)

    await wait(called, key, "sleep", until=end)


async def child(called: Called, key: str, flow: Flow[Any, Any], input: Any | Unset, id: str | None) -> Any:
    """Return the result of the child when it has ended."""
    check_flow(flow)
    check_home(flow, called.drive.engine.flows.get(flow.name), "start its runs in a step, by the Flows")
    if id is not None:
        check_id(id)
    form = flow.dump_input(input, called.drive.engine.values)
    await children.child(called, key, flow, form, id)
    return called.drive.result(key, called.drive.engine.values.returned_by(flow.function))


async def now(called: Called, key: str) -> datetime:
    """Return the time in UTC, as it is recorded under the key."""
    await called.begin()
    drive = called.drive
    entry = drive.recorded(key, "now")
    if entry is not None:
        await drive.gate.pass_through(order_of(entry))
    else:
        await may_go_on(drive, key)
        moment = datetime.fromtimestamp(drive.engine.clock.now() / 1000, timezone.utc)
        await drive.gate.pass_through(drive.record(key, result_entry(moment.isoformat(), kind="now")))
    moment_again: datetime = drive.result(key, datetime)
    return moment_again


def progress(drive: Drive, values: Mapping[str, Any]) -> None:
    """Have the scalars written beside the state. The thread of a synchronous step may call this too."""
    checked = scalars(values)
    if drive.is_replaying or drive.is_over:
        return
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is drive.loop:
        drive.checkpoint.note_progress(checked)
    else:
        call_on(drive.loop, lambda: drive.checkpoint.note_progress(checked))  # passed over if that loop has ended
