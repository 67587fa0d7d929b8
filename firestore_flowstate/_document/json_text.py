"""JSON text that gives back exactly what went in, or an error with the path of what it cannot hold.

Encoding tries orjson first, told to take nothing but plain values with strings as keys: it refuses other keys,
integers beyond 64 bits, lone surrogates and every type that would need a form of its own, and is several times
faster than a check in Python alone. The one thing it changes in silence is NaN and the infinities, to null, so
text with a null in it is written again by pydantic_core, which writes them as those words. What orjson refuses
takes a careful walk, and the standard library if pydantic_core refuses too. Decoding never uses orjson: it
reads large integers as floats. `value_as` reads any value back as a type, from the same text.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from .._gc_pause import gc_paused
from ..errors import FlowStateDecodeError
from .json_forms import plain

MAX_DEPTH_READ: Final = 300
"""More than is ever written, with what packed values and backups have around it; Python itself goes to 1,000 frames."""

_PLAIN_ONLY: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
_LARGE_TEXT: Final = 16 * 1024  # bytes
_FENCE: Final = secrets.token_hex(16)
"""Stands between texts that are read together. It never leaves the process, so nobody who writes a damaged text knows
it: such texts cannot be well-formed together across it."""


def encode(value: Any, path: str) -> bytes:
    """Return the value as JSON in UTF-8, without spaces.

    Args:
        value: Any JSON value; strings as keys only. Models, dataclasses, enums, dates, UUIDs and such are
            written as their JSON form, as docs/values.md has it.
        path: Where the value stands in the flow state, for errors.

    Raises:
        FlowStateEncodeError: The value, or one inside it, cannot be written without loss; `path` leads to it.
    """
    if value is None:
        return b"null"
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
    """Return the value of each JSON text: of a log of 500 steps in a quarter of the time of `decode` one by one.

    They are joined to one array, with a random string between them, since each call of the parser costs as much as a
    small text.

    Raises:
        ValueError: As `decode`, of one of them.
    """
    if len(texts) > 1:
        try:
            values = _decode_plain(b"[" + f',"{_FENCE}",'.encode().join(texts) + b"]")
        except (ValueError, TypeError):
            values = []
        if len(values) == 2 * len(texts) - 1 and values[1::2] == [_FENCE] * (len(texts) - 1):
            return list(values[::2])
    return [decode(text) for text in texts]


def _decode_plain(text: bytes | str) -> Any:
    if sys.version_info >= (3, 12) or len(text) < _LARGE_TEXT:
        return from_json(text, cache_strings="keys")
    with gc_paused():  # before Python 3.12 a collection may come in the middle of building a value
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


def value_as(value: Any, as_: Any, *, path: str, flow_id: str) -> Any:
    """Return the value as a type that pydantic knows, from its JSON form: the same before it was stored and after.

    Args:
        value: The value, as it was put into the state or as it was loaded.
        as_: The type.
        path: Where it stands in the flow state, for errors.
        flow_id: The flow's id, for errors.

    Raises:
        FlowStateDecodeError: The value is not of the type.
        FlowStateEncodeError: The value has no JSON form.
    """
    text = encode(value, path)
    # Within a tuple, since a model or dataclass takes no configuration from outside.
    adapter = TypeAdapter(tuple[as_], config=ConfigDict(val_json_bytes="base64", allow_inf_nan=True))
    try:
        return _validated(adapter, text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        member_path = "".join(f"[{part!r:.80}]" for part in first["loc"][1:])
        raise FlowStateDecodeError(
            f"{path} of the flow state {flow_id!r} cannot be read as {getattr(as_, '__name__', as_)!s:.100}: "
            f"{path}{member_path}: {first['msg']}",
            flow_id=flow_id,
        ) from error


def _validated(adapter: TypeAdapter[Any], text: bytes) -> Any:
    try:
        return adapter.validate_json(b"[" + text + b"]")[0]
    except ValidationError as error:
        if error.errors(include_url=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        # Lone surrogates, or deeper than pydantic goes.
        return adapter.validate_python([decode(text)])[0]
