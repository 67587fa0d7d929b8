"""JSON text that gives back exactly what went in, or an error with the path of what it cannot hold.

Encoding tries orjson first, told to take nothing but plain values with strings as keys: it refuses other keys,
integers beyond 64 bits, lone surrogates and every type that would need a form of its own, and is several times
faster than a check in Python alone. The one thing it changes in silence is NaN and the infinities, to null, so
text with a null in it is written again by pydantic_core, which writes them as those words. What orjson refuses
takes a careful walk, and the standard library where pydantic_core refuses too. Decoding never uses orjson: it
reads large integers as floats.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import timezone
from typing import Any, Final

import orjson
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from ..errors import FlowStateEncodeError
from ..models import WireModel
from .collector import collector_paused
from .wire import to_wire

MAX_DEPTH: Final = 200
MAX_INTEGER_DIGITS: Final = 4300  # what Python reads back from text unless told otherwise
MAX_DEPTH_READ: Final = 300
"""More than is ever written, with what packed values and backups have around it; Python itself goes to 1,000 frames."""

_TOO_LARGE_INTEGER: Final = 10**MAX_INTEGER_DIGITS
_PLAIN_ONLY: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
_LARGE_TEXT: Final = 16 * 1024
_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def encode(value: Any, path: str) -> bytes:
    """Return the value as JSON in UTF-8, without spaces.

    Args:
        value: Any JSON value; strings as keys only. Models, dataclasses, enums, dates, UUIDs and such are
            written as their JSON form, bytes as base64.
        path: Where the value stands in the flow state, for errors.

    Raises:
        FlowStateEncodeError: The value, or one inside it, cannot be written without loss; `path` leads to it.
    """
    try:
        text = orjson.dumps(value, option=_PLAIN_ONLY)
    except TypeError:
        return _encode_with_care(value, path)
    if text.rfind(b"null") < 0:  # from the end, which is up to four times faster than `in`
        return text
    return to_json(value, inf_nan_mode="constants")  # a null may have been NaN or an infinity


def _encode_with_care(value: Any, path: str) -> bytes:
    form = plain(value, path)
    try:
        return to_json(form, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError):  # lone surrogates, or deeper than pydantic_core goes
        return json.dumps(form, separators=(",", ":")).encode()


def decode(text: bytes | str) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: The text is not JSON, or nested deeper than anything that is written.
    """
    try:
        return _decode_plain(text)
    except (ValueError, TypeError):  # deeper than 200, among others; TypeError: a string with a lone surrogate
        return _decode_deep(text if isinstance(text, str) else text.decode())  # of bytes json would guess the encoding


def decode_each(texts: Sequence[bytes]) -> list[Any]:
    """Return the value of each JSON text: of many small ones in less time than `decode` of one after the other.

    Raises:
        ValueError: As `decode`, of one of them.
    """
    if len(texts) > 1:
        fence = secrets.token_hex(8)  # nobody knows it, so damaged texts cannot be well-formed together across it
        try:
            values = _decode_plain(b"[" + f',"{fence}",'.encode().join(texts) + b"]")
        except (ValueError, TypeError):
            values = []
        if len(values) == 2 * len(texts) - 1 and values[1::2] == [fence] * (len(texts) - 1):
            return list(values[::2])
    return [decode(text) for text in texts]


def _decode_plain(text: bytes | str) -> Any:
    if sys.version_info >= (3, 12) or len(text) < _LARGE_TEXT:
        return from_json(text, cache_strings="keys")
    with collector_paused():  # before Python 3.12 a collection may come in the middle of building a value
        return from_json(text, cache_strings="keys")


def _decode_deep(text: str) -> Any:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = _containers([value])
    for _ in range(MAX_DEPTH_READ + 1):
        if not level:
            return value
        level = [inner for outer in level for inner in _containers(outer)]
    # How deep json itself goes differs between interpreters, and copies and comparisons go less deep.
    raise ValueError("nested too deeply")


def _containers(container: dict[str, Any] | list[Any]) -> list[dict[str, Any] | list[Any]]:
    members = container.values() if isinstance(container, dict) else container
    return [member for member in members if isinstance(member, (dict, list))]


def plain(value: Any, path: str, depth: int = 0) -> Any:
    """Return the JSON form of the value in dicts, lists and scalars, or raise FlowStateEncodeError."""
    kind = type(value)
    if kind is bool or value is None or kind is float:
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value, path, depth)
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        if not -_TOO_LARGE_INTEGER < value < _TOO_LARGE_INTEGER:
            raise _refusal(
                path, f"an integer of more than {MAX_INTEGER_DIGITS:,} digits, which Python does not read back"
            )
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if depth >= MAX_DEPTH:
        raise _refusal(path, f"nested more than {MAX_DEPTH} deep, or inside itself")
    if isinstance(value, WireModel):
        return plain(to_wire(value), path, depth)
    if isinstance(value, Mapping):
        return {_key(key, path): plain(value[key], f"{path}[{_shown(key)}]", depth + 1) for key in value}
    if isinstance(value, (list, tuple)):
        return [plain(member, f"{path}[{index}]", depth + 1) for index, member in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name), f"{path}.{field.name}", depth + 1)
            for field in dataclasses.fields(value)
        }
    if (of_firestore := _firestore_form(value)) is not None:
        return plain(of_firestore, path, depth)
    return _json_form(value, path, depth)


def _json_form(value: Any, path: str, depth: int) -> Any:
    try:
        form = to_jsonable_python(value, by_alias=True, bytes_mode="base64", inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError, RecursionError):
        form = None
    if form is None or (isinstance(form, (dict, list)) and not isinstance(value, BaseModel)):
        # Sets and iterators are refused too: a list would claim an order, or use the iterator up.
        raise _refusal(path, f"of type {type(value).__qualname__}, which has no JSON form")
    return plain(form, path, depth)


def _firestore_form(value: Any) -> Any:
    """Return the JSON form of a value of Firestore's own types: time, place, reference, vector."""
    if not type(value).__module__.startswith(("google.cloud.firestore", "google.api_core", "proto.")):
        return None
    if hasattr(value, "nanosecond"):
        return _time_form(value)
    if hasattr(value, "latitude") and hasattr(value, "longitude"):
        return {"latitude": value.latitude, "longitude": value.longitude}
    if hasattr(value, "path") and hasattr(value, "parent"):
        return value.path
    if hasattr(value, "to_map_value"):
        return list(value)
    return None


def _time_form(moment: Any) -> str:
    """Return a time with nanoseconds in RFC 3339, the same for all that are equal: a copy has microseconds alone."""
    try:
        utc = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except OverflowError:  # before the year 1 or after 9999 in UTC
        return str(moment.isoformat())
    nanos = moment.nanosecond or moment.microsecond * 1000
    digits = f"{nanos // 1000:06}" if nanos % 1000 == 0 else f"{nanos:09}"
    return f"{utc.year:04}-{utc.month:02}-{utc.day:02}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}.{digits}Z"


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str) or isinstance(key, enum.Enum):
        raise _refusal(f"{path}[{_shown(key)}]", f"under a key of type {type(key).__qualname__}; JSON keys are strings")
    return _text(key, path)


def _text(text: str, path: str) -> str:
    if _SURROGATE_PAIR.search(text):
        raise _refusal(
            path, "text with two surrogates that JSON would join to one character: decode it as UTF-16 first"
        )
    return str(text) if type(text) is not str else text


def _shown(key: Any) -> str:
    return json.dumps(key if len(key) <= 80 else key[:80] + "…") if isinstance(key, str) else repr(key)[:80]


def _refusal(path: str, what: str) -> FlowStateEncodeError:
    shown = path if len(path) <= 200 else f"{path[:100]}…{path[-100:]}"
    return FlowStateEncodeError(f"Cannot store {shown}: {what}.", path=path)
