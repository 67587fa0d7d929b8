"""The head of a document: what people and queries see of a flow state without its payload, as status and expiry."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import ValidationError

from .._error_texts import NOT_UTF8
from .._limits import is_int64, is_utf8
from ..errors import FlowStateEncodeError, shown
from ..models import BlockedOnStep, FlowState, FlowStateExecution, FlowStatus, Operation
from ..query import is_queryable_name, is_queryable_value
from ..unset import UNSET, Unset

if TYPE_CHECKING:
    from .._rpc.messages import Value  # for types alone: stores in memory load no grpc

ERROR_LINE_CHARACTERS: Final = 200  # about what one line of a list has room for

WAKE_AT: Final = "wakeAt"
"""The unknown key with the moment from which somebody should look at a flow, in milliseconds since the epoch."""

EXPIRE_AFTER: Final = "expireAfter"
"""The unknown key with a flow's own duration, in milliseconds; a negative one stands for never."""

EXPIRY: Final = "expireAt"
"""The field that a TTL policy goes by, in either layout. In a native document it may be an unknown key of the state."""
_NEVER: Final = -1
_LONGEST_WAIT: Final = 86_400.0  # seconds: a day, which every event loop's timers reach
_FINISHED: Final = ("done", "failed")


class StatusInputs(NamedTuple):
    """What the status of a flow follows from.

    Attributes:
        ended: Whether the operation has ended, and how; empty if it has not.
        blocked: Whether there is a blocked step.
        executed: Whether there are executions.
    """

    ended: Literal["", "done", "failed"]
    blocked: bool
    executed: bool

    @classmethod
    def of(cls, state: FlowState) -> StatusInputs:
        """Return the inputs of the status of the state."""
        return cls(_ended(state.operation), state.blocked_on_step is not None, bool(state.executions))

    def after(self, change: StatusChange) -> StatusInputs:
        """Return the inputs after a partial write."""
        return StatusInputs(
            self.ended if change.ended is None else change.ended,
            self.blocked if change.blocked is None else change.blocked,
            self.executed if change.executed is None else change.executed,
        )

    @property
    def status(self) -> FlowStatus:
        """The status, as `FlowState.status` has it."""
        if self.ended:
            return self.ended
        if self.blocked:
            return "blocked"
        return "running" if self.executed else "scheduled"


class StatusChange(NamedTuple):
    """What a partial write makes of the inputs of the status, each as in `StatusInputs`; None: it stays."""

    ended: Literal["", "done", "failed"] | None
    blocked: bool | None
    executed: bool | None

    @classmethod
    def of(
        cls, operation: Operation | Unset, blocked_on_step: object, executions: Sequence[object] | Unset
    ) -> StatusChange:
        """Return what a write of these fields makes of the inputs; UNSET: it does not name the field."""
        return cls(
            None if isinstance(operation, Unset) else _ended(operation),
            None if isinstance(blocked_on_step, Unset) else blocked_on_step is not None,
            None if isinstance(executions, Unset) else bool(executions),
        )


class Shown(NamedTuple):
    """What a summary shows of a document beside the fields that both layouts have.

    Attributes:
        status: What the flow does.
        step_count: How many steps are in the cache; 0 if the layout does not tell.
        size_bytes: About how many bytes of JSON the state has; 0 if the layout does not tell.
        last_end_time: When the last execution ended, in milliseconds since the epoch; None: there is none.
        error_line: The first line of the error that ended the flow; None: there is none, or it is encrypted.
        extra: The unknown keys, as far as a projection without their names shows them.
    """

    status: FlowStatus
    last_end_time: int | float | None
    error_line: str | None
    step_count: int = 0
    size_bytes: int = 0
    extra: Mapping[str, Value] = {}  # nobody changes it


Reason: TypeAlias = tuple[Literal["hidden", "native"], str]
"""Why lists do not show a document: the kind of the finding, and its message."""


def check_head(state: FlowState) -> None:
    """Raise FlowStateEncodeError if the head cannot hold what the state says.

    Firestore's strings are UTF-8 and its integers have 64 bits.
    """
    _check_text("flow_id", state.flow_id)
    if state.name is not None:
        _check_text("name", state.name)
    check_blocked(state.blocked_on_step)
    if isinstance(state.start_time, int) and not is_int64(state.start_time):
        raise FlowStateEncodeError(
            "Cannot store start_time: an integer beyond 64 bits, which Firestore cannot order by.", path="start_time"
        )


def check_blocked(blocked: BlockedOnStep | None) -> None:
    """Raise FlowStateEncodeError if the head cannot hold the name of the blocked step."""
    if blocked is not None:
        _check_text("blocked_on_step.name", blocked.name)


def queryable(unknown: Mapping[str, Any]) -> dict[str, Any]:
    """Return the unknown keys of a state that queries can ask for: scalars under names a document can have."""
    return {key: value for key, value in unknown.items() if is_queryable(key, value)}


def is_queryable(key: str, value: object) -> bool:
    """Return whether the document can have the unknown key as a field of its own."""
    return is_queryable_name(key) and is_queryable_value(value)


def last_end_time(executions: Sequence[FlowStateExecution]) -> int | float | None:
    """Return when the last execution ended, in milliseconds since the epoch.

    None: there is none, it has no end time, or an end time of more than 64 bits, which a head cannot hold.
    """
    end = executions[-1].end_time if executions else None
    return None if isinstance(end, int) and not is_int64(end) else end


def error_line(operation: Operation) -> str | None:
    """Return the first line of the error that ended the flow, cut to a line's length."""
    if operation.result is None or operation.result.error is None:
        return None
    return first_line(operation.result.error)


def first_line(error: str) -> str:
    """Return the first line of an error, cut to a line's length."""
    line = next(iter(error.strip().splitlines()), "")[:ERROR_LINE_CHARACTERS]
    return line.encode("utf-8", "replace").decode()


def _check_text(path: str, text: str) -> None:
    if not is_utf8(text):
        raise FlowStateEncodeError(f"Cannot store {path}, which queries see: it {NOT_UTF8}.", path=path)


def expiry(
    status: FlowStatus,
    now: datetime,
    *,
    own: float | None,
    after: timedelta | None,
    when: Literal["finished", "always"],
) -> datetime | None:
    """Return when a state that is written now expires, or None if it does not.

    Every write that changes operation, blocked step, executions or the flow's own duration must ask: a flow that is
    resumed loses its expiry.

    Args:
        status: What the flow does.
        now: When it is written.
        own: The flow's own duration in milliseconds, as `own_duration` returns it; None: it has none.
        after: The duration of the settings; None: never.
        when: Which states expire, by the settings.
    """
    if when == "finished" and status not in _FINISHED:
        return None
    if own is not None:
        after = _duration(own)
    if after is None:
        return None
    try:
        return now + after
    except OverflowError:  # after the year 9999, which neither datetime nor Firestore can hold
        return None


def expires_at(fields: Mapping[str, Value]) -> datetime | None:
    """Return when a document expires; None if it has no expiry, or one that is not a timestamp."""
    value = fields.get(EXPIRY)
    if value is None or value.WhichOneof("value_type") != "timestamp_value":
        return None
    try:
        moment: datetime = value.timestamp_value.ToDatetime(tzinfo=timezone.utc)
    except (ValueError, OverflowError):  # not of the years 1 to 9999
        return None
    return moment


def write_expiry(fields: Any, expire_at: datetime | None) -> None:
    """Write when a document expires, or nothing."""
    if expire_at is not None:
        fields[EXPIRY].timestamp_value.FromDatetime(expire_at)


def owns_expiry(fields: Mapping[str, Value]) -> bool:
    """Return whether ``expireAt`` of a native document is an unknown key of its state, since it is not a timestamp."""
    return EXPIRY in fields and fields[EXPIRY].WhichOneof("value_type") != "timestamp_value"


def expire_after_in(fields: Mapping[str, Value]) -> int | float | None:
    """Return the flow's own duration until it expires, in milliseconds; None if the document has none."""
    value = fields.get(EXPIRE_AFTER)
    kind = None if value is None else value.WhichOneof("value_type")
    return own_duration({EXPIRE_AFTER: getattr(value, kind)}) if kind in ("integer_value", "double_value") else None


def has_expired(expire_at: datetime | None, now: datetime) -> bool:
    """Return whether the state counts as absent, even if TTL has not deleted it yet."""
    return expire_at is not None and expire_at <= now


def seconds_until(expire_at: datetime | None) -> float | None:
    """Return the seconds until a state expires, at most a day; None if it does not expire.

    Timers overflow beyond some weeks, and whoever waits for a day looks again then.
    """
    if expire_at is None:
        return None
    return min(max((expire_at - datetime.now(timezone.utc)).total_seconds(), 0.0), _LONGEST_WAIT)


def own_duration(unknown: Mapping[str, Any]) -> int | float | None:
    """Return the flow's own duration in milliseconds among the unknown keys of its state; None if it has none."""
    value = unknown.get(EXPIRE_AFTER)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if type(value) is int and is_int64(value) else None


def own_duration_of(given: timedelta | Unset | None) -> int | float | Unset:
    """Return the value of the unknown key ``expireAfter`` for a parameter `expire_after`, in milliseconds.

    UNSET: the key stays as it is. A negative number: never.

    Raises:
        TypeError: The parameter is not a duration.
        ValueError: It is not above 0.
    """
    if isinstance(given, Unset):
        return UNSET
    if given is None:
        return _NEVER
    asked: object = given
    said = f"expire_after is a timedelta above 0, or None for never, not {shown(asked)}"
    if not isinstance(asked, timedelta):
        raise TypeError(said)
    if asked <= timedelta():
        raise ValueError(said)
    milliseconds = given / timedelta(milliseconds=1)
    return int(milliseconds) if milliseconds.is_integer() else milliseconds


def lasting(id: str, state: FlowState, given: timedelta | Unset | None) -> AbstractContextManager[None]:
    """Set the unknown key ``expireAfter`` of a state for the block, in which it is stored; take it back if that fails.

    What another call with the same state has set meanwhile stays.

    Raises:
        TypeError: `given` is not a duration.
        ValueError: It is not above 0.
        FlowStateEncodeError: The state is of a class of the application's whose objects cannot have it.
    """
    own = own_duration_of(given)
    given_state: object = state
    if isinstance(own, Unset) or not isinstance(given_state, FlowState):  # what is not a state is refused when encoded
        return nullcontext()
    return _lasting(id, state, given, own)


@contextmanager
def _lasting(id: str, state: FlowState, given: timedelta | Unset | None, own: float) -> Iterator[None]:
    name = next((name for name, alias in state.wire_names.items() if alias == EXPIRE_AFTER), EXPIRE_AFTER)
    before = _value_of(state, name)
    was_set = name in state.model_fields_set

    def take_back() -> None:
        if isinstance(before, Unset):
            (state.model_extra or {}).pop(name, None)
        elif getattr(state, name) is not before:
            setattr(state, name, before)
        if not was_set:
            state.__pydantic_fields_set__.discard(name)

    try:
        _set_own(state, name, own)
    except (ValueError, TypeError) as error:  # frozen, without unknown keys, or of another type
        take_back()
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise FlowStateEncodeError(
            f"Flow state {id!r}: a {type(state).__qualname__} cannot keep expire_after={shown(given, 80)} as its "
            f"{name}: {why}. Nothing was written: store the state without it, then call update() with it.",
            flow_id=id,
            path=name,
        ) from error
    given_here = _value_of(state, name)
    try:
        yield
    except BaseException:
        if _value_of(state, name) is given_here:  # by identity: another call may have set an equal time since
            take_back()
        raise


def _value_of(state: FlowState, name: str) -> Any:
    return state.__dict__.get(name, (state.model_extra or {}).get(EXPIRE_AFTER, UNSET))


def _set_own(state: FlowState, name: str, own: float) -> None:
    setattr(state, name, own)
    if (kept := getattr(state, name)) != own or isinstance(kept, bool):
        raise ValueError(f"the model changes it to {shown(kept, 80)}")


def _duration(own: float) -> timedelta | None:
    if own < 0:
        return None
    try:
        return timedelta(milliseconds=own)
    except OverflowError:  # longer than any calendar
        return None


def _ended(operation: Operation) -> Literal["", "done", "failed"]:
    if operation.result is not None and operation.result.error is not None:
        return "failed"
    return "done" if operation.done else ""


def write_number(value: Value, number: float) -> None:
    """Fill a value with a number in its exact type; an integer has at most 64 bits."""
    if isinstance(number, float):
        value.double_value = number
    else:
        value.integer_value = number


def write_scalar(message: Value, value: Any) -> None:
    """Fill a value with a scalar that queries can ask for."""
    if isinstance(value, bool):
        message.boolean_value = value
    elif isinstance(value, str):
        message.string_value = value
    else:
        write_number(message, value)


def write_blocked(head: Any, blocked: BlockedOnStep | None) -> None:
    """Write the readable part of the blocked step."""
    if blocked is None:
        head["blockedOnStep"].null_value = 0
    else:
        head["blockedOnStep"].map_value.fields["name"].string_value = blocked.name


def write_summary(
    head: Any,
    *,
    steps: int | None = None,
    size: int | None = None,
    executions: Sequence[FlowStateExecution] = (),
    operation: Operation | None = None,
    encrypted: bool,
) -> None:
    """Write what summaries show, as far as it is given."""
    end = last_end_time(executions)
    line = None if operation is None or encrypted else error_line(operation)
    if (steps, size, end, line) == (None, None, None, None):
        return  # to name the summary would give the head a value without a type, which Firestore refuses
    summary = head["summary"].map_value.fields
    if steps is not None:
        summary["steps"].integer_value = steps
    if size is not None:
        summary["bytes"].integer_value = size
    if end is not None:
        write_number(summary["lastEnd"], end)
    if line is not None:
        summary["errorLine"].string_value = line


def write_extra(head: Any, shown: Mapping[str, str | int | float | bool]) -> None:
    """Write the unknown keys of the head."""
    for key, value in shown.items():
        write_scalar(head[key], value)
        # Repeated in the summary, all of which a projection can ask for without knowing the keys.
        write_scalar(head["summary"].map_value.fields["extra"].map_value.fields[key], value)
