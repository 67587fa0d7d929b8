"""Sizes by Firestore's rules for storage, and its limits.

Sources: https://firebase.google.com/docs/firestore/storage-size and
https://firebase.google.com/docs/firestore/quotas
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .._rpc.messages import Document, Value

MAX_DOCUMENT_BYTES: Final = 1_048_576

_PER_DOCUMENT: Final = 32
_PER_NAME: Final = 16
_EMPTY: Final = 1  # of an empty map or array: what the emulator counts, as the documentation is silent
_FIXED: Final = {
    "integer_value": 8,
    "double_value": 8,
    "boolean_value": 1,
    "null_value": 1,
    "timestamp_value": 8,
    "geo_point_value": 16,
}


def document_size(path: str, fields: Mapping[str, Value]) -> int:
    """Return the bytes a document takes; the path is relative to the database."""
    return name_size(path) + fields_size(fields) + _PER_DOCUMENT


def size_at_most(path: str, document: Document) -> int:
    """Return bytes that a document does not exceed, without looking at its values; one with geo points may.

    Firestore counts most, compared with a serialized message, for integers in arrays: 8 bytes for 4.
    """
    return name_size(path) + 2 * int(document.ByteSize()) + _PER_DOCUMENT


def name_size(path: str) -> int:
    """Return the bytes the name of a document takes; the path is relative to the database."""
    return _PER_NAME + sum(text_size(name) for name in path.split("/"))


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
    return _FIXED[kind] if kind is not None else 1


def text_size(text: str) -> int:
    """Return the bytes a string takes."""
    return (len(text) if text.isascii() else len(text.encode())) + 1
