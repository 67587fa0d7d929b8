"""Entries of ``cache``: what a run records of a step, a wait, a child or a time, and what it shows to people."""

from __future__ import annotations

import dataclasses
import traceback
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, Literal

from pydantic import BaseModel, RootModel
from pydantic_core import from_json, to_json

from firestore_flowstate import CacheEntry, FlowStateError

from .errors import (
    FlowCancelledError,
    FlowFailedError,
    InvalidPayloadError,
    StepFailedError,
    StepInterruptedError,
    WaitTimeoutError,
)
from .reasons import reason_in

Kind = Literal["step", "interrupt", "sleep", "child", "now", "show"]

_MOST_OF_A_STACKTRACE: Final = 16_000
"""How many characters are stored of a stacktrace. Each drive of the run loads it, and its end says what was raised."""
_MOST_OF_A_MESSAGE: Final = 4_000
"""How many characters are stored of an error's text, and of each entry of its stacktrace: more than anybody reads, and
so few that the end of a run can be stored, whatever a library puts into its errors."""

_HAVE_MEMBERS: Final = (list, tuple, set, frozenset, deque)
"""Types whose members JSON has one after the other, in their order."""


def result_entry(value: Any, **about: Any) -> CacheEntry:
    """Return the entry of a result in its JSON form.

    Args:
        value: The result in its JSON form.
        about: What is recorded beside it, by its name on the wire. What is None is left out.
    """
    known = {key: item for key, item in about.items() if item is not None}
    if value is None:
        return CacheEntry(empty=True, **known)
    return CacheEntry(value=value, **known)


def error_entry(error: Mapping[str, Any], **about: Any) -> CacheEntry:
    """Return the entry of what failed for good."""
    return result_entry(None, error={key: item for key, item in error.items() if item is not None}, **about)


def error_record(error: BaseException, *, attempts: int = 1) -> dict[str, Any]:
    """Return what is recorded of an error: type, message, attempts, stacktrace."""
    return {
        "type": type(error).__name__,
        "message": message_of(error),
        "attempts": attempts,
        "stacktrace": stacktrace_of(error),
    }


def message_of(error: BaseException) -> str:
    """Return the text of the error, or a text that says so if the error's own code fails to make one."""
    try:
        return kept_text(str(error))
    except Exception as reason:  # noqa: BLE001  # it is the code of an application
        return f"its text cannot be made, {type(reason).__name__}"


def kept_text(text: str) -> str:
    """Return the text of an error or a cancellation as it is stored: of a very long one the beginning."""
    text = _storable(text)
    return text if len(text) <= _MOST_OF_A_MESSAGE else text[:_MOST_OF_A_MESSAGE] + "…"


def stacktrace_of(error: BaseException) -> str:
    """Return the stacktrace as text; of a very long one the end, which has the error itself.

    If the text cannot be made of what the error has, as of a SyntaxError whose line is a number, it says so.
    """
    try:
        lines = [*map(_storable, traceback.format_exception(type(error), error, error.__traceback__))]
    except Exception as reason:  # noqa: BLE001  # it is the code of an application
        return f"its stacktrace cannot be made, {type(reason).__name__}"
    text = "".join(line if len(line) <= _MOST_OF_A_MESSAGE else line[:_MOST_OF_A_MESSAGE] + "…\n" for line in lines)
    return text if len(text) <= _MOST_OF_A_STACKTRACE else "…" + text[-_MOST_OF_A_STACKTRACE:]


def _storable(text: str) -> str:
    """Return the text as every layout can hold it: the name of a file may have lone surrogates in it."""
    return text.encode(errors="backslashreplace").decode()


def arguments_sum(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Return the CRC-32 of the arguments as JSON with sorted keys.

    None: they have no JSON form, or one of them is an iterator, which would be used up before the step has it.
    """
    if any(isinstance(each, Iterator) for each in (*args, *kwargs.values())):
        return None
    try:
        given = [list(args), dict(kwargs)]
        plain = from_json(to_json(given, by_alias=True, inf_nan_mode="constants"))
        return zlib.crc32(to_json(_sorted(plain, given), inf_nan_mode="constants"))
    except Exception:  # noqa: BLE001  # whatever a serializer of the application raises: it is never an error
        return None


def _sorted(form: Any, value: Any) -> Any:
    """Return the JSON form with sorted keys, and with what sets became in an order that every process has.

    Args:
        form: The JSON form.
        value: The value that it is of; None: it is not known.
    """
    if isinstance(value, RootModel):
        value = value.root
    if isinstance(form, dict):
        inside = _by_key(form, value)
        return {key: _sorted(form[key], inside.get(key)) for key in sorted(form)}
    if not isinstance(form, list):
        return form
    is_known = isinstance(value, _HAVE_MEMBERS) and len(value) == len(form)
    members = list(map(_sorted, form, value if is_known else repeat(None)))
    if isinstance(value, (set, frozenset)):  # which differs with PYTHONHASHSEED
        members.sort(key=lambda member: to_json(member, inf_nan_mode="constants"))
    return members


def _by_key(form: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """Return the values behind the members of a JSON form, by their keys in it, as far as they are known."""
    if isinstance(value, Mapping):
        return dict(zip(form, value.values(), strict=True)) if len(form) == len(value) else {}
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        fields: Mapping[str, Any] = getattr(type(value), "__pydantic_fields__", {})
        names = fields or [field.name for field in dataclasses.fields(value)]
        inside = {
            (name in fields and fields[name].serialization_alias) or name: getattr(value, name, None) for name in names
        }
        computed = getattr(getattr(type(value), "__pydantic_decorators__", None), "computed_fields", {})
        inside.update((each.info.alias or name, getattr(value, name)) for name, each in computed.items())
        return {**inside, **(getattr(value, "__pydantic_extra__", None) or {})}
    return {}


def order_of(entry: CacheEntry) -> int | None:
    """Return the ``n`` of the entry: its place in the order in which results reach the function.

    An entry that Genkit JS wrote has none, nor has one that shows something to people: these give None.
    """
    n = _about(entry).get("n")
    if type(n) is int:
        return n
    return int(n) if isinstance(n, float) and n.is_integer() else None  # Genkit JS may write 3 as 3.0


def kind_of(entry: CacheEntry) -> str:
    """Return the kind of the operation that the entry is of; see `Kind`."""
    return str(_about(entry).get("kind", "step"))


def is_of_genkit(entry: CacheEntry) -> bool:
    """Return whether Genkit JS wrote the entry, which then fits any kind and arguments."""
    return order_of(entry) is None


def child_of(entry: CacheEntry) -> str | None:
    """Return the id of the child that the entry is of."""
    child = _about(entry).get("child")
    return child if isinstance(child, str) else None


def sum_of(entry: CacheEntry) -> int | None:
    """Return the CRC-32 of the arguments, or None if it is not recorded."""
    return _about(entry).get("args")


def failed(entry: CacheEntry) -> bool:
    """Return whether the entry is of something that failed for good."""
    return isinstance(_about(entry).get("error"), dict)


def value_of(entry: CacheEntry) -> Any:
    """Return the result in its JSON form; an entry with ``empty: true``, as of None, gives None."""
    return entry.__dict__.get("value")  # which is None if it is absent


def error_of(entry: CacheEntry, *, flow_id: str, key: str) -> FlowStateError | None:
    """Return the error that the entry records, built from the entry alone; None: it records a result."""
    error = _about(entry).get("error")
    if not isinstance(error, dict):
        return None
    kind, message = kind_of(entry), str(error.get("message", ""))
    if kind == "interrupt":
        if error.get("type") == "WaitTimeoutError":
            return WaitTimeoutError(message, flow_id=flow_id, step=key)
        return InvalidPayloadError(message, flow_id=flow_id, step=key)
    if kind == "child":
        return _error_of_child(error, message, flow_id=flow_id, key=key)
    return _error_of_step(error, message, flow_id=flow_id, key=key)


def attempts_in_words(number: int) -> str:
    """Return a number of attempts in words, as ``1 attempt`` or ``2 attempts``."""
    return f"{number} attempt{'' if number == 1 else 's'}"


def _error_of_step(error: Mapping[str, Any], message: str, *, flow_id: str, key: str) -> StepFailedError:
    attempts, name = error.get("attempts"), str(error.get("type", "Exception"))
    attempts = attempts if type(attempts) is int else 1
    if error.get("interrupted"):
        kind: type[StepFailedError] = StepInterruptedError
        text = message
    else:
        kind = StepFailedError
        text = f"The step {key!r} of the run {flow_id!r} failed after {attempts_in_words(attempts)}: {name}: {message}"
    return kind(
        text,
        flow_id=flow_id,
        step=key,
        attempts=attempts,
        error_type=name,
        error=message,
        stacktrace=error.get("stacktrace"),
    )


def _error_of_child(error: Mapping[str, Any], message: str, *, flow_id: str, key: str) -> FlowFailedError:
    about: dict[str, Any] = {"flow_id": flow_id, "error": message, "stacktrace": error.get("stacktrace"), "step": key}
    text = f"The child {key!r} of the run {flow_id!r} failed: {message}"
    if error.get("type") == "FlowCancelledError":
        return FlowCancelledError(text, reason=reason_in(message), **about)
    return FlowFailedError(text, **about)


def _about(entry: CacheEntry) -> Mapping[str, Any]:
    return entry.__pydantic_extra__ or {}  # what `model_extra` returns, by a call less
