"""A drive: a claimed run and its function in this process, until the run is suspended, ends or is handed over.

The parts of a drive are in modules of their own: `course` decides what happens, `gate` orders the results,
`checkpoint` writes, `waiting` has the open waits, and `stepping` the steps in flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import ValidationError

from firestore_flowstate import CacheEntry, FlowStateDecodeError, FlowStateEncodeError, FlowStateTooLargeError

from . import children
from .beginning import Announcement
from .budget import Budget
from .checkpoint import Checkpoint
from .course import Course, is_idle
from .ending import End, cancelled_end, unstorable_end
from .engine import LOG, Engine
from .entries import child_of, error_of, failed, is_of_genkit, kind_of, order_of, sum_of
from .errors import FlowCodeChangedError
from .final import DriveOutcome, Final
from .flow import Flow
from .gate import Gate
from .image import Image
from .json_round_trip import fit_error
from .keys import Scope
from .lease import Lease
from .other_loops import call_on
from .run import Run
from .stepping import InFlight
from .waiting import Waits


class Drive:
    """A claimed run in this process.

    Args:
        engine: What all drives share.
        flow: The flow.
        image: The run as it was claimed.
        token: The token of this drive, which is the run's owner.
        lease: Until when the claim holds.
        budget: How long the drive may go on.

    Attributes:
        run: What the function sees of the run.
        scope: The scope of the function's own keys.
        is_replaying: Whether an earlier drive has come this far: every operation so far had a recorded result.
        flights: The steps in flight, which have no result yet, by key.
        closing: Why no operation may begin any more; None: operations may begin.
        end: How the run ends, when that is known; None before.
        happened: Set when the course has to look again at what is to be done.
        is_dismissed: Whether the function was cancelled with the run, so that its operations end in CancelledError.
        is_leaving: Whether this process is not to go on with the run after this drive, since its flows were closed.
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
        self.gate = Gate(self.loop, self.moved, id=image.id)
        numbers = list(image.numbers())
        self.gate.expect(numbers)
        self.checkpoint = Checkpoint(engine, image, token, lease, self)
        self.waits = Waits(self, children.look)
        self.flights: dict[str, InFlight] = {}
        self.announcement = Announcement(self) if image.record.recoveries else None
        # What stands there without a result shows as well that an earlier drive has come to an operation.
        self.is_replaying = bool(image.cache or image.record.waits or image.record.retries or image.record.intents)
        self.late_calls = 0
        self._next_number = max(numbers, default=0) + 1
        self._asked: set[str] = set()
        self._told: set[str] = set()  # the keys of failures that the function has been told of
        self._busy: set[str] = set()
        self._parked: set[asyncio.Future[None]] = set()
        self._stopped: set[str] = set()
        self.closing: Literal["ending", "cancelling", "handing over"] | None = None
        self.end: End | None = None
        self.happened = asyncio.Event()
        self.is_dismissed = False
        self.is_leaving = False

    # What operations ask

    @property
    def is_over(self) -> bool:
        """Whether the drive is over, so that nothing is written any more."""
        return self.checkpoint.outcome is not None

    @property
    def may_go_on(self) -> bool:
        """Whether operations may begin."""
        return self.closing is None and not self.is_over and not self.budget.is_used

    def fits(self, seconds: float) -> bool:
        """Return whether steps may still begin after a pause of so many seconds."""
        return self.budget.fits(seconds)

    def recorded(self, key: str, kind: str, sum: int | None = None) -> CacheEntry | None:
        """Return the entry that is recorded under the key, or None, which ends the replay.

        Args:
            key: The key.
            kind: The kind of operation that asks, as `Kind` of entries.
            sum: The CRC-32 of the arguments of a step; None: they are not compared.

        Raises:
            FlowCodeChangedError: What is recorded is of another kind, or of other arguments.
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
        """Have the entry recorded under the key as the next result; return its ``n``."""
        n, self._next_number = self._next_number, self._next_number + 1
        entry.n = n
        record = self.image.record
        had_wait, had_retries = record.waits.pop(key, None), record.retries.pop(key, None)
        was_dropped = record.dropped_children.pop(key, None)
        was_there = record.earlier_children.pop(child_of(entry) or "", None)
        if (had_wait, had_retries, was_dropped, was_there) != (None, None, None, None) or key in record.intents:
            record.intents = [each for each in record.intents if each != key]
            self.checkpoint.note_record(needed=False)
        self.gate.hold(n)
        self.checkpoint.note(key, entry)
        return n

    def result(self, key: str, kind: Any) -> Any:
        """Return what is recorded under the key, validated as the type.

        Raises:
            FlowStateError: An error is recorded; it is built from the record.
            FlowStateDecodeError: The result does not fit the type.
        """
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
        """Let the results that are recorded inside of the step through once more, for another attempt of the step."""
        inside = f"{key}/"
        self.gate.expect(
            n
            for name in {*self.image.cache, *self._asked}
            if name.startswith(inside)
            and (entry := self.checkpoint.entry(name)) is not None
            and (n := order_of(entry)) is not None
        )

    def not_told(self, keys: Iterable[str]) -> None:
        """Note that these failures have not reached the function: another failure was raised in their place."""
        self._told.difference_update(keys)

    def untold(self, *, is_cut_short: bool) -> list[str]:
        """Return the keys of failures that the function has called for, and had not seen when it ended.

        Args:
            is_cut_short: Whether the function was cancelled. Then failures that an earlier drive has recorded do not
                count, since the function may have seen them in that drive.
        """
        known = self.image.loaded if is_cut_short else ()
        return [
            key
            for key, entry in self.checkpoint.entries().items()
            if failed(entry) and key in self._asked and key not in self._told and key not in known
        ]

    def is_parked(self, key: str) -> bool:
        """Return whether a wait inside of the step, or one for its next attempt, is open."""
        inside = f"{key}/"
        return any(open_key == key or open_key.startswith(inside) for open_key in self.waits.open)

    def rests(self, key: str) -> bool:
        """Return whether the step waits: itself, or inside of it something waits, is queued, or may not begin."""
        inside = f"{key}/"
        return (
            self.is_parked(key)
            or any(stopped.startswith(inside) for stopped in self._stopped)
            or any(flight.is_queued and flight.key.startswith(inside) for flight in self.flights.values())
        )

    def begin_flight(self, key: str) -> InFlight:
        """Note that a step is in flight: it has no result yet."""
        flight = self.flights[key] = InFlight(key)
        return flight

    def end_flight(self, flight: InFlight) -> None:
        """Note that a step is not in flight any more: it has a result, or was cancelled."""
        if flight.task is not None and not flight.task.cancelled() and (error := flight.task.exception()) is not None:
            LOG.error(
                "The step %r of the run %r ended by a fault of firestore-flowstate: please report it.",
                flight.key,
                self.id,
                exc_info=error,
            )
        if self.flights.get(flight.key) is flight:
            del self.flights[flight.key]
        if self.closing is not None or self.waits.open or not self.gate.straight:
            self.moved()  # otherwise there is one task, which goes on by itself, and nothing is to be decided

    @property
    def is_busy(self) -> bool:
        """Whether an operation does something that is neither a step nor a wait, as creating a child."""
        return bool(self._busy)

    def executing(self) -> list[str]:
        """Return the keys of what has begun and is to end before the drive does.

        These are the steps whose functions run, and the children that are being created. A step that cannot end is
        left out: one that rests, or has a step inside that pauses before an attempt which may not begin any more.
        """
        steps = [flight.key for flight in self.flights.values() if flight.is_executing and self._may_end(flight.key)]
        return [*steps, *(self._busy - self._stopped)]

    def _may_end(self, key: str) -> bool:
        inside = f"{key}/"
        pauses = any(flight.is_pausing and flight.key.startswith(inside) for flight in self.flights.values())
        return not pauses and not self.rests(key)

    @contextmanager
    def busy(self, key: str) -> Iterator[None]:
        """Keep the run from being suspended within this context, in which the operation of the key is under way."""
        self._busy.add(key)
        try:
            yield
        finally:
            self._busy.discard(key)
            self.moved()

    async def park(self, key: str | None = None) -> None:
        """Wait until the drive is closed, which cancels this.

        Args:
            key: The key of the operation that may not begin; None: the caller is inside of no step.
        """
        if self.is_dismissed:
            raise asyncio.CancelledError
        future = self.loop.create_future()
        self._parked.add(future)
        if key is not None:
            self._stopped.add(key)
            self.waits.changed()  # for timeouts of steps around this one, which do not count meanwhile
        try:
            await future
        finally:
            self._parked.discard(future)
            if key is not None:
                self._stopped.discard(key)
                self.waits.changed()

    async def park_for_ever(self) -> None:
        """Wait, also when the drive is closed."""
        future = self.loop.create_future()
        self.engine.parked.add(future)
        await future

    def free(self) -> None:
        """Cancel all tasks that wait in `park`."""
        for parked in list(self._parked):
            parked.cancel()

    def fail(self, error: FlowStateEncodeError, key: str | None = None) -> None:
        """Have the run end as failed, since the result of the key has no JSON form."""
        if self.end is None:
            self.end, self.closing = unstorable_end(key, error), "ending"
        self.moved()

    def moved(self) -> None:
        """Have the course look again at what is to be done."""
        self.happened.set()

    # What the checkpoint tells

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Take answers that others have stored."""
        self.waits.answered(answers)
        self.moved()

    def cancelled(self, reason: str) -> None:
        """Let no operation begin, and have the run end when the steps in flight have ended."""
        if self.closing != "ending" and self.end is None:
            self.closing, self.end = "cancelling", cancelled_end(reason)
        self.moved()

    def unstorable(self, key: str | None, error: FlowStateEncodeError) -> Callable[[], Final]:
        """Have the run end as failed, since a result cannot be stored; return what gives its last write."""
        end = self.end = unstorable_end(key, error)
        self.closing = "ending"
        if key is None:  # what cannot be stored may be the key of a step, which the record has in these too
            record = self.image.record
            record.retries, record.intents = {}, []
            if isinstance(error, FlowStateTooLargeError):
                record.waits, record.dropped_children, record.earlier_children = {}, {}, {}
        return lambda: end.final(self.image, self.token, now=self.engine.clock.now())

    def over(self) -> None:
        """Have the course stop: nothing is written any more."""
        self.moved()

    # What others in this process tell

    def poke(self) -> None:
        """Load the run, since somebody in this process has written to it. Any thread may call this."""

        def look() -> None:
            if not self.is_over:
                self.waits.spawn(self.checkpoint.look())

        if not call_on(self.loop, look):
            self.engine.forget(self)

    def hand_over(self) -> None:
        """Let no step begin, and hand the run over to another process. Any thread may call this."""
        if not call_on(self.loop, self._call_off):
            self.engine.forget(self)

    def leave(self) -> None:
        """Hand the run over, and have nothing more done for it in this process. Any thread may call this."""
        self.is_leaving = True
        self.hand_over()

    def begin_to_hand_over(self) -> None:
        """Let no step begin from now on, and hand the run over when those in flight have ended."""
        if self.closing is None:
            self.closing = "handing over"
        self.moved()

    def _call_off(self) -> None:
        self.budget.use_up()
        self.begin_to_hand_over()

    async def go(self) -> DriveOutcome:
        """Call the function, and go on until the drive is over; return how it ended."""
        return await Course(self).go()

    @property
    def is_idle(self) -> bool:
        """Whether nothing can happen before the clock moves: for a simulation."""
        return is_idle(self)

    def unasked(self) -> tuple[list[str], list[str]]:
        """Return the keys of the recorded results, and of the answers, that the function never asked for."""
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
        f"The run {id!r} has a result of {key!r} that is {how}. The code has changed, or branches call steps of the "
        "same name: give the step a new name, or run it again by retry(from_step=...)."
    )
