"""The JSON forms of scalars: numbers, texts, bytes, times, ids and paths, and Firestore's own types."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, time, timedelta, timezone
from fractions import Fraction
from typing import Any, Final

from pydantic import Secret, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

from .model_fields import unstorable

MAX_INTEGER_DIGITS: Final = 4300  # Python's default limit for reading an integer from text

_TOO_LARGE_INTEGER: Final = 10**MAX_INTEGER_DIGITS
_SURROGATE_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class WithoutFormError(Exception):
    """A value is of a type without a JSON form; the model that it is in may know one."""

    def __init__(self, value: Any, path: str) -> None:
        super().__init__(path)
        self.value = value
        self.path = path


def text_form(text: str, path: str) -> str:
    """Return a text, also of a subclass, as a plain str; one with a pair of surrogates is refused."""
    if _SURROGATE_PAIR.search(text):
        raise unstorable(
            path, "text with two surrogates that JSON would join to one character: decode it as UTF-16 first"
        )
    return str.__str__(text)  # for an enumeration and other subclasses this is the text itself


def integer_form(value: int, path: str) -> int:
    """Return an integer, also of a subclass, as a plain int; one of too many digits is refused."""
    if not -_TOO_LARGE_INTEGER < value < _TOO_LARGE_INTEGER:
        raise unstorable(
            path, f"an integer of more than {MAX_INTEGER_DIGITS:,} digits, which Python does not read back"
        )
    return int.__int__(value)


def bytes_form(value: bytes, path: str, config: Mapping[str, Any] | None) -> str:
    """Return bytes as text: in base64, or within a model in the form that the model reads back."""
    how = "base64" if config is None else config.get("ser_json_bytes", "utf8")
    if how == "base64":
        return base64.b64encode(value).decode()
    if how == "hex":
        return value.hex()
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise unstorable(
            path,
            "bytes that are not UTF-8, in a model whose ser_json_bytes and val_json_bytes are not 'base64' or 'hex'",
        ) from None


def scalar_form(value: Any, path: str) -> Any:
    """Return the text of a time, id, decimal, path, address or the like, from which pydantic reads it back."""
    if isinstance(value, (Secret, SecretStr, SecretBytes)):
        raise unstorable(path, "a secret, which its JSON form would hide: store what get_secret_value() returns")
    if hasattr(value, "__fspath__"):
        return text_form(str(value), path)
    if isinstance(value, (datetime, time)):
        value = _in_whole_minutes(value, path)
    if getattr(value, "nanosecond", 0):  # a time of pandas: pydantic would cut it to microseconds
        return str(value.isoformat())
    if isinstance(value, (Iterable, re.Pattern)):  # the text of a pattern leaves out its flags
        form = None if not hasattr(value, "hosts") else str(value)  # an IP network is iterable too, and has a text
    elif isinstance(value, Fraction):  # pydantic before 2.14 has no form for it outside of a model
        form = str(value)
    elif isinstance(value, complex):
        form = str(value).strip("()")  # pydantic leaves out a real part of -0.0
    else:
        try:
            form = to_jsonable_python(value)
        except (PydanticSerializationError, ValueError, RecursionError):
            form = None
    if not isinstance(form, str):
        raise WithoutFormError(value, path)
    return form


def _in_whole_minutes(value: datetime | time, path: str) -> datetime | time:
    """Return the time with an offset of whole minutes, which is all that its text can hold.

    A datetime with another offset, such as one of local mean time, comes back in UTC.
    """
    if value.tzinfo is None:
        return value
    offset = value.utcoffset()
    if offset is not None and offset % timedelta(minutes=1) == timedelta():
        return value
    if offset is not None and isinstance(value, datetime):
        return value.astimezone(timezone.utc)
    raise unstorable(path, "a time whose zone has no offset of whole minutes, which its text cannot hold")


def firestore_form(value: Any) -> Any:
    """Return the JSON form of a value of Firestore's own types: time, geo point, reference, vector."""
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
    """Return a time with nanoseconds in RFC 3339.

    Times that are equal get the same text. A copy of such a time has 0 as its `nanosecond`, so its microseconds count.
    """
    try:
        utc = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    except OverflowError:  # before the year 1 or after 9999 in UTC
        return str(moment.isoformat())
    nanos = moment.nanosecond or moment.microsecond * 1000
    digits = f"{nanos // 1000:06}" if nanos % 1000 == 0 else f"{nanos:09}"
    return f"{utc.year:04}-{utc.month:02}-{utc.day:02}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}.{digits}Z"
