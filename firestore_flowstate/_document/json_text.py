"""JSON text that gives back exactly what went in, or an error with the path of what it cannot hold.

Encoding tries orjson first, with options by which it takes plain values with strings as keys alone. It refuses other
keys, integers of more than 64 bits, lone surrogates and every type that needs a form of its own.

- The gain: orjson is several times faster than even a check of every value in Python.
- The danger: it writes NaN and the infinities as null, and does not tell. So if its text has a null in it, the value is
  encoded again by pydantic_core, which writes them as NaN and Infinity.
- The other danger: it copies the text of an ``orjson.Fragment`` as it is, be it JSON or not, so that a value could
  close the object around it and add a step. And an enumeration whose `value` fails ends the process. So marshal, which
  knows the plain types alone, has to take the value first: it is the only check of every value that is as fast.
- What one of the two refuses is walked through in Python (`json_forms.plain`) and then encoded by pydantic_core. If
  that refuses too, the standard library encodes it.

Decoding never uses orjson, which reads integers of more than 64 bits as floats. `value_as` reads any value back as a
type, from the same text.
"""

from __future__ import annotations

import json
import marshal
import secrets
import sys
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from .._error_texts import shown_key, with_flow_id
from .._gc_pause import gc_paused
from ..errors import FlowStateDecodeError, FlowStateEncodeError
from .json_forms import plain

MAX_DEPTH_READ: Final = 300
"""Values are written with at most 254 levels, and packed values and backups have a few more around them. The limit
keeps readers far from Python's own, which is 1,000 frames of its stack."""

AROUND: Final = 2
"""How many levels of the format are around a value in a field that has models, at most: the operation and its result,
or the list of executions and one of these."""

_PLAIN_ONLY: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
_SHARES: Final = 4  # the version of marshal's format: from 3 on it writes a shared value once, so that a cycle ends
_LARGE_TEXT: Final = 16 * 1024  # bytes
_FENCE: Final = secrets.token_hex(16)
"""Stands between texts that are decoded together. It never leaves the process, so nobody can write damaged texts that
are well-formed only if they are joined by it."""


def encode(value: Any, path: str, *, around: int = 0) -> bytes:
    """Return the value as JSON in UTF-8, without spaces.

    Values of up to 200 levels are taken. Deeper ones are taken, up to 254 levels, if orjson takes all of them.

    Args:
        value: Any JSON value; strings as keys only. Models, dataclasses, enums, dates, UUIDs and such are
            written as their JSON form, as docs/values.md has it.
        path: The path of the value in the flow state, for errors.
        around: How many of its levels are objects of the format around the values of applications, such as that of all
            steps. They do not count towards the limit.

    Raises:
        FlowStateEncodeError: The value, or one inside it, cannot be written without loss; its `path` leads to it.
    """
    if value is None:
        return b"null"
    try:
        marshal.dumps(value, _SHARES)  # what it writes is thrown away, and never loaded
        text = orjson.dumps(value, option=_PLAIN_ONLY)
    except (ValueError, TypeError):  # marshal's and orjson's
        return _encode_with_care(value, path, around)
    if text.rfind(b"null") < 0:  # from the end, which is up to four times faster than `in`
        return text
    return _exact_text(value)  # a null may have been NaN or an infinity


def _encode_with_care(value: Any, path: str, around: int) -> bytes:
    return _exact_text(plain(value, path, around=around))


def _exact_text(form: Any) -> bytes:
    try:
        return to_json(form, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError):  # lone surrogates, or deeper than pydantic_core goes
        return json.dumps(form, separators=(",", ":")).encode()


def decode(text: bytes | str) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: The text is not JSON, or has more than 300 levels.
    """
    try:
        return _decode_plain(text)
    except (ValueError, TypeError):  # such as more than 200 levels; TypeError: a string with a lone surrogate
        return _decode_deep(text if isinstance(text, str) else text.decode())  # json guesses the encoding of bytes


def decode_each(texts: Sequence[bytes]) -> list[Any]:
    """Return the value of each JSON text.

    The texts are joined to one array, with a random string between each two, and decoded by one call. The gain: a call
    of the parser costs as much as a small text, so the log of 500 steps takes a quarter of the time that 500 calls of
    `decode` take. If the array cannot be decoded, or the strings are not at their places in it, each text is decoded
    by itself.

    Raises:
        ValueError: As for `decode`, for one of the texts.
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
    with gc_paused():  # before Python 3.12 a collection may start in the middle of building a value
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
    # A limit of our own: json's differs between interpreters, and copies and comparisons of values go less deep.
    raise ValueError("nested too deeply")


def _containers(container: dict[str, Any] | list[Any]) -> list[dict[str, Any] | list[Any]]:
    members = container.values() if isinstance(container, dict) else container
    return [member for member in members if isinstance(member, (dict, list))]


def value_as(value: Any, as_: Any, *, field: str, step: str | None = None, flow_id: str) -> Any:
    """Return the value as a type that pydantic knows, read from its JSON form, so that a save makes no difference.

    Args:
        value: The value, as it was put into the state or as it was loaded.
        as_: The type.
        field: The field of the flow state that it is of, for errors.
        step: The step that it is of, if the field has values by step.
        flow_id: The flow's id, for errors.

    Raises:
        FlowStateDecodeError: The value is not of the type.
        FlowStateEncodeError: The value has no JSON form.
    """
    path = field if step is None else f"{field}[{shown_key(step)}]"
    try:
        text = encode(value, path)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, flow_id) from error.__cause__
    # Wrapped in a tuple: pydantic refuses a configuration for a model or dataclass, which has its own.
    adapter = TypeAdapter(tuple[as_], config=ConfigDict(val_json_bytes="base64", allow_inf_nan=True))
    try:
        return _validated(adapter, text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        member_path = "".join(f"[{shown_key(part)}]" for part in first["loc"][1:])
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
