"""What a document's head holds of a flow state: what people and queries see without its payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import FlowStateEncodeError
from ..models import BlockedOnStep, FlowState, FlowStateExecution, Operation
from ..unset import Unset
from .names import MAX_NAME_BYTES, MAX_PATH_BYTES, in_extra, is_reserved, utf8_bytes

MAX_QUERIED_BYTES: Final = 1499  # Firestore refuses a query with more, and cuts what is longer in the index
_SUMMARY_EXTRA: Final = "summary.extra."
MAX_KEY_BYTES: Final = MAX_NAME_BYTES - len(_SUMMARY_EXTRA)  # as the head has it once more
ERROR_LINE_CHARACTERS: Final = 200

WAKE_AT: Final = "wakeAt"
"""The unknown key with the moment from which somebody should look at a flow, in milliseconds since the epoch."""

OWN_NAMES: Final = frozenset({*FlowState.wire_names.values(), "status", "shard", "expireAt", "summary", "_flowstate"})
"""Names of fields of a document in either layout, which an unknown key of the state cannot have there."""


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
    return is_queryable_name(key) and _is_queryable(value)


def is_queryable_name(key: str) -> bool:
    """Return whether an unknown key of this name can be a field of the document's own."""
    if not key or key in OWN_NAMES or is_reserved(key):
        return False
    size = utf8_bytes(key)
    return size is not None and size <= MAX_KEY_BYTES


def check_extra(key: object, value: object) -> None:
    """Raise FlowStateEncodeError unless an update can set the unknown key by itself; UNSET stands for its removal."""
    path = in_extra(key)
    if not isinstance(key, str):
        raise FlowStateEncodeError(f"Cannot store {path}: {key!r:.100} is not a string.", path=path)
    if key in OWN_NAMES:
        raise FlowStateEncodeError(
            f"Cannot store {path}: a document has a field of its own under that name. save() and edit() take such a "
            "key of the state, if it is one.",
            path=path,
        )
    if not is_queryable_name(key) or len(f"{_SUMMARY_EXTRA}{key}".encode()) > MAX_PATH_BYTES:
        raise FlowStateEncodeError(
            f"Cannot store {path}: no field of a document that is set by itself can have that name; it is empty, "
            f"reserved, no UTF-8 or too long. save() and edit() take any key.",
            path=path,
        )
    if not isinstance(value, Unset) and not _is_queryable(value):
        raise FlowStateEncodeError(
            f"Cannot store {path}: {value!r:.100} is not a bool, a number of 64 bits or a string of at most "
            f"{MAX_QUERIED_BYTES:,} bytes of UTF-8, which is all that can be set by itself. save() and edit() take any "
            "value.",
            path=path,
        )


def exact(value: Any) -> Any:
    """Return a scalar of a subclass of str, int or float as what it is equal to; anything else as it is."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, float) else value


def is_int64(number: int) -> bool:
    """Return whether the integer has at most 64 bits; `in range` would walk the range for an int of a subclass."""
    return -(2**63) <= number < 2**63


def last_end_time(executions: Sequence[FlowStateExecution]) -> int | float | None:
    """Return when the last execution ended; None while it runs, if it does not say or no head can."""
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


def _is_queryable(value: object) -> bool:
    if isinstance(value, str):
        size = utf8_bytes(value)
        return size is not None and size <= MAX_QUERIED_BYTES
    return isinstance(value, (bool, float)) or (isinstance(value, int) and is_int64(value))


def _check_text(path: str, text: str) -> None:
    if utf8_bytes(text) is None:
        raise FlowStateEncodeError(
            f"Cannot store {path}: a lone surrogate, which a string that queries see cannot have.", path=path
        )
