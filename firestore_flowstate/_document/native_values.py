"""Between Python values and Firestore's own: maps, arrays and scalars, as Genkit JS has them.

Values that JSON does not have load as datetime, bytes and types of Google's client, and are written back exactly.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from operator import itemgetter
from typing import Any, Final, TypeAlias

from .._error_texts import NOT_UTF8, method_fails, shown_key
from .._limits import EPOCH, MAX_NAME_BYTES, NANOS, SECONDS, is_int64, is_reserved, utf8_bytes
from .._rpc.messages import Timestamp, Value
from ..errors import FlowStateDecodeError, FlowStateEncodeError, shown
from ..models import WireModel
from .head import write_scalar
from .json_forms import attribute, plain
from .model_fields import is_of_pydantic
from .wire import to_wire

MAX_DEPTH: Final = 20  # https://firebase.google.com/docs/firestore/quotas: depth of maps and arrays
ReferenceOf: TypeAlias = Callable[[str], Any]
"""Makes a DocumentReference of Google's client from a resource name."""

_ADVICE: Final = 'The serialized layout (layout="serialized") holds any JSON.'


def write_value(message: Value, value: Any, path: str, depth: int = 0, *, names: int) -> None:
    """Fill a protobuf value.

    Args:
        message: The protobuf value to fill.
        value: What to store.
        path: Its path in the flow state, for errors.
        depth: How many maps and arrays it is in.
        names: The bytes of the names on the way to it, with the dots between them; Firestore limits their sum to 1,500.

    Raises:
        FlowStateEncodeError: Firestore cannot hold it; `path` leads to the value that it cannot hold.
    """
    kind = type(value)
    if kind is str:
        _write_text(message, value, path)
    elif value is None:
        message.null_value = 0
    elif kind is bool or kind is int or kind is float:
        if kind is int and not is_int64(value):
            raise _unstorable(path, f"the integer {shown(value, 40)} has more than 64 bits")
        write_scalar(message, value)
    elif kind is dict:
        _write_map(message, value, path, depth, names)
    elif kind is list:
        _write_array(message, value, path, depth, names)
    else:
        _write_other(message, value, path, depth, names)


def read_value(value: Value, reference_of: ReferenceOf) -> Any:
    """Return what a protobuf value holds.

    Raises:
        FlowStateDecodeError: Its type is not known, or Python has no value for it, as for a time after the year 9999.
    """
    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        return _read_map(value, reference_of)
    if kind == "array_value":
        return [read_value(member, reference_of) for member in value.array_value.values]
    if kind == "null_value" or kind is None:
        return None
    if kind == "timestamp_value":
        return _read_timestamp(value.timestamp_value)
    if kind == "geo_point_value":
        from google.cloud.firestore_v1 import GeoPoint

        return GeoPoint(value.geo_point_value.latitude, value.geo_point_value.longitude)
    if kind == "reference_value":
        try:
            return reference_of(value.reference_value)
        except ValueError as error:
            raise FlowStateDecodeError(f"a reference names no document: {value.reference_value!r:.200}") from error
    if kind in ("string_value", "integer_value", "double_value", "boolean_value", "bytes_value"):
        return getattr(value, kind)
    raise FlowStateDecodeError(f"a value has the type {kind}, which this version of the package does not know")


def in_order(fields: Mapping[str, Value]) -> list[tuple[str, Value]]:
    """Return the entries of a map by their sorted names. Firestore keeps no order, and protobuf gives any."""
    return sorted(fields.items(), key=itemgetter(0))


def same_fields(fields: Mapping[str, Value], others: Mapping[str, Value]) -> bool:
    """Return whether two maps hold the same values, as Firestore keeps them: NaN equals itself."""
    return fields.keys() == others.keys() and all(_is_same(value, others[name]) for name, value in fields.items())


def _is_same(value: Value, other: Value) -> bool:
    kind = value.WhichOneof("value_type")
    if kind != other.WhichOneof("value_type"):
        return False
    if kind == "map_value":
        return same_fields(value.map_value.fields, other.map_value.fields)
    if kind == "array_value":
        members, others = value.array_value.values, other.array_value.values
        return len(members) == len(others) and all(map(_is_same, members, others))
    if kind == "timestamp_value":  # Firestore keeps whole microseconds alone
        cut, other_cut = value.timestamp_value, other.timestamp_value
        return bool(cut.seconds == other_cut.seconds and cut.nanos // 1000 == other_cut.nanos // 1000)
    if kind == "double_value" and math.isnan(value.double_value):
        return math.isnan(other.double_value)
    return bool(value == other)


def check_key(key: object, path: str) -> str:
    """Return the key if Firestore can hold a map entry of that name, else raise FlowStateEncodeError."""
    if not isinstance(key, str):
        raise _unstorable(path, f"the key {shown(key, 80)} is not a string")
    if not key:
        raise _unstorable(path, "a key is empty")
    if is_reserved(key):
        raise _unstorable(path, f"the key {key!r:.80} matches __.*__, which Firestore reserves")
    size = utf8_bytes(key)
    if size is None:
        raise _unstorable(path, f"the key {key!r:.80} {NOT_UTF8}")
    if size > MAX_NAME_BYTES:
        raise _unstorable(path, f"the key {key!r:.80} has {size:,} bytes, more than {MAX_NAME_BYTES:,}")
    return key


def down_to(key: str, path: str, names: int) -> int:
    """Return the bytes of the names on the way to an entry of a map, given those on the way to the map.

    Arrays on the way do not count.

    Raises:
        FlowStateEncodeError: They are more than the 1,500 that Firestore takes.
    """
    down = names + 1 + len(key.encode())
    if down > MAX_NAME_BYTES:
        raise _unstorable(path, f"the names down to it have {down:,} bytes together, more than {MAX_NAME_BYTES:,}")
    return down


def _write_text(message: Value, text: str, path: str) -> None:
    try:
        message.string_value = text
    except (UnicodeEncodeError, ValueError):
        raise _unstorable(path, f"its text {NOT_UTF8}") from None


def _write_map(message: Value, mapping: Mapping[Any, Any], path: str, depth: int, names: int) -> None:
    if depth >= MAX_DEPTH:
        raise _unstorable(path, f"nested more than {MAX_DEPTH} deep")
    message.map_value.SetInParent()
    fields = message.map_value.fields
    # Asked by key, as the other layouts ask: the items of a mapping of the application's could be others.
    for key, member in mapping.items() if type(mapping) is dict else ((key, mapping[key]) for key in mapping):
        member_path = f"{path}[{shown_key(key)}]"
        name = check_key(key, member_path)
        if name in fields:  # to fill the entry again would lose the value of the other key, or put both together
            raise _unstorable(member_path, f"the key {shown(name, 80)} is the same text as another one")
        down = down_to(name, member_path, names)
        write_value(fields[name], member, member_path, depth + 1, names=down)


def _write_array(message: Value, members: list[Any] | tuple[Any, ...], path: str, depth: int, names: int) -> None:
    if depth >= MAX_DEPTH:
        raise _unstorable(path, f"nested more than {MAX_DEPTH} deep")
    message.array_value.SetInParent()
    values = message.array_value.values
    for index, member in enumerate(members):
        member_path = f"{path}[{index}]"
        added = values.add()
        write_value(added, member, member_path, depth + 1, names=names)
        if added.WhichOneof("value_type") == "array_value":
            raise _unstorable(member_path, "an array directly inside an array")


def _write_other(message: Value, value: Any, path: str, depth: int, names: int) -> None:
    try:
        _write_any_other(message, value, path, depth, names)
    except FlowStateEncodeError:
        raise
    except Exception as error:  # raised by a method of a type of the application's
        raise _unstorable(path, method_fails(value, error)) from error


def _write_any_other(message: Value, value: Any, path: str, depth: int, names: int) -> None:
    if isinstance(value, datetime):
        _write_timestamp(message, value, path)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        message.bytes_value = bytes(value)
    elif isinstance(value, WireModel):
        _write_map(message, to_wire(value), path, depth, names)
    elif isinstance(value, Mapping):
        _write_map(message, value, path, depth, names)
    elif isinstance(value, (list, tuple)):
        _write_array(message, value, path, depth, names)
    elif isinstance(value, enum.Enum):
        write_value(message, value.value, path, depth, names=names)
    elif dataclasses.is_dataclass(value) and not (isinstance(value, type) or is_of_pydantic(value)):
        fields = {field.name: attribute(value, field.name, path) for field in dataclasses.fields(value)}
        _write_map(message, fields, path, depth, names)
    elif not _write_firestore_type(message, value, path, names):
        write_value(message, plain(value, path), path, depth, names=names)


def _write_firestore_type(message: Value, value: Any, path: str, names: int) -> bool:
    if not type(value).__module__.startswith("google.cloud.firestore"):
        return False
    if hasattr(value, "_document_path"):  # a reference of either client
        message.reference_value = value._document_path  # the resource name has no public name
    elif hasattr(value, "latitude"):
        message.geo_point_value.latitude = value.latitude
        message.geo_point_value.longitude = value.longitude
    elif hasattr(value, "to_map_value"):
        fields = message.map_value.fields
        for key, member in value.to_map_value().items():  # `_write_map` would refuse its key, which Firestore reserves
            write_value(fields[key], member, key, names=down_to(key, path, names))
    else:
        return False
    return True


def _write_timestamp(message: Value, moment: datetime, path: str) -> None:
    # Computed in whole numbers, here and below: the methods of DatetimeWithNanoseconds compute in floats, and are off
    # by up to a second before 1970 and after 2255.
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)) - EPOCH
    seconds = since.days * 86_400 + since.seconds
    if seconds not in SECONDS:
        raise _unstorable(path, f"{moment.isoformat()} is not of the years 1 to 9999 in UTC")
    given: Any = moment
    exact = type(moment) is not datetime and isinstance(moment, _datetime_with_nanoseconds())
    nanos = given.nanosecond if exact else 0
    message.timestamp_value.seconds = seconds
    message.timestamp_value.nanos = nanos or since.microseconds * 1000


def _read_timestamp(timestamp: Timestamp) -> datetime:
    if timestamp.seconds not in SECONDS or timestamp.nanos not in NANOS:
        raise FlowStateDecodeError("a timestamp is not of the years 1 to 9999")
    moment = EPOCH + timedelta(seconds=timestamp.seconds)
    date_and_time = moment.timetuple()[:6]
    exact: datetime = _datetime_with_nanoseconds()(*date_and_time, nanosecond=timestamp.nanos, tzinfo=timezone.utc)
    return exact


def _datetime_with_nanoseconds() -> Any:
    from google.api_core.datetime_helpers import DatetimeWithNanoseconds

    return DatetimeWithNanoseconds


def _read_map(value: Value, reference_of: ReferenceOf) -> Any:
    mapping = {key: read_value(member, reference_of) for key, member in in_order(value.map_value.fields)}
    if mapping.get("__type__") == "__vector__" and isinstance(mapping.get("value"), list):
        from google.cloud.firestore_v1.vector import Vector

        try:
            return Vector(mapping["value"])
        except (TypeError, ValueError) as error:
            raise FlowStateDecodeError("a vector has a member that is not a number") from error
    return mapping


def _unstorable(path: str, what: str) -> FlowStateEncodeError:
    return FlowStateEncodeError(f"Cannot store {path} in the native layout: {what}. {_ADVICE}", path=path)


NUMBER: Final = ("integer_value", "double_value")
"""The kinds of values that are numbers."""


def number_of(value: Value) -> int | float:
    """Return a number in its exact type."""
    number: int | float = (
        value.double_value if value.WhichOneof("value_type") == "double_value" else value.integer_value
    )
    return number


def required_field(fields: Mapping[str, Value], name: str, *kinds: str) -> Any:
    """Return the value of a field of one of these kinds, as `field_of` does; FlowStateDecodeError if it is missing."""
    value = field_of(fields, name, *kinds)
    if value is None:
        raise FlowStateDecodeError(f"its {name} is missing")
    return value


def field_of(fields: Mapping[str, Value], name: str, *kinds: str) -> Any:
    """Return the value of a field of one of these kinds; None if it is missing or null.

    Raises:
        FlowStateDecodeError: It is of another kind; the text says which.
    """
    kind = fields[name].WhichOneof("value_type") if name in fields else "null_value"
    if kind == "null_value":
        return None
    if kind not in kinds:
        raise FlowStateDecodeError(f"its {name} has the type {kind}")
    return getattr(fields[name], kind)


def map_field(fields: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    """Return the fields of a map; none if it is missing or null. FlowStateDecodeError: it is of another kind."""
    value = field_of(fields, name, "map_value")
    return {} if value is None else value.fields
