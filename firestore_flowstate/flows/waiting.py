"""Waits: interrupts, sleeps, children, and retries that are far off.

A wait is a future in the process and an entry of the record, so that the run can be suspended while it lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from firestore_flowstate import CacheEntry

from .calls import Called
from .clock import Timer
from .entries import error_entry, order_of, result_entry
from .record import Wait, WaitKind
from .values import fit_error

if TYPE_CHECKING:
    from .driving import Drive


@dataclass
class OpenWait:
    """A wait of the function that goes on in this process.

    Attributes:
        key: Its key.
        wait: What is stored of it.
        future: Gets the number of the result; of a retry: None.
        type: The type that the answer is read as.
        timer: What ends it in this process.
        looking: How many loads of the child are under way, since it has knocked or its time has come.
        is_contested: Its time is up, and until that is stored an answer may still come first.
    """

    key: str
    wait: Wait
    future: asyncio.Future[int | None]
    type: Any = None
    timer: Timer | None = None
    looking: int = 0
    is_contested: bool = False


@dataclass
class Waits:
    """The open waits of a drive.

    Attributes:
        drive: The drive.
        open: They, by key.
    """

    drive: Drive
    open: dict[str, OpenWait] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def is_busy(self) -> bool:
        """Whether something is loaded or written for a wait now."""
        return bool(self._tasks)

    def stored(self) -> dict[str, Wait]:
        """Return what is to be stored of the open waits."""
        return {key: each.wait for key, each in self.open.items()}

    def begin(self, key: str, new: Wait, kind: Any = None) -> OpenWait:
        """Begin a wait, or go on with the one that was stored by an earlier drive."""
        record = self.drive.image.record
        wait = record.waits.get(key)
        if wait is None or wait.kind != new.kind:
            new.since = self.drive.engine.clock.now()
            new.n = 1 + max((each.n for each in record.waits.values()), default=0)
            wait = record.waits[key] = new
            self.drive.checkpoint.note_record(needed=False)
        each = OpenWait(key, wait, self.drive.loop.create_future(), kind)
        self.open[key] = each
        self.arm(each)
        self.drive.moved()
        return each

    def arm(self, each: OpenWait) -> None:
        """Have the wait end in this process when its time comes."""
        if each.timer is not None:
            each.timer.cancel()
        until = each.wait.until
        if until is not None:
            seconds = (until - self.drive.engine.clock.now()) / 1000
            each.timer = self.drive.engine.clock.call_later(seconds, lambda: self._on_time(each))

    def end(self, each: OpenWait, entry: CacheEntry) -> None:
        """Record how the wait ended, and let its result through."""
        if self._close(each):
            each.future.set_result(self.drive.record(each.key, _timed(entry, each.wait)))

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Take answers that others have stored."""
        for key, payload in answers.items():
            each = self.open.get(key)
            if each is None:
                continue
            if each.is_contested:
                self._answer_contested(each, payload)
            elif each.wait.kind == "interrupt":
                self.end(each, interrupt_entry(self.drive, each.type, payload))
            elif each.wait.kind == "sleep":
                self.end(each, slept(self.drive))
            elif each.wait.kind == "child":
                self.look_at_child(each)

    def look_at_child(self, each: OpenWait) -> None:
        """See whether the child has ended."""
        from .children import look  # which begins waits

        each.looking += 1  # at once: a run must not be suspended with a knock that nobody follows
        self.spawn(look(self, each))

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run it in a task that ends with the drive."""
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel all futures and timers."""
        for each in list(self.open.values()):
            self._disarm(each)
            each.future.cancel()

    def close(self) -> None:
        """Cancel all, also what is loaded or written for a wait."""
        self.cancel()
        for task in list(self._tasks):
            task.cancel()

    def drop(self, each: OpenWait) -> None:
        """Forget a wait that the function has cancelled."""
        self._disarm(each)
        if self.open.get(each.key) is each:
            del self.open[each.key]
            if not self.drive.is_over:
                self.drive.moved()

    def _on_time(self, each: OpenWait) -> None:
        if self.open.get(each.key) is not each or self.drive.is_over:
            return
        if each.wait.kind == "sleep":
            self.end(each, slept(self.drive))
        elif each.wait.kind == "retry":
            if self._close(each):
                each.future.set_result(None)
        elif each.wait.kind == "child":
            self.look_at_child(each)
        else:
            self.spawn(self._time_out(each))

    async def _time_out(self, each: OpenWait) -> None:
        """End an interrupt by its timeout once that is stored, unless an answer was stored before."""
        drive = self.drive
        if not drive.may_go_on or self.open.get(each.key) is not each:  # it was answered in the same pass of the loop
            return
        each.is_contested = True
        self._forget(each.key)
        n = drive.record(each.key, _timed(timed_out(drive, each.key), each.wait))
        while not drive.checkpoint.is_durable(each.key):
            await drive.checkpoint.commit()
        if self._close(each):
            each.future.set_result(n)

    def _answer_contested(self, each: OpenWait, payload: Any) -> None:
        before = self.drive.checkpoint.entry(each.key)
        entry = _timed(interrupt_entry(self.drive, each.type, payload), each.wait)
        entry.n = order_of(before) if before is not None else None
        self.drive.checkpoint.replace(each.key, entry)

    def _close(self, each: OpenWait) -> bool:
        """Take the wait from the open ones; return whether anybody still waits."""
        self._disarm(each)
        self.open.pop(each.key, None)
        self._forget(each.key)
        self.drive.moved()
        return not each.future.done()

    def _forget(self, key: str) -> None:
        if self.drive.image.record.waits.pop(key, None) is not None:
            self.drive.checkpoint.note_record(needed=False)

    def _disarm(self, each: OpenWait) -> None:
        if each.timer is not None:
            each.timer.cancel()
            each.timer = None


async def wait(
    called: Called,
    key: str,
    kind: WaitKind,
    *,
    until: Callable[[], int | None],
    type: Any = None,
    schema: Callable[[], str | None] = lambda: None,
    show: Callable[[], CacheEntry | None] = lambda: None,
) -> None:
    """Return when the interrupt or sleep has ended and its result is the next; what it is the drive knows."""
    await called.begin()
    drive = called.drive
    refuse_at_most_once(called, key)
    entry = drive.recorded(key, kind)
    if entry is not None:
        await drive.gate.pass_through(order_of(entry))
        return
    await may_go_on(drive)
    n: int | None
    if (shown := show()) is not None and drive.checkpoint.entry(f"{key}/show") is None:
        drive.checkpoint.note(f"{key}/show", shown)
    if key in drive.image.events:
        payload = drive.image.events[key]
        entry = interrupt_entry(drive, type, payload) if kind == "interrupt" else slept(drive)
        known = drive.image.record.waits.get(key)
        n = drive.record(key, entry if known is None else _timed(entry, known))
    else:
        n = await result_of(drive, drive.waits.begin(key, Wait(kind, until=until(), schema=schema()), type))
    await drive.gate.pass_through(n)


async def wait_until(drive: Drive, key: str, at: int) -> None:
    """Wait for another attempt of a step that is far off."""
    each = drive.waits.begin(key, Wait("retry", until=at))
    await result_of(drive, each)


async def result_of(drive: Drive, each: OpenWait) -> int | None:
    """Return the number of the wait's result when there is one."""
    try:
        return await each.future
    except asyncio.CancelledError:
        drive.waits.drop(each)
        raise


async def may_go_on(drive: Drive) -> None:
    """Return if operations may still begin; else never."""
    if not drive.may_go_on:
        await drive.park()


def refuse_at_most_once(called: Called, key: str) -> None:
    """Raise ValueError for a wait inside of a step that must not begin twice, which a wait would need."""
    if called.scope.at_most_once:
        raise ValueError(
            f"{key!r}: a step with at_most_once cannot wait, since it would have to begin again afterwards"
        )


def _timed(entry: CacheEntry, wait: Wait) -> CacheEntry:
    """Return the entry with the time at which the wait began."""
    return entry if wait.since is None else entry.model_copy(update={"startTime": wait.since})


def interrupt_entry(drive: Drive, type: Any, payload: Any) -> CacheEntry:
    """Return the entry of an answer: its payload, or the error that it does not fit the type."""
    try:
        drive.engine.values.read(payload, type)
    except ValidationError as error:
        message = f"the answer does not fit the type that the flow asks for: {fit_error(error)}"
        record = {"type": "InvalidPayloadError", "message": message}
        return error_entry(record, kind="interrupt", endTime=drive.engine.clock.now())
    return result_entry(payload, kind="interrupt", endTime=drive.engine.clock.now())


def timed_out(drive: Drive, key: str) -> CacheEntry:
    """Return the entry of an interrupt that nobody answered in time."""
    message = f"nobody answered the interrupt {key!r} of the run {drive.id!r} in time"
    record = {"type": "WaitTimeoutError", "message": message}
    return error_entry(record, kind="interrupt", endTime=drive.engine.clock.now())


def slept(drive: Drive) -> CacheEntry:
    """Return the entry of a sleep that is over."""
    return result_entry(None, kind="sleep", endTime=drive.engine.clock.now())
