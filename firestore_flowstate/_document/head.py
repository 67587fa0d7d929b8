"""What a document's head holds of a flow state: what people and queries see without its payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .._limits import (
    MAX_PATH_BYTES,
    MAX_QUERIED_BYTES,
    in_extra,
    is_int64,
    utf8_bytes,
)
from ..errors import FlowStateEncodeError
from ..models import BlockedOnStep, FlowState, FlowStateExecution, Operation
from ..query import OWN_NAMES, SUMMARY_EXTRA, is_queryable_name
from ..unset import Unset

ERROR_LINE_CHARACTERS: Final = 200

WAKE_AT: Final = "wakeAt"
"""The unknown key with the moment from which somebody should look at a flow, in milliseconds since the epoch."""


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
    if not is_queryable_name(key) or len(f"{SUMMARY_EXTRA}{key}".encode()) > MAX_PATH_BYTES:
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


def _check_text(path: str, text: str) -> None:
    if utf8_bytes(text) is None:
        raise FlowStateEncodeError(
            f"Cannot store {path}: a lone surrogate, which a string that queries see cannot have.", path=path
        )


def _is_queryable(value: object) -> bool:
    if isinstance(value, str):
        size = utf8_bytes(value)
        return size is not None and size <= MAX_QUERIED_BYTES
    return isinstance(value, (bool, float)) or (isinstance(value, int) and is_int64(value))
