"""What every store says when it refuses: what happened, to which value of which flow state, and what to do next."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Final

from .errors import (
    DeadlineError,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    StoreUnavailableError,
    shown,
)

NOT_UTF8: Final = "contains a lone surrogate, which UTF-8 cannot hold"
"""What is wrong with a text that `is_utf8` refuses, as what is said of it."""
_SHOWN_OF_BATCH: Final = 3
_LONGEST_END: Final = 100  # characters of each end of a path in the text of an error
_STEPS: Final = re.compile(r'\["(?:[^"\\]|\\.){0,500}"\]|\[[^\]\[]{0,100}\]|\.?[^.\[]+|.', re.DOTALL)
# Bounded, so that each character is looked at a bounded number of times, whatever the keys are.


def conflict(id: str, *, expected: str | None, found: str | None) -> FlowStateConflictError:
    """Return the error of a write that asked for another version than the stored one.

    Args:
        id: The flow state.
        expected: The version that was asked for; None if there was to be none.
        found: The stored version; None if there is no state, or its version is not known.
    """
    if expected is None:
        message = f"The flow state {id!r} is there already, and if_version=None asks that it be new."
    elif found is None:
        message = f"The flow state {id!r} was deleted, has expired or was changed since its version was read."
    else:
        message = f"The flow state {id!r} was changed by another writer since its version was read."
    return FlowStateConflictError(
        f"{message} Nothing was written: load it and apply the change to what is there now, "
        "or let modify() do so on every conflict.",
        flow_id=id,
        expected=expected,
        found=found,
    )


def not_a_version(id: str, *, expected: str) -> FlowStateConflictError:
    """Return the error of a write that asked for what is not a version of this flow state, whatever is stored."""
    return FlowStateConflictError(
        f"What if_version gives is not a version of the flow state {id!r} in this store. Nothing was written: load the "
        "state, and give the version that it has then.",
        flow_id=id,
        expected=expected,
        found=None,
    )


def method_fails(value: object, error: Exception) -> str:
    """Return what is wrong with a value of a type of the application's, of which a method has raised this error."""
    return f"of type {type(value).__qualname__}, of which a method fails ({shown(error, 200)})"


def exists(id: str) -> FlowStateExistsError:
    """Return the error of a create of a flow state that is there already."""
    return FlowStateExistsError(
        f"There is a flow state {id!r} already. Nothing was written: choose another id, or save() to replace it.",
        flow_id=id,
    )


def not_found(id: str) -> FlowStateNotFoundError:
    """Return the error of a partial write to a flow state that is not there."""
    return FlowStateNotFoundError(
        f"There is no flow state {id!r}, or it has expired. Nothing was written: save() or create() it first.",
        flow_id=id,
    )


def not_removable(id: str, key: str) -> FlowStateEncodeError:
    """Return the error of a partial write that is to remove an unknown key which the payload has too.

    The key would come back from there at the next load, and no partial write takes a key out of the payload.
    """
    path = in_extra(key)
    return FlowStateEncodeError(
        f"Flow state {id!r}: cannot remove {path}: what was saved under that key is not a scalar, or was not when the "
        "state was last saved whole. Nothing was written: edit() or save() the state without it.",
        flow_id=id,
        path=path,
    )


def outcome_unknown(id: str, reason: Exception, *, lost: Exception | None) -> StoreUnavailableError:
    """Return the error of a write whose reply was lost.

    Args:
        id: The flow state.
        reason: What kept us from finding out whether it was stored. Callers raise the error from it.
        lost: How the reply was lost, if that is known.
    """
    kind = DeadlineError if isinstance(reason, DeadlineError) else StoreUnavailableError
    why = str(reason) or "what is stored now does not tell"
    how = "" if lost is None else f" ({lost})"
    if reason.__cause__ is None:  # such as a deadline that has passed: the lost reply is what took the time
        reason.__cause__ = lost
    return kind(
        f"Whether the write to the flow state {id!r} was stored is not known: its reply was lost{how}, and {why}. "
        "Load it to see what is there.",
        flow_id=id,
        outcome_unknown=True,
    )


def with_flow_id(error: FlowStateEncodeError, id: str) -> FlowStateEncodeError:
    """Return the error with the flow state named. The code that encodes a value does not know whose value it is."""
    if error.flow_id is None:
        error.flow_id = id
        error.args = (f"Flow state {id!r}: {error}",)
    return error


def unreadable(error: FlowStateDecodeError, id: str) -> FlowStateDecodeError:
    """Return the error with the flow state named. The code that decodes a value does not know whose value it is.

    It stays the same error, so that its cause is still what a codec or the function of a key has raised.
    """
    if error.flow_id is None:
        error.flow_id = id
        error.args = (f"The flow state {id!r} cannot be read: {error}.",)
    return error


def for_each_of(error: FlowStateError, ids: Iterable[str]) -> dict[str, FlowStateError]:
    """Return the error of a request for several flow states as an error of each of them, by its id."""
    errors: dict[str, FlowStateError] = {}
    for id in ids:
        one = copy(error)
        one.flow_id, one.__cause__ = id, error.__cause__
        errors[id] = one
    return errors


def batch(done: str, errors: Mapping[str, FlowStateError], *, total: int) -> FlowStateBatchError:
    """Return the error of a batch of which some flow states failed.

    Args:
        done: What was not done to these, as a participle such as "saved".
        errors: The error of each of these, by its id.
        total: How many flow states the batch has.
    """
    shown = "; ".join(str(error) for error in list(errors.values())[:_SHOWN_OF_BATCH])
    if total == 1:
        which = f"The flow state could not be {done} (errors has it by id)"
    elif len(errors) == total:
        which = f"None of the {total} flow states could be {done} (errors has each by id)"
    else:
        which = f"{len(errors)} of {total} flow states could not be {done}, the others were (errors has each by id)"
    more = f"; and {len(errors) - _SHOWN_OF_BATCH} more" if len(errors) > _SHOWN_OF_BATCH else ""
    return FlowStateBatchError(f"{which}: {shown}{more}", errors=errors)


def in_cache(step: object) -> str:
    """Return the path of a step's entry."""
    return f"cache[{shown_key(step)}]"


def in_events(step: object) -> str:
    """Return the path of an event's payload."""
    return f"events_triggered[{shown_key(step)}]"


def in_extra(key: object) -> str:
    """Return the path of an unknown key that an update names."""
    return f"extra[{shown_key(key)}]"


def in_model(path: str, key: str) -> str:
    """Return the path of an unknown key of the model at the path."""
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{shown_key(key)}]"


def shown_path(path: str) -> str:
    """Return a path for the text of an error: whole, or its two ends and how many steps are between them."""
    if len(path) <= 2 * _LONGEST_END:
        return path
    steps = _STEPS.findall(path)
    begin, end = _fitting(steps), _fitting(reversed(steps))
    if len(begin) + len(end) >= len(steps):
        return f"{path[:_LONGEST_END]}…{path[-_LONGEST_END:]}"
    return f"{''.join(begin)} … {len(steps) - len(begin) - len(end)} steps … {''.join(reversed(end))}"


def _fitting(steps: Iterable[str]) -> list[str]:
    """Return the first steps, as many as fit into one end of a path."""
    found: list[str] = []
    left = _LONGEST_END
    for step in steps:
        left -= len(step)
        if left < 0:
            break
        found.append(step)
    return found


def shown_key(key: object) -> str:
    """Return a key for a path: in double quotes if it is text, and cut."""
    if not isinstance(key, str):
        return shown(key, 80)
    text = json.dumps(key if len(key) <= 80 else key[:80] + "…", ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()  # a lone surrogate could not be printed
