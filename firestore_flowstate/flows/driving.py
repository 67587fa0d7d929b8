"""A drive: a claimed run, its function in this process, and what happens until the run waits, ends or is handed over.

What it is made of is elsewhere: `course` decides, `gate` has the order of results, `checkpoint` what is written,
`waiting` the open waits, `stepping` the steps in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import ValidationError

from firestore_flowstate import CacheEntry, FlowStateDecodeError, FlowStateEncodeError

from . import children
from .beginning import Attempts
from .budget import Budget
from .checkpoint import Checkpoint
from .course import Course, is_idle
from .ending import End, cancelled_end, refused_end
from .engine import LOG, Engine
from .entries import error_of, failed, is_of_genkit, kind_of, order_of, sum_of
from .errors import FlowCodeChangedError
from .final import DriveOutcome, Final
from .flow import Flow
from .gate import Gate
from .image import Image
from .keys import Scope
from .lease import Lease
from .run import Run
from .stepping import InFlight
from .values import fit_error
from .waiting import Waits


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
        closing: Why no operation may begin any more.
        end: How the run ends, once that is known.
        happened: Set when something has moved.
        is_dismissed: The function was cancelled with the run: its operations end in CancelledError.
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
        numbers = list(image.numbers())
        self.gate.expect(numbers)
        self.checkpoint = Checkpoint(engine, image, token, lease, self)
        self.waits = Waits(self, children.look)
        self.flights: dict[str, InFlight] = {}
        self.attempts = Attempts(self) if image.record.recoveries else None
        self.is_replaying = bool(image.cache)
        self.late_calls = 0
        self._next_number = max(numbers, default=0) + 1
        self._asked: set[str] = set()
        self._told: set[str] = set()  # the keys of failures that the function has been told of
        self._busy = 0
        self._parked: set[asyncio.Future[None]] = set()
        self.closing: Literal["ending", "cancelling", "handing over"] | None = None
        self.end: End | None = None
        self.happened = asyncio.Event()
        self.is_dismissed = False

    # What operations ask

    @property
    def is_over(self) -> bool:
        """Whether nothing is written any more."""
        return self.checkpoint.outcome is not None

    @property
    def may_go_on(self) -> bool:
        """Whether operations may begin."""
        return self.closing is None and not self.is_over and not self.budget.is_used

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
        recorded_kind = kind_of(entry)
        if recorded_kind == kind and sum is None:  # as nearly always
            return entry
        if is_of_genkit(entry):
            return entry
        if recorded_kind != kind:
            raise FlowCodeChangedError(
                _changed(self.id, key, f"of kind {recorded_kind}, not {kind}"), flow_id=self.id, step=key
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
            self._told.add(key)
            raise error
        try:
            return self.image.result(key, entry, kind, self.engine.values)
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

    def not_told(self, keys: Iterable[str]) -> None:
        """Note that these failures have reached no code of the function, as another one did in their place."""
        self._told.difference_update(keys)

    def untold(self, *, is_cut_short: bool) -> list[str]:
        """Return the keys of failures that the function asked for and was not told of, as it had ended before.

        Args:
            is_cut_short: The function has not ended by itself. So it may have been told in an earlier drive of what was
                recorded then.
        """
        known = self.image.loaded if is_cut_short else ()
        return [
            key
            for key, entry in self.checkpoint.entries().items()
            if failed(entry) and key in self._asked and key not in self._told and key not in known
        ]

    def is_parked(self, key: str) -> bool:
        """Return whether something inside of the step, or its next attempt, waits."""
        inside = f"{key}/"
        return any(open_key == key or open_key.startswith(inside) for open_key in self.waits.open)

    def begin_flight(self, key: str) -> InFlight:
        """Note that a step has no result yet."""
        flight = self.flights[key] = InFlight(key)
        return flight

    def end_flight(self, flight: InFlight) -> None:
        """Note that it has one, or was cancelled."""
        if flight.task is not None and not flight.task.cancelled() and (error := flight.task.exception()) is not None:
            LOG.error(
                "The step %r of the run %r ended by a fault of this package.", flight.key, self.id, exc_info=error
            )
        if self.flights.get(flight.key) is flight:
            del self.flights[flight.key]
        if self.closing is not None or self.waits.open or not self.gate.straight:
            self.moved()  # else it is the one task there is that goes on, and tells by itself what it does next

    @property
    def is_busy(self) -> bool:
        """Whether an operation is in the middle of something that is neither a step nor a wait."""
        return self._busy > 0

    def executing(self) -> list[str]:
        """Return the keys of the steps whose functions run and do not wait."""
        flights = self.flights.values()
        return [flight.key for flight in flights if flight.is_executing and not self.is_parked(flight.key)]

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
        if self.is_dismissed and not for_ever:
            raise asyncio.CancelledError
        future = self.loop.create_future()
        (self.engine.parked if for_ever else self._parked).add(future)
        await future

    def free(self) -> None:
        """Cancel all that waits for the drive to be closed."""
        for parked in self._parked:
            parked.cancel()

    def fail(self, error: FlowStateEncodeError, key: str | None = None) -> None:
        """End the run, since a result has no JSON form."""
        if self.end is None:
            self.end, self.closing = refused_end(key, error), "ending"
        self.moved()

    def moved(self) -> None:
        """Look again at what is to be done."""
        self.happened.set()

    # What the checkpoint tells

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Take answers that others have stored."""
        self.waits.answered(answers)
        self.moved()

    def cancelled(self, reason: str) -> None:
        """Let no operation begin, and end when the steps in flight have."""
        if self.closing != "ending" and self.end is None:
            self.closing, self.end = "cancelling", cancelled_end(reason)
        self.moved()

    def refused(self, key: str | None, error: FlowStateEncodeError) -> Callable[[], Final]:
        """End the run, since the store refuses a result."""
        end = self.end = refused_end(key, error)
        self.closing = "ending"
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
        self.loop.call_soon_threadsafe(self.begin_to_hand_over)

    def begin_to_hand_over(self) -> None:
        """Let no step begin from now on."""
        if self.closing is None:
            self.closing = "handing over"
        self.budget.use_up()
        self.moved()

    async def go(self) -> DriveOutcome:
        """Call the function, and return how the drive ended."""
        return await Course(self).go()

    @property
    def is_idle(self) -> bool:
        """Whether nothing can happen before the clock moves: for a simulation."""
        return is_idle(self)

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
