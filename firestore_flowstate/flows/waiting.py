"""Waits: interrupts, sleeps, children, and retries that are far off.

A wait is a future in the process and an entry of the record, so that the run can be suspended while it lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from firestore_flowstate import CacheEntry

from .calls import Called
from .clock import Timer
from .entries import error_entry, message_of, order_of, result_entry
from .json_round_trip import fit_error
from .record import Wait, WaitKind

if TYPE_CHECKING:
    from .driving import Drive


@dataclass
class OpenWait:
    """A wait of the function that goes on in this process.

    Attributes:
        key: The key of the wait.
        wait: What is stored of it.
        future: Gets the ``n`` of the result; of a retry: None.
        type: The type that the answer is read as.
        timer: The timer that ends the wait in this process.
        looking: How many loads of the child are under way, since the child has knocked or it is time to look.
        is_contested: Whether the time of an interrupt is up and that is not stored yet: an answer may still come first.
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
        look: Looks at the child of a wait, and ends the wait if the child has ended.
        open: The open waits, by key.
    """

    drive: Drive
    look: Callable[[Waits, OpenWait], Awaitable[None]]
    open: dict[str, OpenWait] = field(default_factory=dict)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _next_change: asyncio.Future[None] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a load or a write for a wait is under way."""
        return bool(self._tasks)

    def stored(self) -> dict[str, Wait]:
        """Return what is to be stored of the open waits, by key."""
        return {key: each.wait for key, each in self.open.items()}

    def begin(self, key: str, new: Wait, kind: Any = None) -> OpenWait:
        """Begin the wait `new`, or go on with the one that an earlier drive has stored under the key.

        Args:
            key: The key.
            new: What is stored of the wait if it begins now.
            kind: The type of the answer to an interrupt.
        """
        record = self.drive.image.record
        wait = record.waits.get(key)
        if wait is None or wait.kind != new.kind:
            new.since = self.drive.engine.clock.now()
            new.n = 1 + max((each.n for each in record.waits.values()), default=0)
            wait = record.waits[key] = new
            record.dropped_children.pop(key, None)
            if new.child is not None:
                record.earlier_children.pop(new.child, None)
            self.drive.checkpoint.note_record(needed=False)
        each = OpenWait(key, wait, self.drive.loop.create_future(), kind)
        self.open[key] = each
        self.arm(each)
        self.changed()
        return each

    def next_change(self) -> asyncio.Future[None]:
        """Return what is done when a wait begins or ends, or a queued step gets its thread.

        All who ask share it, so that nobody may cancel it.
        """
        if self._next_change is None:
            self._next_change = self.drive.loop.create_future()
        return self._next_change

    def changed(self) -> None:
        """Tell those who wait for the next change, and have the course look again at what is to be done."""
        if self._next_change is not None:
            self._next_change.set_result(None)
            self._next_change = None
        if not self.drive.is_over:
            self.drive.moved()

    def arm(self, each: OpenWait) -> None:
        """Have the wait end in this process when its time comes."""
        if each.timer is not None:
            each.timer.cancel()
        until = each.wait.until
        if until is not None:
            seconds = (until - self.drive.engine.clock.now()) / 1000
            each.timer = self.drive.engine.clock.call_later(seconds, lambda: self._on_time(each))

    def end(self, each: OpenWait, entry: CacheEntry) -> None:
        """Record how the wait ended, and have its result reach the function."""
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
        """Load the child, in a task, and end the wait if the child has ended."""
        each.looking += 1  # at once, not in the task: until then the run could be suspended, and the knock be lost
        self.spawn(self.look(self, each))

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run the coroutine in a task, which is cancelled when the drive ends."""
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel the futures and timers of all waits."""
        for each in list(self.open.values()):
            self._disarm(each)
            each.future.cancel()

    def close(self) -> None:
        """Cancel the futures and timers of all waits, and the loads and writes for them."""
        self.cancel()
        for task in list(self._tasks):
            task.cancel()

    def drop(self, each: OpenWait) -> None:
        """Forget a wait that was cancelled, by the function or with it.

        What the function has cancelled takes no answer any more. A child goes on, and is cancelled with this run.
        """
        self._disarm(each)
        if self.open.get(each.key) is each:
            del self.open[each.key]
            if self.drive.closing is None and not self.drive.is_over:
                if each.wait.child is not None:
                    self.drive.image.record.dropped_children[each.key] = each.wait.child
                self._forget(each.key)
            self.changed()
        if each.future.done() and not each.future.cancelled() and (n := each.future.result()) is not None:
            self.drive.gate.release(n)

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
        """End an interrupt by its timeout once that is stored, unless an answer was stored before it."""
        drive = self.drive
        if not drive.may_go_on or self.open.get(each.key) is not each:  # an answer came in the same pass of the loop
            return
        each.is_contested = True
        self._forget(each.key)
        n = drive.record(each.key, _timed(timed_out(drive, each.key), each.wait))
        while not drive.checkpoint.is_durable(each.key):
            await drive.checkpoint.commit()
        if self._close(each):
            each.future.set_result(n)
        else:
            drive.gate.release(n)

    def _answer_contested(self, each: OpenWait, payload: Any) -> None:
        before = self.drive.checkpoint.entry(each.key)
        entry = _timed(interrupt_entry(self.drive, each.type, payload), each.wait)
        entry.n = order_of(before) if before is not None else None
        self.drive.checkpoint.replace(each.key, entry)

    def _close(self, each: OpenWait) -> bool:
        """Take the wait from the open ones; return whether the function still waits for it."""
        self._disarm(each)
        self.open.pop(each.key, None)
        self._forget(each.key)
        self.changed()
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
    """Return when the interrupt or sleep has ended and its result is the next to reach the function.

    The caller reads the result from the drive, as on a replay.

    Args:
        called: The call.
        key: The key of the wait.
        kind: Whether it is an interrupt or a sleep.
        until: Returns when the wait ends by itself, in milliseconds since the epoch; None: it does not.
        type: The type of the answer.
        schema: Returns the JSON Schema of the answer, as text; None: any answer fits.
        show: Returns the entry of what people are shown; None: nothing is shown.
    """
    await called.begin()
    drive = called.drive
    forbid_at_most_once(called, key)
    entry = drive.recorded(key, kind)
    if entry is not None:
        await drive.gate.pass_through(order_of(entry))
        return
    await may_go_on(drive, key)
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
    """Wait until `at`, in milliseconds since the epoch, for another attempt of a step; the run may be suspended."""
    each = drive.waits.begin(key, Wait("retry", until=at))
    await result_of(drive, each)


async def result_of(drive: Drive, each: OpenWait) -> int | None:
    """Return the ``n`` of the wait's result when the wait has ended; None: it is a retry, which has no result."""
    try:
        return await each.future
    except asyncio.CancelledError:
        drive.waits.drop(each)
        raise


async def may_go_on(drive: Drive, key: str) -> None:
    """Return at once if the operation of the key may still begin; else wait until the drive is closed."""
    if not drive.may_go_on:
        await drive.park(key)


def forbid_at_most_once(called: Called, key: str) -> None:
    """Forbid a wait inside of a step with ``at_most_once``: after a wait the step would have to begin again.

    Raises:
        ValueError: The scope of the call is such a step.
    """
    if called.scope.at_most_once:
        raise ValueError(
            f"{key!r} is called inside of a step with at_most_once, which cannot wait, since it would have to begin "
            "again afterwards: call it outside of the step"
        )


def _timed(entry: CacheEntry, wait: Wait) -> CacheEntry:
    """Return the entry, with the time at which the wait began as its ``startTime``."""
    return entry if wait.since is None else entry.model_copy(update={"startTime": wait.since})


def interrupt_entry(drive: Drive, type: Any, payload: Any) -> CacheEntry:
    """Return the entry of an answer: with its payload, or with InvalidPayloadError if it does not fit the type."""
    try:
        drive.engine.values.read(payload, type)
    except Exception as error:  # noqa: BLE001  # a validator of the application may raise whatever it likes
        raised = f"{error.__class__.__name__}: {message_of(error)}"
        unfit = fit_error(error) if isinstance(error, ValidationError) else raised
        message = f"the answer does not fit the type that the flow asks for: {unfit}"
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
