"""Firestore's limits: what names, field paths, numbers and times may be, and the bytes that documents take.

Sources: https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields,
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#fieldreference and
https://firebase.google.com/docs/firestore/storage-size
"""

from __future__ import annotations

import os
import re
from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple, TypeAlias

from ._error_texts import NOT_UTF8
from .errors import InvalidFlowIdError, shown

MAX_NAME_BYTES: Final = 1500  # of UTF-8: Firestore's limit for an id, and for the name of a field
MAX_PATH_BYTES: Final = 1499  # of a field path that a mask names, without its quotes
_RESERVED: Final = re.compile(r"__.*__", re.DOTALL)
_SIMPLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAME_IN_PATH: Final = re.compile(r"`(?:[^`\\]|\\.)*`|[^.`]+", re.DOTALL)
_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
MAX_DOCUMENT_BYTES: Final = 1_048_576  # 1 MiB, of names and values together
_PER_DOCUMENT: Final = 32  # bytes that Firestore adds to the name and the fields of a document
_PER_NAME: Final = 16  # bytes that Firestore adds to the ids in the name of a document
_EMPTY: Final = 1  # byte of an empty map or array, as the emulator counts it: the documentation does not say
_FIXED: Final = {
    "integer_value": 8,
    "double_value": 8,
    "boolean_value": 1,
    "null_value": 1,
    "timestamp_value": 8,
    "geo_point_value": 16,
}
MAX_QUERIED_BYTES: Final = 1499  # of UTF-8, of a text in a filter: Firestore refuses more, and cuts it in its indexes

Document: TypeAlias = Any
Value: TypeAlias = Any
"""Messages of protobuf. They are Any here, so that this module does not import protobuf."""

MIN_INTEGER: Final = -(2**63)  # Firestore's integers are signed ones of 64 bits
MAX_INTEGER: Final = 2**63 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
SECONDS: Final = range(-62_135_596_800, 253_402_300_800)  # after EPOCH: the years 1 to 9999, which a Timestamp holds
NANOS: Final = range(1_000_000_000)


class Moment(NamedTuple):
    """A time of the server, exact to the nanosecond."""

    seconds: int
    nanos: int

    def as_datetime(self) -> datetime:
        """Return the moment in UTC, cut to microseconds."""
        return EPOCH + timedelta(seconds=self.seconds, microseconds=self.nanos // 1000)

    def just_before(self) -> Moment:
        """Return the moment one microsecond earlier, which is how finely Firestore tells versions apart."""
        nanos = self.nanos - 1000
        return Moment(self.seconds, nanos) if nanos >= 0 else Moment(self.seconds - 1, nanos + len(NANOS))


def moment_of(timestamp: Any) -> Moment:
    """Return a protobuf Timestamp as a Moment."""
    return Moment(timestamp.seconds, timestamp.nanos)


def check_flow_id(id: str) -> str:
    """Return the id if it can name a document, else raise InvalidFlowIdError with the rule it breaks.

    An id of a subclass of str, such as an enumeration, comes back as the text that it is equal to.
    """
    if not isinstance(id, str):
        raise InvalidFlowIdError(f"A flow id is a string, not {type(id).__name__}: {shown(id, 200)}")
    text = str.__str__(id)  # of a subclass too, whose own methods could say anything
    if rule := _broken_rule(text):
        raise InvalidFlowIdError(f"The flow id {text!r:.200} {rule}.", flow_id=text)
    return text


def is_flow_id(id: object) -> bool:
    """Return whether it is a text that can name a document."""
    return isinstance(id, str) and _broken_rule(str.__str__(id)) is None


def check_flow_ids(ids: Iterable[str]) -> list[str]:
    """Return the ids of a call for many, as they were given.

    Raises:
        TypeError: The argument is one string, whose characters would be taken for ids, or it is not iterable.
        InvalidFlowIdError: An id is not hashable, so that it cannot be a key of `FlowStateBatchError.errors`. All other
            wrong ids are left to the call, which fails for each by itself.
    """
    given: object = ids
    if isinstance(given, (str, bytes, bytearray)) or not isinstance(given, Iterable):
        raise TypeError(f"ids are an iterable of flow ids, such as [{shown('order-17')}], not {shown(ids)}")
    found = list(ids)
    for id in found:
        try:
            hash(id)
        except TypeError:
            check_flow_id(id)
    return found


def is_reserved(name: str) -> bool:
    """Return whether Firestore keeps the name for itself, of a document or a field."""
    return _RESERVED.fullmatch(name) is not None


def is_utf8(text: str) -> bool:
    """Return whether UTF-8 can hold the text: it cannot hold a lone surrogate, which is half of a character."""
    return text.isascii() or utf8_bytes(text) is not None


def utf8_bytes(text: str) -> int | None:
    """Return how many bytes the text has in UTF-8, or None if it has a lone surrogate."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def new_id() -> str:
    """Return a random id: 64 bits, as 11 characters."""
    return b2a_base64(os.urandom(8), newline=False).translate(_URLSAFE, b"=").decode()


def check_collection_path(path: str) -> str:
    """Return the path if it names a collection, else raise ValueError with the rule it breaks.

    A nested collection is ``collection/document/collection``: an odd number of names.
    """
    names = path.split("/")
    for name in names:
        if rule := _broken_rule(name):
            raise ValueError(f"the name {name!r:.200} in the collection path {path!r:.200} {rule}")
    if len(names) % 2 == 0:
        raise ValueError(
            f"the path {path!r:.200} names a document: a collection path has an odd number of names, "
            "as in 'flows' or 'tenants/acme/flows'"
        )
    return path


def _broken_rule(name: str) -> str | None:
    if not name:
        return "is empty, and Firestore has no nameless documents"
    if "/" in name:
        return "contains a slash, which would make it a path to another collection"
    if name in {".", ".."}:
        return "is '.' or '..', which Firestore reserves"
    if is_reserved(name):
        return "matches __.*__, which Firestore reserves"
    size = utf8_bytes(name)
    if size is None:
        return NOT_UTF8
    if size > MAX_NAME_BYTES:
        return f"has {size:,} bytes of UTF-8, more than Firestore's {MAX_NAME_BYTES:,}"
    return None


def quoted(key: str) -> str:
    """Return a field's name as a field path, quoted whatever is in it.

    A carriage return is escaped too: Firestore reads a bare one as a line feed, and the path would name another field.
    """
    escaped = key.replace("\\", "\\\\").replace("`", "\\`").replace("\r", "\\r")
    return f"`{escaped}`"


def unquoted(path: str) -> str:
    """Return the name of the field whose path `quoted` has made."""
    return _ESCAPED.sub(lambda match: "\r" if match[1] == "r" else match[1], path[1:-1])


def names_in(path: str) -> list[str]:
    """Return the names on a field path, of which some may be as `quoted` has made them."""
    return [unquoted(name) if name[0] == "`" else name for name in _NAME_IN_PATH.findall(path)]


def field_path(key: str) -> str:
    """Return a field's name as a field path, quoted only if it must be, as people write it."""
    return key if _SIMPLE.fullmatch(key) else quoted(key)


def document_size(path: str, fields: Mapping[str, Value]) -> int:
    """Return the bytes a document takes; the path is relative to the database."""
    return name_size(path) + fields_size(fields) + _PER_DOCUMENT


def size_at_most(path: str, document: Document) -> int:
    """Return a bound on the bytes that a document takes, found without a look at each value. Geo points may exceed it.

    The bound is twice the size of the serialized message. Of all other values Firestore counts an integer in an array
    highest compared with its message: 8 bytes for 4.
    """
    return name_size(path) + 2 * int(document.ByteSize()) + _PER_DOCUMENT


def name_size(path: str) -> int:
    """Return the bytes the name of a document takes; the path is relative to the database."""
    return _PER_NAME + text_size(path)  # Firestore adds a byte an id: the slashes between them, and that of text_size


def fields_size(fields: Mapping[str, Value]) -> int:
    """Return the bytes that fields take, with their names."""
    return sum(text_size(name) + value_size(value) for name, value in fields.items())


def value_size(value: Value) -> int:
    """Return the bytes a value takes."""
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        return text_size(value.string_value)
    if kind == "bytes_value":
        return len(value.bytes_value)
    if kind == "map_value":
        return fields_size(value.map_value.fields) or _EMPTY
    if kind == "array_value":
        return sum(map(value_size, value.array_value.values)) or _EMPTY
    if kind == "reference_value":
        return name_size(value.reference_value.split("/documents/", 1)[-1])
    fixed = _FIXED.get(kind or "")
    return fixed if fixed is not None else max(1, value.ByteSize())  # as of a kind that only queries may have


def text_size(text: str) -> int:
    """Return the bytes a string takes."""
    return (len(text) if text.isascii() else len(text.encode())) + 1


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
    """Return whether the integer fits a signed one of 64 bits.

    Compared, since `in range(...)` tries the numbers one by one for an instance of a subclass of int.
    """
    return MIN_INTEGER <= number <= MAX_INTEGER
