"""JSON text gives back exactly what went in, or an error with the path of what it cannot hold."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections import OrderedDict, UserDict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import Client, GeoPoint
from google.cloud.firestore_v1.vector import Vector
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, create_model
from typing_extensions import TypedDict

from firestore_flowstate import CacheEntry, FlowStateEncodeError
from firestore_flowstate._document.json_forms import MAX_DEPTH
from firestore_flowstate._document.json_text import decode, decode_each, encode
from firestore_flowstate.testing import exactly, json_values
from firestore_flowstate.testing.conformance.states import VALUES


class _Colour(enum.Enum):
    RED = "red"


class _Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class _Point:
    x: int
    y: Any


class _Person(BaseModel):
    name: str
    born: date


class _Text(str):
    __slots__ = ()


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(json_values())
def test_decoding_gives_back_what_was_encoded(value: Any) -> None:
    """Types, NaN, large integers, lone surrogates and the order of keys."""
    decoded = decode(encode(value, "value"))

    assert exactly(value) == exactly(decoded)
    assert repr(value) == repr(decoded)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_decoding_gives_back_awkward_values(value: Any) -> None:
    """Values that databases lose come back the same too."""
    assert exactly(value) == exactly(decode(encode(value, "value")))


@given(st.lists(json_values(), max_size=5))
def test_many_are_decoded_as_each_by_itself(values: list[Any]) -> None:
    """So they are also if one of them takes the slow way, and with it all of them."""
    texts = [encode(value, "value") for value in values]

    assert exactly(values) == exactly(decode_each(texts))


@pytest.mark.parametrize(
    "texts",
    [
        [b"1", b"["],
        [b"[1", b"2]"],
        [b'{"a":[1', b'2]},{"b":3}'],
        [b"1,2", b"3"],
        [b'"a', b'b"'],
        [b"1", b""],
        [b"1]//["],
    ],
)
def test_damaged_texts_are_not_put_together(texts: list[bytes]) -> None:
    """Some would be well-formed, even of as many values, with nothing but a comma between them."""
    with pytest.raises(ValueError, match=r"."):
        decode_each(texts)


def test_text_has_no_spaces() -> None:
    """Bytes are paid for."""
    assert b'{"a":[1,null,"b c"]}' == encode({"a": [1, None, "b c"]}, "value")


@pytest.mark.parametrize(
    "value", [{"a": [1.5, "é", False]}, {"a": None}, {"a": float("nan")}, 2**64, "\ud800"], ids=repr
)
def test_text_is_json_that_others_read(value: Any) -> None:
    """The standard library reads the text, whichever encoder took the value."""
    assert exactly(value) == exactly(json.loads(encode(value, "value")))


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ((1, (2,)), [1, [2]]),
        (CacheEntry(value=None), {"value": None}),
        (CacheEntry(), {}),
        (_Person(name="Ada", born=date(1815, 12, 10)), {"name": "Ada", "born": "1815-12-10"}),
        (_Point(1, [_Point(2, None)]), {"x": 1, "y": [{"x": 2, "y": None}]}),
        (_Colour.RED, "red"),
        (_Level.HIGH, 3),
        (_Text("text"), "text"),
        (datetime(2024, 5, 1, 12, tzinfo=timezone.utc), "2024-05-01T12:00:00Z"),
        (datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))), "2024-05-01T12:00:00+02:00"),
        (datetime(2024, 5, 1, 12), "2024-05-01T12:00:00"),  # noqa: DTZ001  # a time without a zone is a value too
        (time(12, 30, 5), "12:30:05"),
        (timedelta(hours=1), "PT1H"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"\xff\xfe", "//4="),
        (bytearray(b"\xff\xfe"), "//4="),
        (memoryview(b"\xff\xfe"), "//4="),
        (GeoPoint(1, 2), {"latitude": 1, "longitude": 2}),
        (Client("p", AnonymousCredentials()).document("flows/id"), "flows/id"),
        (Vector([1.0, 2.5]), [1.0, 2.5]),
        (DatetimeWithNanoseconds(2024, 5, 1, nanosecond=7), "2024-05-01T00:00:00.000000007Z"),
        (Decimal("1.10"), "1.10"),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_with_a_json_form_are_stored_as_it(value: Any, form: Any) -> None:
    """Models, dataclasses, enums, times, ids and bytes, alone and inside others."""
    assert exactly(form) == exactly(decode(encode(value, "value")))
    assert exactly([{"in": form}]) == exactly(decode(encode([{"in": value}], "value")))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value"),
        ({"a": [1, {"b": object()}]}, 'value["a"][1]["b"]'),
        ({"a": {1: 2}}, 'value["a"][1]'),
        ({"a": {None: 2}}, 'value["a"][None]'),
        ({"a": {True: 2}}, 'value["a"][True]'),
        ({_Colour.RED: 2}, "value[<_Colour.RED: 'red'>]"),
        ([{1, 2}], "value[0]"),
        ([frozenset("a")], "value[0]"),
        ([(n for n in "ab")], "value[0]"),
        ([lambda: None], "value[0]"),
        ([int], "value[0]"),
        ([_Point], "value[0]"),
        ([_Point(1, {1, 2})], "value[0].y"),
        ([0, 10**4300], "value[1]"),
        ([0, -(10**4300)], "value[1]"),
        (["\ud83d\ude42"], "value[0]"),
        ({"a": {"\ud83d\ude42": 1}}, 'value["a"]["\\ud83d\\ude42"]'),
        ({'quo"te': object()}, 'value["quo\\"te"]'),
        ({"é": object()}, 'value["é"]'),
        ({"k" * 500: object()}, f'value["{"k" * 80}…"]'),
    ],
    ids=range(20),
)
def test_refusal_names_the_place(value: Any, path: str) -> None:
    """What has no JSON form, or would not come back the same, is refused with its path."""
    with pytest.raises(FlowStateEncodeError) as refusal:
        encode(value, "value")

    assert path == refusal.value.path
    assert path[:100] in str(refusal.value)


@pytest.mark.parametrize(
    ("step", "steps", "shown"),
    [
        (lambda value: [value], 70, "value" + "[0]" * 31 + " … 6 steps … " + "[0]" * 33),
        (lambda value: [value], 150, "value" + "[0]" * 31 + " … 86 steps … " + "[0]" * 33),
        (lambda value: {"a.b[": value}, 150, "value" + '["a.b["]' * 11 + " … 127 steps … " + '["a.b["]' * 12),
        (lambda value: {"k" * 90: value}, 150, f'value["{"k" * 80}…"]' + " … 148 steps … " + f'["{"k" * 80}…"]'),
    ],
    ids=["just too long", "list", "keys", "long keys"],
)
def test_a_long_path_is_told_by_its_ends(step: Callable[[Any], Any], steps: int, shown: str) -> None:
    """Each end has whole steps, with how many lie between the ends. The error's `path` has them all."""
    value: Any = object()
    for _ in range(steps):
        value = step(value)
    with pytest.raises(FlowStateEncodeError) as refusal:
        encode(value, "value")

    assert str(refusal.value).startswith(f"Cannot store {shown}: of type object")
    assert refusal.value.path is not None
    assert steps * 3 <= len(refusal.value.path) - len("value")


def test_depth_is_limited() -> None:
    """Nesting goes down to 200, far less than breaks an interpreter. The error names the limit."""
    assert _nested(MAX_DEPTH) == decode(encode(_nested(MAX_DEPTH), "value"))
    for depth in (1_000, 100_000):
        with pytest.raises(FlowStateEncodeError, match="200 deep"):
            encode(_nested(depth), "value")


@pytest.mark.parametrize("leaf", [1, None, float("nan"), 2**70, "\ud800"], ids=ascii)
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 254, 255, 256, 300, 5_000])
def test_deep_values_are_kept_or_refused(depth: int, leaf: Any) -> None:
    """They are kept up to the limit, whatever they hold. Beyond it they may be refused: the fast encoder may go on."""
    value = leaf
    for _ in range(depth):
        value = {"in": value}
    try:
        text = encode(value, "value")
    except FlowStateEncodeError:
        assert depth > MAX_DEPTH
    else:
        assert depth < 255
        assert exactly(value) == exactly(decode(text))


def test_self_reference_is_refused() -> None:
    """A value inside itself has no end."""
    value: dict[str, Any] = {}
    value["self"] = [value]
    with pytest.raises(FlowStateEncodeError, match="inside itself"):
        encode(value, "value")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nul", b'{"a":1}x', b"'a'", b"[1,]", b"\xff", b"[" * 100_000], ids=range(8)
)
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    """Damaged text never gives another exception, however deep."""
    with pytest.raises(ValueError):
        decode(text)


def test_types_that_have_one_another_inside_are_looked_into_once() -> None:
    """A field has 25 types of dicts, each with the next one twice: there are 33 million ways through them."""
    typed_dict: Any = TypedDict
    kind: Any = int
    for number in range(25):
        kind = typed_dict(f"Pair{number}", {"left": kind, "right": kind}, total=False)
    model = create_model("Pairs", pair=(kind, ...))

    assert encode(model(pair={"left": {}}), "input") == b'{"pair":{"left":{}}}'
