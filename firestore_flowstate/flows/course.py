"""The course of a drive: it calls the function, and decides when the run is suspended, ends or is handed over.

`Course._decide` is the only place that does so. It is called again whenever something has happened in the drive.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from typing import Final as Constant

from .clock import Timer
from .context import HERE, Here
from .ending import End, function_end, time_is_up, warn_of_leftovers
from .engine import LOG
from .final import DriveOutcome, Final, handed_over, suspended
from .gate import PASSES
from .heartbeat import Heartbeat

if TYPE_CHECKING:
    from .driving import Drive

NEAR_MILLISECONDS: Constant = 5_000
"""A wait that ends within this time is waited for in the process: to suspend the run costs a write and a wake-up."""
_FAREWELL_SECONDS: Constant = 1.0
"""How long a function that was cancelled is awaited, for what it does in `finally`."""
_LAST_PASSES: Constant = 3 * PASSES
"""Passes of the loop before a run is handed over: those until a result reaches the function, and as many after it."""


class Course:
    """Calls the function of a drive, and goes on until the drive is over.

    Args:
        drive: The drive.

    Attributes:
        function: The task of the function.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self.function: asyncio.Task[Any] = drive.loop.create_task(self._call())
        self.function.add_done_callback(lambda _: drive.moved())
        self._timers: list[Timer] = []
        self._look: asyncio.TimerHandle | None = None
        self._has_warned = False

    async def go(self) -> DriveOutcome:
        """Go on until the drive is over; return how the drive ended."""
        drive = self._drive
        heartbeat = Heartbeat(drive)
        try:
            heartbeat.start()
            self._arm()
            while not drive.is_over:
                drive.happened.clear()
                if not await self._decide():
                    await drive.happened.wait()
        finally:
            heartbeat.stop()
            drive.checkpoint.abandon()
            await self._close()
        assert drive.checkpoint.outcome is not None  # noqa: S101  # it is over
        return drive.checkpoint.outcome

    async def _call(self) -> Any:
        drive = self._drive
        drive.scope.task = asyncio.current_task()
        HERE.set(Here(drive.run, drive.scope, None))
        values, image = drive.engine.values, drive.image
        input = drive.flow.read_input(image.input, values, is_there=image.has_input, id=drive.id)
        drive.flow.prepare(values)
        return await drive.flow.call(drive.run, input)

    def _arm(self) -> None:
        """Set the timers that end the drive: one for its budget, one for the timeout of its flow."""
        drive = self._drive
        clock, deadline = drive.engine.clock, drive.image.record.deadline
        if (left := drive.budget.left) is not None:
            self._timers.append(clock.call_later(left, drive.begin_to_hand_over))
        if deadline is not None:
            seconds = (deadline - clock.now()) / 1000
            self._timers.append(clock.call_later(seconds, lambda: drive.cancelled(time_is_up())))

    async def _decide(self) -> bool:
        """Do what is to be done now; return whether to decide again at once."""
        drive = self._drive
        if self.function.done() and drive.end is None:
            drive.closing, drive.end = "ending", function_end(drive, self.function)
        if drive.closing is not None and (executing := drive.executing()):
            return await self._await_steps(executing)
        if drive.end is not None:
            return await self._finish(drive.end)
        if drive.closing == "handing over":
            return await self._release()
        if self._may_suspend():
            return await self._suspend()
        return False

    async def _await_steps(self, executing: list[str]) -> bool:
        """Await the steps in flight; if the budget is over before they end, let the lease end."""
        drive = self._drive
        if drive.closing == "ending":
            self._has_warned = self._has_warned or warn_of_leftovers(drive, executing)
        if not drive.budget.is_over:
            if (margin := drive.budget.margin_left) is not None:
                self._look_again_in(margin)
            return False
        LOG.warning(
            "The run %r is left to its lease, since these steps still run at the end of the budget: %s. Another "
            "process takes it over when the lease has ended.",
            drive.id,
            ", ".join(executing),
        )
        await drive.checkpoint.save()
        drive.checkpoint.abandon()
        return True

    async def _finish(self, end: End) -> bool:
        drive = self._drive
        if drive.closing == "cancelling":
            await self._dismiss()

        def final() -> Final:
            ending = drive.end or end
            if ending.how != "done":
                untold = drive.untold(is_cut_short=ending.how == "cancelled")
                ending = replace(ending, failed_by=[*dict.fromkeys([*ending.failed_by, *untold])])
            return ending.final(drive.image, drive.token, now=drive.engine.clock.now())

        return await drive.checkpoint.finish(final)

    async def _dismiss(self) -> None:
        """Cancel the function, and await it for a moment: what it does in `finally` belongs to the run."""
        self._drive.is_dismissed = True
        for flight in list(self._drive.flights.values()):  # before what is inside of them, which would make them fail
            flight.cancel()
        self._drive.waits.cancel()
        self._drive.free()
        if not self.function.done():
            self.function.cancel()
            await asyncio.wait([self.function], timeout=_FAREWELL_SECONDS)

    async def _release(self) -> bool:
        """Hand the run over, unless its function ends with the result that it has just got."""
        drive = self._drive
        for _ in range(_LAST_PASSES):
            if self.function.done() or drive.end is not None or drive.executing():
                return True
            await asyncio.sleep(0)
        fruitless = drive.checkpoint.results == 0 and not drive.checkpoint.has_results

        def final() -> Final | None:
            if drive.end is not None:
                return None
            return handed_over(drive.image, drive.token, now=drive.engine.clock.now(), fruitless=fruitless)

        return await drive.checkpoint.finish(final)

    def _may_suspend(self) -> bool:
        """Return whether nothing goes on but waits that do not end soon, and has not for long enough."""
        drive = self._drive
        if not only_waits(drive):
            return False
        if not drive.gate.straight:
            quiet = drive.engine.clock.quiet - (drive.loop.time() - drive.gate.active_at)
            if quiet > 0:
                self._look_again_in(quiet)
                return False
        return True

    async def _suspend(self) -> bool:
        drive = self._drive
        for _ in range(PASSES):
            before = drive.gate.active_at
            await asyncio.sleep(0)
            if drive.gate.active_at != before or not only_waits(drive):
                return True

        def final() -> Final | None:
            if self.function.done() or not only_waits(drive):
                return None
            return suspended(drive.image, drive.token, drive.waits.stored())

        return await drive.checkpoint.finish(final) or not only_waits(drive)

    def _look_again_in(self, seconds: float) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self._drive.loop.call_later(seconds + 0.001, self._drive.moved)

    async def _close(self) -> None:
        """Cancel all that goes on, and await the function and the steps for a moment."""
        drive = self._drive
        for timer in (*self._timers, *([self._look] if self._look is not None else [])):
            timer.cancel()
        drive.waits.close()
        tasks = [flight.task for flight in drive.flights.values() if flight.task is not None]
        for flight in list(drive.flights.values()):
            flight.cancel()
        drive.gate.close()
        drive.free()
        self.function.cancel()
        tasks = [task for task in (*tasks, self.function) if not task.done()]
        for task in tasks:
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_FAREWELL_SECONDS)
            self._leave(left)

    def _leave(self, tasks: set[asyncio.Task[Any]]) -> None:
        """Warn of tasks that swallow CancelledError, and keep them from being collected."""
        drive = self._drive
        for task in tasks:
            drive.engine.leftovers.add(task)
            task.add_done_callback(drive.engine.leftovers.discard)
        if tasks:
            LOG.warning(
                "The drive of the run %r is over, and its function or a step goes on though it was cancelled: let "
                "CancelledError pass.",
                drive.id,
            )


def only_waits(drive: Drive) -> bool:
    """Return whether nothing goes on in the drive but waits, none of which ends within 5 s."""
    if not drive.waits.open or drive.is_busy or not drive.gate.is_open or drive.closing is not None:
        return False
    if any(not drive.is_parked(key) for key in drive.flights):
        return False
    open_waits = drive.waits.open.values()
    if any(each.looking for each in open_waits):
        return False
    ends = [each.wait.until for each in open_waits if each.wait.until is not None]
    soon = drive.engine.clock.now() + NEAR_MILLISECONDS
    return all(end > soon for end in (*ends, drive.image.record.deadline or soon + 1))


def is_idle(drive: Drive) -> bool:
    """Return whether nothing can happen in the drive before the clock moves: for a simulation."""
    if drive.is_over or drive.closing or drive.is_busy or not drive.gate.is_open:
        return False
    if drive.checkpoint.is_busy or drive.waits.is_busy:
        return False
    flights = drive.flights.values()
    if any(not flight.is_pausing and not drive.is_parked(flight.key) for flight in flights):
        return False
    return bool(drive.waits.open or flights) and not only_waits(drive)
