"""How a run ends: by what its function returned or raised, by a cancellation, by a value that nobody can store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from typing import Final as Constant

from firestore_flowstate import FlowResult, FlowStateEncodeError

from .engine import LOG
from .entries import failed, kept_text, message_of, stacktrace_of
from .final import Final, ended
from .image import Image
from .reasons import cancelled_text
from .record import Ended

if TYPE_CHECKING:
    from .driving import Drive


_MOST_OF_A_REASON: Constant = 1000
"""How many characters are stored of why a result cannot be stored: the state may be nearly full."""

_RECORD: Constant = ("operation.metadata", "blocked_on_step")
"""How paths begin that lead to what a document cannot hold of the record, such as the key of a wait."""


@dataclass(frozen=True)
class End:
    """How a run ends.

    Attributes:
        how: Done, failed or cancelled.
        result: The result that the operation gets.
        error: The exception that ended the run; None: it did not end by one.
        failed_by: The keys of the recorded errors that are found in `error`: `retry` runs these again.
    """

    how: Ended
    result: FlowResult | None = None
    error: BaseException | None = field(default=None, compare=False)
    failed_by: Sequence[str] = ()

    def final(self, image: Image, token: str | None, *, now: int) -> Final:
        """Return the last write of the run."""
        return ended(
            image,
            token,
            now=now,
            how=self.how,
            result=self.result,
            failed_by=self.failed_by,
            error=self.error,
        )


def function_end(drive: Drive, function: asyncio.Task[Any]) -> End:
    """Return how the run ends by what its function returned or raised."""
    _warn_of_unasked(drive)
    if function.cancelled():
        return _failure(asyncio.CancelledError("a task that the flow awaited was cancelled"))
    error = function.exception()
    if error is not None:
        return replace(_failure(error), failed_by=_recorded_in(error, drive))
    try:
        response = drive.flow.dump_result(function.result(), drive.engine.values)
    except Exception as unfit:  # noqa: BLE001  # a validator of the application may raise whatever it likes
        return _failure(unfit)
    return End("done", None if response is None else FlowResult(response=response))


def cancelled_end(reason: str) -> End:
    """Return how a run ends that was cancelled."""
    return End("cancelled", FlowResult(error=cancelled_text(reason)))


def time_is_up() -> str:
    """Return the reason of a cancellation by the flow's timeout."""
    return "the time of the run is up"


def unstorable_end(key: str | None, error: FlowStateEncodeError) -> End:
    """Return how a run ends that has a value which cannot be stored."""
    if key is not None:
        what = f"The result of the step {key!r}"
    elif (error.path or "").startswith(_RECORD):
        what = "What the run keeps of its steps"  # the error names the key
    else:
        what = "The result of the run"
    text = f"FlowStateEncodeError: {what} cannot be stored: {error}"
    return End("failed", FlowResult(error=text[:_MOST_OF_A_REASON]), error)


def given_up_end(recoveries: int, trying: list[str]) -> End:
    """Return how a run ends whose drives die again and again."""
    during = f", each time while it tried {', '.join(trying)}" if trying else ""
    error = kept_text(f"given up: {recoveries} drives in a row died or recorded nothing{during}")
    return End("failed", FlowResult(error=error))


def warn_of_leftovers(drive: Drive, keys: list[str]) -> bool:
    """Say that steps still run although the function has ended; return True."""
    LOG.warning(
        "The function of the run %r has ended, and steps that it began still run: %s. They are awaited and recorded.",
        drive.id,
        ", ".join(keys),
    )
    return True


def _recorded_in(error: BaseException, drive: Drive) -> list[str]:
    """Return the keys of the recorded errors that are found in the error, its causes, its contexts and its groups."""
    keys = dict.fromkeys(key for each in _chain(error) if isinstance(key := _attribute(each, "step"), str))
    return [key for key in keys if (entry := drive.checkpoint.entry(key)) is not None and failed(entry)]


def _chain(error: BaseException) -> Iterator[BaseException]:
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [each.__cause__, each.__context__, *_members(each)]


def _members(error: BaseException) -> Sequence[BaseException]:
    """Return the members of a group of errors. Any error may have something else as its ``exceptions``."""
    members = _attribute(error, "exceptions")
    is_group = isinstance(members, (list, tuple, set, frozenset))
    return [each for each in members if isinstance(each, BaseException)] if is_group else []


def _attribute(error: BaseException, name: str) -> Any:
    """Return an attribute of an error, which may be one of an application; None: it has none, or its code fails."""
    try:
        return getattr(error, name, None)
    except Exception:  # noqa: BLE001  # as above
        return None


def _failure(error: BaseException) -> End:
    message = message_of(error)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return End("failed", FlowResult(error=text, stacktrace=stacktrace_of(error)), error)


def _warn_of_unasked(drive: Drive) -> None:
    steps, answers = drive.unasked()
    if steps:
        LOG.warning("The run %r has results that its function did not ask for: %s.", drive.id, ", ".join(steps[:20]))
    if answers:
        LOG.warning("The run %r has answers that its function did not ask for: %s.", drive.id, ", ".join(answers[:20]))
    if steps or answers:
        drive.engine.telemetry.event("unasked", flow_id=drive.id, name=drive.flow.name, keys=[*steps, *answers])
