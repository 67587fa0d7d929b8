"""A drive: a claimed run, its function in this process, and what happens until the run waits, ends or is handed over.

The drive decides; what it decides by is elsewhere: `gate` has the order of results, `checkpoint` what is written,
`waiting` the open waits, `stepping` the steps in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from typing import Final as Constant

from pydantic import ValidationError

from firestore_flowstate import CacheEntry, FlowStateDecodeError, FlowStateEncodeError

from .beginning import Attempts
from .budget import Budget
from .checkpoint import Checkpoint
from .clock import Timer
from .context import HERE, Here
from .ending import End, cancelled_end, function_end, refused_end, time_is_up, warn_of_leftovers
from .engine import LOG, Engine
from .entries import error_of, is_of_genkit, kind_of, order_of, sum_of, value_of
from .errors import FlowCodeChangedError
from .final import DriveOutcome, Final, handed_over, suspended
from .flow import Flow
from .gate import PASSES, Gate
from .heartbeat import Heartbeat
from .image import Image
from .keys import Scope
from .lease import Lease
from .run import Run
from .stepping import InFlight
from .values import fit_error
from .waiting import Waits

NEAR_MILLISECONDS: Constant = 5_000
"""A wait that ends this soon is waited for in the process."""
_FAREWELL_SECONDS: Constant = 1.0


class Drive:
    """A claimed run in this process.

    Args:
        engine: What all drives share.
        flow: The flow.
        image: The run as it was claimed.
        token: The owner.
        lease: Until when.
        budget: How long the drive may go on.

    Attributes:
        run: What the function sees.
        scope: Where the function's keys are counted.
        is_replaying: Every operation so far had a result.
        flights: The steps without a result, by key.
        late_calls: How often the function has used the run since the drive was over.
    """

    def __init__(
        self, engine: Engine, flow: Flow[Any, Any], image: Image, token: str, lease: Lease, budget: Budget
    ) -> None:
        self.engine = engine
        self.flow = flow
        self.image = image
        self.id = image.id
        self.token = token
        self.lease = lease
        self.budget = budget
        self.loop = asyncio.get_running_loop()
        self.run = Run(self)
        self.scope = Scope("")
        self.gate = Gate(self.loop, self.moved)
        self.gate.expect(image.numbers())
        self.checkpoint = Checkpoint(engine, image, token, lease, self)
        self.waits = Waits(self)
        self.flights: dict[str, InFlight] = {}
        self.attempts = Attempts(self) if image.record.recoveries else None
        self.is_replaying = bool(image.cache)
        self.late_calls = 0
        self._next_number = max(image.numbers(), default=0) + 1
        self._asked: set[str] = set()
        self._busy = 0
        self._parked: set[asyncio.Future[None]] = set()
        self._has_warned = False
        self._closing: Literal["ending", "cancelling", "handing over"] | None = None
        self._end: End | None = None
        self._happened = asyncio.Event()
        self._function: asyncio.Task[Any] | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._timers: list[Timer] = []

    # What operations ask

    @property
    def is_over(self) -> bool:
        """Whether nothing is written any more."""
        return self.checkpoint.outcome is not None

    @property
    def may_go_on(self) -> bool:
        """Whether operations may begin."""
        return self._closing is None and not self.is_over and not self.budget.is_used

    def fits(self, seconds: float) -> bool:
        """Return whether a pause of so many seconds ends before the budget does."""
        return self.budget.fits(seconds)

    def recorded(self, key: str, kind: str, sum: int | None = None) -> CacheEntry | None:
        """Return what is recorded under the key, or None, which ends the replay.

        Raises:
            FlowCodeChangedError: It is of another kind, or of other arguments.
        """
        self._asked.add(key)
        entry = self.checkpoint.entry(key)
        if entry is None:
            self.is_replaying = False
            return None
        if is_of_genkit(entry):
            return entry
        if kind_of(entry) != kind:
            raise FlowCodeChangedError(
                _changed(self.id, key, f"of kind {kind_of(entry)}, not {kind}"), flow_id=self.id, step=key
            )
        if sum is not None and sum_of(entry) is not None and sum_of(entry) != sum:
            raise FlowCodeChangedError(_changed(self.id, key, "of other arguments"), flow_id=self.id, step=key)
        return entry

    def record(self, key: str, entry: CacheEntry) -> int:
        """Have the result recorded as the next one; return its number."""
        n, self._next_number = self._next_number, self._next_number + 1
        entry.n = n
        record = self.image.record
        had_wait, had_retries = record.waits.pop(key, None), record.retries.pop(key, None)
        if had_wait is not None or had_retries is not None or key in record.intents:
            record.intents = [each for each in record.intents if each != key]
            self.checkpoint.note_record(needed=False)
        self.gate.hold(n)
        self.checkpoint.note(key, entry)
        return n

    def result(self, key: str, kind: Any) -> Any:
        """Return what is recorded under the key as the type, or raise what failed."""
        entry = self.checkpoint.entry(key)
        assert entry is not None, key  # noqa: S101  # it was recorded
        error = error_of(entry, flow_id=self.id, key=key)
        if error is not None:
            raise error
        try:
            return self.engine.values.read(value_of(entry), kind)
        except ValidationError as unfit:
            raise FlowStateDecodeError(
                f"The result of {key!r} of the run {self.id!r} does not fit {kind!r}: {fit_error(unfit)}",
                flow_id=self.id,
            ) from unfit

    def reopen(self, key: str) -> None:
        """Let what is recorded inside of the step through once more, in its order."""
        inside = f"{key}/"
        self.gate.expect(
            n
            for name in {*self.image.cache, *self._asked}
            if name.startswith(inside)
            and (entry := self.checkpoint.entry(name)) is not None
            and (n := order_of(entry)) is not None
        )

    def is_parked(self, key: str) -> bool:
        """Return whether something inside of the step, or its next attempt, waits."""
        inside = f"{key}/"
        return any(open_key == key or open_key.startswith(inside) for open_key in self.waits.open)

    def take_off(self, key: str) -> InFlight:
        """Note that a step has no result yet."""
        flight = self.flights[key] = InFlight(key)
        return flight

    def land(self, flight: InFlight) -> None:
        """Note that it has one, or was cancelled."""
        if flight.task is not None and not flight.task.cancelled() and (error := flight.task.exception()) is not None:
            LOG.error(
                "The step %r of the run %r ended by a fault of this package.", flight.key, self.id, exc_info=error
            )
        if self.flights.get(flight.key) is flight:
            del self.flights[flight.key]
        self.moved()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Do not suspend within this context."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.moved()

    async def park(self, *, for_ever: bool = False) -> None:
        """Wait until the drive is closed, which cancels this; or for ever."""
        future = self.loop.create_future()
        (self.engine.parked if for_ever else self._parked).add(future)
        await future

    def fail(self, error: FlowStateEncodeError, key: str | None = None) -> None:
        """End the run, since a result has no JSON form."""
        if self._end is None:
            self._end, self._closing = refused_end(key, error), "ending"
        self.moved()

    def moved(self) -> None:
        """Look again at what is to be done."""
        self._happened.set()

    # What the checkpoint tells

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Take answers that others have stored."""
        self.waits.answered(answers)
        self.moved()

    def cancelled(self, reason: str) -> None:
        """Let no operation begin, and end when the steps in flight have."""
        if self._closing != "ending" and self._end is None:
            self._closing, self._end = "cancelling", cancelled_end(reason)
        self.moved()

    def refused(self, key: str | None, error: FlowStateEncodeError) -> Callable[[], Final]:
        """End the run, since the store refuses a result."""
        end = self._end = refused_end(key, error)
        self._closing = "ending"
        return lambda: end.final(self.image, self.token, now=self.engine.clock.now())

    def over(self) -> None:
        """Stop: nothing is written any more."""
        self.moved()

    # What others in this process tell

    def poke(self) -> None:
        """Look at what is stored: somebody has written to the run. May be called from any thread."""
        self.loop.call_soon_threadsafe(lambda: self.waits.spawn(self.checkpoint.look()) if not self.is_over else None)

    def hand_over(self) -> None:
        """Let no step begin, and release the run for another process. May be called from any thread."""
        self.loop.call_soon_threadsafe(self._begin_to_hand_over)

    def _begin_to_hand_over(self) -> None:
        if self._closing is None:
            self._closing = "handing over"
        self.budget.use_up()
        self.moved()

    # The drive

    async def go(self) -> DriveOutcome:
        """Call the function, and return how the drive ended."""
        self._function = asyncio.ensure_future(self._call())
        self._function.add_done_callback(lambda _: self.moved())
        heartbeat = Heartbeat(self)
        try:
            heartbeat.start()
            self._arm()
            while not self.is_over:
                self._happened.clear()
                if not await self._decide():
                    await self._happened.wait()
        finally:
            heartbeat.stop()
            self.checkpoint.abandon()
            await self._close()
        assert self.checkpoint.outcome is not None  # noqa: S101  # it is over
        return self.checkpoint.outcome

    async def _call(self) -> Any:
        self.scope.task = asyncio.current_task()
        HERE.set(Here(self.run, self.scope, None))
        input = self.flow.read_input(self.image.input, self.engine.values, is_there=self.image.has_input, id=self.id)
        self.flow.prepare(self.engine.values)
        return await self.flow.call(self.run, input)

    def _arm(self) -> None:
        """Have the drive end in time: by the budget, and by the run's own timeout."""
        clock, deadline = self.engine.clock, self.image.record.deadline
        if (left := self.budget.left) is not None:
            self._timers.append(clock.call_later(left, self._begin_to_hand_over))
        if deadline is not None:
            seconds = (deadline - clock.now()) / 1000
            self._timers.append(clock.call_later(seconds, lambda: self.cancelled(time_is_up())))

    async def _decide(self) -> bool:
        """Do what is to be done now; return whether there may be more at once."""
        function = self._function
        assert function is not None  # noqa: S101  # it was started
        if function.done() and self._end is None:
            self._closing, self._end = "ending", function_end(self, function)
        executing = [
            flight.key for flight in self.flights.values() if flight.is_executing and not self.is_parked(flight.key)
        ]
        if self._end is not None and not executing:
            return await self._finish(self._end)
        if self._closing == "ending":
            self._has_warned = self._has_warned or warn_of_leftovers(self, executing)
        elif self._closing == "handing over":
            return await self._release(executing)
        elif self._may_suspend():
            return await self._suspend()
        return False

    async def _finish(self, end: End) -> bool:
        def final() -> Final:
            return (self._end or end).final(self.image, self.token, now=self.engine.clock.now())

        return await self.checkpoint.finish(final)

    async def _release(self, executing: list[str]) -> bool:
        if executing and not self.budget.is_over:
            if (margin := self.budget.margin_left) is not None:
                self._look_again_in(margin)
            return False
        if executing:
            LOG.warning("The run %r is left to its lease: %s still run.", self.id, ", ".join(executing))
            await self.checkpoint.finish(lambda: None)
            self.checkpoint.abandon()
            return True
        fruitless = self.checkpoint.results == 0 and not self.checkpoint.has_results
        return await self.checkpoint.finish(
            lambda: (
                handed_over(self.image, self.token, now=self.engine.clock.now(), fruitless=fruitless)
                if self._end is None
                else None
            )
        )

    def _may_suspend(self) -> bool:
        """Whether nothing goes on but waits that are not about to end."""
        if not self._only_waits():
            return False
        if not self.gate.straight:
            quiet = self.engine.clock.quiet - (self.loop.time() - self.gate.active_at)
            if quiet > 0:
                self._look_again_in(quiet)
                return False
        return True

    def _only_waits(self) -> bool:
        if not self.waits.open or self._busy or not self.gate.is_open or self._closing is not None:
            return False
        if any(not self.is_parked(key) for key in self.flights):
            return False
        if any(each.is_looked_at for each in self.waits.open.values()):
            return False
        ends = [each.wait.until for each in self.waits.open.values() if each.wait.until is not None]
        soon = self.engine.clock.now() + NEAR_MILLISECONDS
        return all(end > soon for end in (*ends, self.image.record.deadline or soon + 1))

    async def _suspend(self) -> bool:
        for _ in range(PASSES):
            before = self.gate.active_at
            await asyncio.sleep(0)
            if self.gate.active_at != before or not self._only_waits():
                return True
        function = self._function

        def final() -> Final | None:
            if function is None or function.done() or not self._only_waits():
                return None
            return suspended(self.image, self.token, self.waits.stored())

        return await self.checkpoint.finish(final) or not self._only_waits()

    def _look_again_in(self, seconds: float) -> None:
        if self._quiet_timer is not None:
            self._quiet_timer.cancel()
        self._quiet_timer = self.loop.call_later(seconds + 0.001, self.moved)

    async def _close(self) -> None:
        """Cancel all that goes on, and give the function a moment to end."""
        for timer in (*self._timers, *([self._quiet_timer] if self._quiet_timer is not None else [])):
            timer.cancel()
        self.waits.close()
        tasks = [flight.task for flight in self.flights.values() if flight.task is not None]
        for flight in list(self.flights.values()):
            flight.cancel()
        self.gate.close()
        for parked in self._parked:
            parked.cancel()
        if self._function is not None:
            tasks.append(self._function)
            self._function.cancel()
        tasks = [task for task in tasks if not task.done()]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_FAREWELL_SECONDS)
            for task in left:
                self.engine.leftovers.add(task)
                task.add_done_callback(self.engine.leftovers.discard)
                LOG.warning(
                    "The run %r is over in this process, and its function or a step goes on after CancelledError.",
                    self.id,
                )
        for task in tasks:
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    @property
    def is_idle(self) -> bool:
        """Whether nothing can happen before the clock moves: for a simulation."""
        if self.is_over or self._closing or self._busy or not self.gate.is_open:
            return False
        if self.checkpoint.is_busy or self.waits.is_busy:
            return False
        flights = self.flights.values()
        if any(not flight.is_pausing and not self.is_parked(flight.key) for flight in flights):
            return False
        return bool(self.waits.open or flights) and not self._only_waits()

    def unasked(self) -> tuple[list[str], list[str]]:
        """Return the recorded results and the answers that the function never asked for."""
        steps = [
            key
            for key, entry in self.image.cache.items()
            if key not in self._asked and kind_of(entry) != "show" and not self._asked_with_parts(key)
        ]
        answers = [key for key in self.image.events if key not in self._asked and not self._asked_with_parts(key)]
        return steps, answers

    def _asked_with_parts(self, key: str) -> list[str]:
        parts = key.split("/")
        return [outer for count in range(1, len(parts)) if (outer := "/".join(parts[:count])) in self._asked]


def _changed(id: str, key: str, how: str) -> str:
    return (
        f"The run {id!r} has a result of {key!r} that is {how}. The code has changed, or branches call steps of one "
        "name: give the step a new name, or go back by retry(from_step=...)."
    )
