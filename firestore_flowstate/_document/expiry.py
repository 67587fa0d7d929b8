"""When a flow state expires."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from .._limits import is_int64
from ..errors import FlowStateEncodeError
from ..models import FlowState, FlowStatus
from ..unset import UNSET, Unset

if TYPE_CHECKING:
    from .._rpc.messages import Value  # for types alone: stores in memory load no grpc

EXPIRE_AFTER: Final = "expireAfter"
"""The unknown key with a flow's own duration, in milliseconds; a negative one stands for never."""

EXPIRY: Final = "expireAt"
"""The field that a TTL policy goes by, in either layout; a state of the native layout may own it, as a key."""
_NEVER: Final = -1
_FINISHED: Final = ("done", "failed")


def expiry(
    status: FlowStatus,
    now: datetime,
    *,
    own: float | None,
    after: timedelta | None,
    when: Literal["finished", "always"],
) -> datetime | None:
    """Return when a state that is written now expires, or None if it does not.

    To be asked by every write that changes operation, blocked step, executions or the flow's own duration: a flow that
    is resumed loses its expiry.

    Args:
        status: What the flow does.
        now: When it is written.
        own: The flow's own duration, as of `own_duration`; None: it has none.
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
    """Return when a document says that it expires; None if it does not say, or not as a timestamp."""
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
    """Return whether the state counts as absent, collected yet or not."""
    return expire_at is not None and expire_at <= now


def own_duration(unknown: Mapping[str, Any]) -> int | float | None:
    """Return the flow's own duration in milliseconds among the unknown keys of its state; None if it has none."""
    value = unknown.get(EXPIRE_AFTER)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if type(value) is int and is_int64(value) else None


def own_duration_of(given: timedelta | Unset | None) -> int | float | Unset:
    """Return what the unknown key is to be for a parameter `expire_after`; UNSET: as it is.

    Raises:
        ValueError: It is not a duration.
    """
    if isinstance(given, Unset):
        return UNSET
    if given is None:
        return _NEVER
    asked: object = given
    if not isinstance(asked, timedelta) or asked <= timedelta():
        raise ValueError(f"expire_after is a duration longer than none, or None for never, not {asked!r:.100}")
    milliseconds = given / timedelta(milliseconds=1)
    return int(milliseconds) if milliseconds.is_integer() else milliseconds


@contextmanager
def lasting(id: str, state: FlowState, given: timedelta | Unset | None) -> Iterator[None]:
    """Give a state its flow's own duration while it is stored under the id; if that fails it has what it had.

    Raises:
        ValueError: `given` is not a duration.
        FlowStateEncodeError: The state is of a class of the application's whose objects cannot have it.
    """
    own = own_duration_of(given)
    given_state: object = state
    if isinstance(own, Unset) or not isinstance(given_state, FlowState):  # others are refused when encoded
        yield
        return
    name = next((name for name, alias in state.wire_names.items() if alias == EXPIRE_AFTER), EXPIRE_AFTER)
    before = state.__dict__.get(name, (state.model_extra or {}).get(EXPIRE_AFTER, UNSET))
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
            f"Flow state {id!r}: a {type(state).__qualname__} cannot keep expire_after={given!r:.80} as its {name}: "
            f"{why}. Nothing was written: update() takes it once the state is stored.",
            flow_id=id,
            path=name,
        ) from error
    try:
        yield
    except BaseException:
        take_back()
        raise


def _set_own(state: FlowState, name: str, own: float) -> None:
    setattr(state, name, own)
    if (kept := getattr(state, name)) != own or isinstance(kept, bool):
        raise ValueError(f"it makes it {kept!r:.80}")


def _duration(own: float) -> timedelta | None:
    if own < 0:
        return None
    try:
        return timedelta(milliseconds=own)
    except OverflowError:  # longer than any calendar
        return None
