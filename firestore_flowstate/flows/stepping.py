"""A step: its attempts, its pauses, and what is recorded of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from firestore_flowstate import CacheEntry, FlowStateEncodeError, Unset
from firestore_flowstate.errors import shown

from .annotations import is_async
from .beginning import begin_intent, may_begin, withdraw_intent
from .calls import Called
from .carrying import carried
from .context import HERE, Here, Step
from .engine import LOG
from .entries import attempts_in_words, error_entry, error_record, failed, message_of, order_of, result_entry
from .json_round_trip import ANYTHING, fit_error
from .keys import Scope
from .step_options import StepOptions
from .step_threads import Place
from .waiting import wait_until

if TYPE_CHECKING:
    from .driving import Drive

NEAR_SECONDS: Final = 30.0
"""A pause of at most this long before another attempt is spent in the process; a longer one suspends the run."""
_SWALLOWING_SECONDS: Final = 1.0
"""How long an attempt that was cancelled is awaited; one that swallows CancelledError is left behind after that."""
_ENDS_THE_PROCESS: Final = (SystemExit, KeyboardInterrupt, GeneratorExit)
"""What is not an error of a step. The last is raised in what was never awaited to its end when a loop closes; that of a
step's function is a `_GeneratorExitError` here."""


class _UnstorableError(Exception):
    """The result of a step cannot be recorded; unlike an error of that type that the step's function raises."""

    def __init__(self, error: FlowStateEncodeError) -> None:
        self.error = error


class _GeneratorExitError(Exception):
    """The function of a step raised GeneratorExit. As such it would close the coroutines that it passes through."""

    def __init__(self, error: GeneratorExit) -> None:
        self.error = error


class _Result(NamedTuple):
    """What a step has returned.

    Attributes:
        kind: The type that it is read as.
        form: Its JSON form.
        value: What that is read as.
    """

    kind: Any
    form: Any
    value: Any


class StepCall(NamedTuple):
    """What a step is to call.

    Attributes:
        key: The key of the step.
        function: The function that the step calls.
        args: The arguments that it gets by position.
        kwargs: The arguments that it gets by name.
        options: What `Run.options` was given.
        sum: The CRC-32 of the arguments, if the step was called in another task than the flow's own.
        is_once: Whether the step, or one around it, must not begin twice.
        is_straight: Whether operations inside of the step come one after the other with all others of the run.
        series: What all items of one `map` have in common, since nothing goes on between them; None: it is no item.
    """

    key: str
    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: StepOptions
    sum: int | None = None
    is_once: bool = False
    is_straight: bool = True
    series: object | None = None

    def result_type(self, drive: Drive) -> Any:
        """Return the type to read the result as."""
        if not isinstance(self.options.result, Unset):
            return self.options.result
        return drive.engine.values.returned_by(self.function)


@dataclass
class InFlight:
    """A step that has no result yet.

    Attributes:
        key: The key of the step.
        task: The task that executes it.
        is_executing: Whether its function has begun and not ended.
        is_queued: Whether it waits for a thread, since its function is not async.
        is_pausing: Whether it waits in the process for its next attempt.
        is_cancelled: Whether it was cancelled by the drive, or by all who wait for it, so that nothing is recorded.
        waiting: The futures of those who wait for its result.
    """

    key: str
    task: asyncio.Task[Any] | None = None
    is_executing: bool = False
    is_queued: bool = False
    is_pausing: bool = False
    is_cancelled: bool = False
    waiting: list[asyncio.Future[Any]] = field(default_factory=list)

    def cancel(self) -> None:
        """Cancel the task that executes the step; nothing is recorded of it."""
        self.is_cancelled = True
        if self.task is not None:
            self.task.cancel()


async def step(called: Called, call: StepCall) -> Any:
    """Return the recorded result of the step, or execute the step, record its result and return that."""
    await called.begin()
    return await outcome(called.drive, call)


async def outcome(drive: Drive, call: StepCall) -> Any:
    """Return the result of the step, recorded before or now, when it is the next to reach the function."""
    kind = call.result_type(drive)
    while (flight := drive.flights.get(call.key)) is not None and flight.is_cancelled:
        await _left_alone(drive, flight)
    entry = drive.recorded(call.key, "step", call.sum)
    n = order_of(entry) if entry is not None else await _live(drive, call)
    await drive.gate.pass_through(n, series=call.series)
    return drive.result(call.key, kind)


async def _live(drive: Drive, call: StepCall) -> int:
    """Execute the step; return the ``n`` of its result.

    Raises:
        TypeError: No value can be read as what its function is annotated to return. Nothing is executed.
    """
    drive.engine.values.check_type(call.result_type(drive), f"the result of the step {call.key!r}")
    flight, outcome = drive.flights.get(call.key), drive.loop.create_future()
    if flight is None:
        flight = drive.begin_flight(call.key)
        flight.waiting.append(outcome)
        flight.task = carried(lambda: _watched(drive, call, flight), flight.waiting)
        flight.task.add_done_callback(lambda _: drive.end_flight(flight))
    else:  # an earlier attempt of the step around this one has begun it
        flight.waiting.append(outcome)
    assert flight.task is not None  # noqa: S101  # for mypy
    try:
        n: int = await outcome
    except asyncio.CancelledError:
        if all(each.done() for each in flight.waiting):
            if not flight.task.done():
                flight.cancel()
            elif not flight.task.cancelled() and flight.task.exception() is None:
                drive.gate.release(flight.task.result())
        raise
    return n


async def _left_alone(drive: Drive, flight: InFlight) -> None:
    """Return when a step that was cancelled has ended, so that it can begin again, or has not ended for long enough."""
    if flight.task is not None:
        await asyncio.wait([flight.task], timeout=_SWALLOWING_SECONDS)
    if drive.flights.get(flight.key) is flight:  # another one may have waited too, and have begun it again
        del drive.flights[flight.key]


async def _watched(drive: Drive, call: StepCall, flight: InFlight) -> int:
    """Execute the step inside of its span; return the ``n`` of its result."""
    with drive.engine.telemetry.executing(flow_id=drive.id, name=drive.flow.name, key=call.key):
        n = await _execute(drive, call, flight)
        entry = drive.checkpoint.entry(call.key)
        drive.engine.telemetry.event("step", name=drive.flow.name, failed=entry is not None and failed(entry))
    return n


async def _execute(drive: Drive, call: StepCall, flight: InFlight) -> int:
    """Try until there is a result or an error to record; return its ``n``."""
    if call.options.at_most_once and (entry := _interrupted(drive, call.key)) is not None:
        return drive.record(call.key, entry)
    began = drive.engine.clock.now()
    while True:
        await _pause(drive, call, flight)
        failed_before = _failed(drive, call.key)
        try:
            result = await _begun(drive, call, flight, failed_before + 1)
        except _UnstorableError as unstorable:
            drive.fail(unstorable.error, call.key)
            raise asyncio.CancelledError from unstorable.error
        except BaseException as error:  # whatever the function of the application raises
            if flight.is_cancelled or _is_being_cancelled() or isinstance(error, _ENDS_THE_PROCESS):
                raise
            cause = error.error if isinstance(error, _GeneratorExitError) else error
            entry = _after_failure(drive, call, failed_before + 1, cause)
            if entry is not None:
                entry = entry.model_copy(update=_about(drive, call, began, failed_before + 1))
        else:
            if flight.is_cancelled:  # and the function let that pass
                raise asyncio.CancelledError
            entry = result_entry(result.form, **_about(drive, call, began, failed_before + 1))
            if result.kind not in ANYTHING:
                drive.image.keep(call.key, entry, result.kind, result.value)
            drive.engine.telemetry.event("step.attempt", name=drive.flow.name, failed=False)
        if entry is not None:
            return drive.record(call.key, entry)
        if drive.closing is not None:
            drive.moved()  # the drive may have waited for the attempt, and does not wait for the next one


def _is_being_cancelled() -> bool:
    """Return whether somebody cancels this task, as a loop that ends does; from Python 3.11 on, else False."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


def _about(drive: Drive, call: StepCall, began: int, attempts: int) -> dict[str, Any]:
    """Return what is recorded of a step beside its result, by its name on the wire."""
    about = {
        "startTime": began,
        "endTime": drive.engine.clock.now(),
        "attempts": attempts if attempts > 1 else None,
        "args": call.sum,
    }
    return {key: value for key, value in about.items() if value is not None}


def _interrupted(drive: Drive, key: str) -> CacheEntry | None:
    """Return the entry of a step with ``at_most_once`` that an earlier drive was about to begin; None: none was."""
    if key not in drive.image.record.intents:
        return None
    message = (
        f"The step {key!r} of the run {drive.id!r} was begun, and nobody knows how it ended. It is not begun again: "
        "look where the step works whether it was done."
    )
    record = {"type": "StepInterruptedError", "message": message, "attempts": 1, "interrupted": True}
    return error_entry(record, endTime=drive.engine.clock.now())


def _failed(drive: Drive, key: str) -> int:
    return int(drive.image.record.retries.get(key, {}).get("attempts", 0))


def _after_failure(drive: Drive, call: StepCall, failed: int, error: BaseException) -> CacheEntry | None:
    """Note that the attempt number `failed` failed; return what is recorded if it was the last one, else None."""
    retry = call.options.retry or (None if call.options.at_most_once else drive.engine.retry)
    drive.engine.telemetry.event(
        "step.attempt",
        flow_id=drive.id,
        key=call.key,
        name=drive.flow.name,
        failed=True,
        error=type(error).__name__,
    )
    if retry is None or not retry.allows(failed, error):
        LOG.warning(
            "The step %r of the run %r failed after %s, and is not tried again.",
            call.key,
            drive.id,
            attempts_in_words(failed),
            exc_info=error,
        )
        return error_entry(error_record(error, attempts=failed))
    pause = retry.pause(failed)
    LOG.info(
        "The step %r of the run %r failed with %s; the next attempt is in %.1f s.",
        call.key,
        drive.id,
        type(error).__name__,  # not its message, which may have a payload in it
        pause,
    )
    drive.image.record.retries[call.key] = {
        "attempts": failed,
        "error": f"{type(error).__name__}: {message_of(error)}"[:1000],
        "next": drive.engine.clock.now() + round(pause * 1000),
    }
    drive.checkpoint.note_record(needed=True)
    return None


async def _pause(drive: Drive, call: StepCall, flight: InFlight) -> None:
    """Wait until the next attempt may begin: in the process if the pause is short, else with the run suspended."""
    record = drive.image.record
    at: int | None = record.retries.get(call.key, {}).get("next")
    left = 0.0 if at is None else (at - drive.engine.clock.now()) / 1000
    if at is not None and left > 0:
        if call.is_once or (left <= NEAR_SECONDS and drive.fits(left)):
            flight.is_pausing = True
            await drive.engine.clock.sleep(left)
            flight.is_pausing = False
        else:
            await wait_until(drive, call.key, at)
    if record.waits.pop(call.key, None) is not None:
        drive.checkpoint.note_record(needed=False)


async def _begun(drive: Drive, call: StepCall, flight: InFlight, number: int) -> _Result:
    """Call the function once, when it may begin and has a thread if it needs one; return its result."""
    await may_begin(drive, call.key)  # what is in hand is stored before the step takes a thread from others
    place = None if is_async(call.function) else await _place(drive, flight)
    try:
        if place is not None:
            await may_begin(drive, call.key)
        if call.options.at_most_once:
            await _intend(drive, call.key)
        return await _attempt(drive, call, flight, number, place)
    finally:
        if place is not None and (count := place.leave()) and not flight.is_cancelled:
            LOG.warning(
                "The step %r of the run %r was given up, and its function goes on in its thread, as %d others may: "
                "a function that is not async cannot be cancelled.",
                call.key,
                drive.id,
                count - 1,
            )


async def _intend(drive: Drive, key: str) -> None:
    """Return when the intent to begin a step with ``at_most_once`` is stored, and the step may still begin."""
    begin_intent(drive, key)
    try:
        await may_begin(drive, key)
    except asyncio.CancelledError:
        if not drive.is_over:
            withdraw_intent(drive, key)
        raise


async def _place(drive: Drive, flight: InFlight) -> Place:
    """Return when the step may have a thread. By then it may not begin any more: who asks has to look again."""

    def waits(is_queued: bool) -> None:
        flight.is_queued = is_queued
        drive.waits.changed()  # for timeouts of steps around this one, which do not count meanwhile

    place = await drive.engine.pool.place(waits)
    if not drive.may_go_on:
        place.leave()  # it is not needed, and others may
    return place


async def _attempt(drive: Drive, call: StepCall, flight: InFlight, number: int, place: Place | None) -> _Result:
    """Call the function once; return its result.

    Raises:
        _UnstorableError: The result cannot be recorded.
    """
    key = call.key
    scope = Scope(key, straight=call.is_straight, at_most_once=call.is_once)
    step = Step(drive.id, key, number, drive.image.record.rewinds)
    if number > 1:
        drive.reopen(key)  # this attempt asks again for what an earlier one recorded inside of the step
    flight.is_executing = True
    try:
        with drive.engine.telemetry.step(flow_id=drive.id, key=key, attempt=number):
            here = Here(drive.run, scope, step)
            value = await _within(drive, call, lambda: _call(drive, call, here, place))
        return _result(drive, call, value)
    finally:
        flight.is_executing = False
        scope.is_over = True


def _result(drive: Drive, call: StepCall, value: Any) -> _Result:
    """Return the result with its JSON form, as which it can be recorded: its type reads it back.

    Raises:
        _UnstorableError: It has no JSON form, or its type does not read that.
    """
    kind, what, values = call.result_type(drive), f"the result of the step {call.key!r}", drive.engine.values
    try:
        form = drive.image.in_order(values.dump(value, kind, what))
        return _Result(kind, form, form if kind in ANYTHING else values.read(form, kind))
    except FlowStateEncodeError as error:
        raise _UnstorableError(error) from error
    except Exception as error:  # a validator of the application may raise whatever it likes
        reason = (
            fit_error(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {message_of(error)}"
        )
        unfit = FlowStateEncodeError(
            f"Cannot store {what}: it does not fit {shown(kind)}, as which it would be read back: {reason}", path=what
        )
        raise _UnstorableError(unfit) from error


async def _call(drive: Drive, call: StepCall, here: Here, place: Place | None) -> Any:
    HERE.set(here)
    here.scope.task = asyncio.current_task()
    try:
        if place is None:
            return await call.function(*call.args, **call.kwargs)
        value = await place.call(drive.engine.pool, partial(copy_context().run, _call_synchronous, call))
        return await value if inspect.isawaitable(value) else value
    except GeneratorExit as error:
        if _current_task() is not here.scope.task:  # nothing awaits this any more: it is closed, and not the function's
            raise
        raise _GeneratorExitError(error) from error


def _current_task() -> asyncio.Task[Any] | None:
    """Return the task that runs in this thread now."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # there is no loop
        return None


def _call_synchronous(call: StepCall) -> Any:
    try:
        return call.function(*call.args, **call.kwargs)
    except StopIteration as error:  # a future cannot hold it, so whoever awaits the future would wait for ever
        raise RuntimeError(f"the function of the step {call.key!r} raised StopIteration") from error
    except GeneratorExit as error:
        raise _GeneratorExitError(error) from error


async def _within(drive: Drive, call: StepCall, attempt: Callable[[], Awaitable[Any]]) -> Any:
    """Await the attempt in a task of its own for at most the timeout. The time in which the step rests does not count.

    Raises:
        TimeoutError: The attempt took longer.
    """
    outcome = drive.loop.create_future()
    task = carried(attempt, [outcome])
    try:
        if call.options.timeout is not None:
            await _await_outcome(drive, call.key, outcome, call.options.timeout)
        return await outcome
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=_SWALLOWING_SECONDS)
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


async def _await_outcome(drive: Drive, key: str, outcome: asyncio.Future[Any], seconds: float) -> None:
    """Return when there is an outcome.

    Raises:
        TimeoutError: The step has worked for so many seconds, and there is no outcome.
    """
    left = seconds
    while not outcome.done():
        rests = drive.rests(key)
        change, began = drive.waits.next_change(), drive.loop.time()
        pause = None if rests else left
        await asyncio.wait([outcome, change], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        left -= 0.0 if rests else drive.loop.time() - began
        if left <= 0 and not outcome.done():
            raise TimeoutError(f"the attempt took longer than {seconds} s")


def with_key(call: StepCall, key: str, *args: Any) -> StepCall:
    """Return the same call under another key, with other arguments."""
    return call._replace(key=key, args=args)
