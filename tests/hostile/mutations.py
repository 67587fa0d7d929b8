"""Mutations of stored documents: what a bug, another writer or an attacker may have made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from firestore_flowstate._rpc.messages import Document, Value
from firestore_flowstate.testing import strategies
from tests.hostile.sound_documents import GOLDEN, Stored, stored_states
from tests.support.damage import BOMB, zstd

EXAMPLES: Final = int(os.environ.get("FLOWSTATE_EXAMPLES", "200"))
"""How many mutated documents a test reads. With 100,000 it finds what it finds in a quarter of an hour."""
Draw = st.DrawFn
DEEP: Final = 10_000  # levels of JSON, more than any interpreter's stack has
FRAME: Final = zstd.compress(b'{"a":1}')

NUMBERS: Final = [0, 1, -1, 2, 7, 999, 1000, 1001, 10**5, 2**31, 2**53, 2**63 - 1, -(2**63)]
SIZES: Final = ["0", "1", "7", "8", "10", "1000", "536870912", "536870913", "99999999999", "-1", "+1", " 7", "7.0", ""]
LAYERS: Final = [
    *(f"zstd={size}" for size in SIZES), "zstd", "backwards", "backwards=1", "aes-gcm=key-1", "aes-gcm=", "aes-gcm",
    "brotli", "", "=", "zstd=7;zstd=7", "\u00e9",
]  # fmt: skip
BODIES: Final = [b"", b"1", b'"a"', FRAME, FRAME * 3, FRAME[:-1], FRAME[1:], BOMB, b"\xf5\n1", b"\xff", b"[" * DEEP]
JSON_TEXTS: Final = [
    "", " ", "null", "true", "0", "-0", "-0.0", "1e999", "-1e999", "1e-999", "NaN", "-Infinity", "9" * 4300,
    "9" * 4301, "9" * 100_000, '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', "[]", "{}", "[[]]",
    "[1,]", "{,}", '{"a":1,"a":2}', '{"":{"":{}}}', '{"value":1,"value":{}}', "\ufeff{}", "'a'", "nan", "01", "1 2",
    "[" * DEEP, '{"a":' * DEEP, "[" * DEEP + "]" * DEEP, "[" * 250 + "]" * 250, "[" * 900 + "]" * 900,
    '{"name":"a","name":5}', '{"__proto__":1,"_version":2,"model_config":3,"__class__":4}', '{"\\ud800":1}',
    '[{"traceIds":[]}]', '{"value":{"$date":1}}', "[" + "{}," * 1000 + "{}]",
]  # fmt: skip
NAMES: Final = [
    "flowId", "name", "input", "startTime", "cache", "eventsTriggered", "blockedOnStep", "operation", "traceContext",
    "executions", "status", "shard", "expireAt", "summary", "_flowstate", "v", "extra", "log", "weight", "parts",
    "created", "id", "set", "del", "events", "ids", "part", "count", "bytes", "data", "value", "empty", "done",
    "result", "error", "__type__", "schema", "flow_id", "start_time", "model_fields_set", "_version", "__dict__", "",
]  # fmt: skip


def fuzzed(*, share: float = 1.0) -> settings:
    """Return the settings of a test with this share of `EXAMPLES`."""
    large = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
    return settings(max_examples=max(10, round(EXAMPLES * share)), suppress_health_check=large)


@dataclass(frozen=True)
class Slot:
    """A place in a document that holds a value: in the fields of a map, or among the values of an array."""

    container: Any
    key: Any
    in_map: bool

    @property
    def value(self) -> Value:
        return self.container[self.key]


def slots(document: Document) -> list[Slot]:
    """Return every place in a document, outermost first."""
    return list(_in_fields(document.fields))


def _in_fields(fields: Any) -> Iterator[Slot]:
    for key in sorted(fields):
        yield Slot(fields, key, True)
        yield from _inside(fields[key])


def _inside(value: Value) -> Iterator[Slot]:
    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        yield from _in_fields(value.map_value.fields)
    elif kind == "array_value":
        for index, member in enumerate(value.array_value.values):
            yield Slot(value.array_value.values, index, False)
            yield from _inside(member)


# ---- values that nothing expects
def _number(value: Value, draw: Draw) -> None:
    value.integer_value = draw(st.sampled_from(NUMBERS) | st.integers(-(2**63), 2**63 - 1))


def _double(value: Value, draw: Draw) -> None:
    value.double_value = draw(st.floats())


def _boolean(value: Value, draw: Draw) -> None:
    value.boolean_value = draw(st.booleans())


def _null(value: Value, draw: Draw) -> None:
    value.null_value = 0


def _text(value: Value, draw: Draw) -> None:
    value.string_value = draw(st.sampled_from([*JSON_TEXTS, *NAMES]) | st.text(max_size=20))


def _json(value: Value, draw: Draw) -> None:
    value.string_value = json.dumps(draw(strategies.json_values()))


def _bytes(value: Value, draw: Draw) -> None:
    value.bytes_value = draw(st.sampled_from(BODIES) | st.binary(max_size=40))


def _envelope(value: Value, draw: Draw) -> None:
    layers = ";".join(draw(st.lists(st.sampled_from(LAYERS), max_size=4)))
    end = b"" if draw(st.integers(0, 9)) == 0 else b"\n"
    value.bytes_value = b"\xf5" + layers.encode() + end + draw(st.sampled_from(BODIES) | st.binary(max_size=40))


def _timestamp(value: Value, draw: Draw) -> None:
    value.timestamp_value.seconds = draw(
        st.sampled_from([0, -62_135_596_800, 253_402_300_799, *NUMBERS]) | st.integers(-(2**63), 2**63 - 1)
    )
    value.timestamp_value.nanos = draw(st.sampled_from([0, 1, 1000, 999_999_999, -1, 2**31 - 1]))


def _place(value: Value, draw: Draw) -> None:
    value.geo_point_value.latitude, value.geo_point_value.longitude = draw(st.floats()), draw(st.floats())


def _reference_to_document(value: Value, draw: Draw) -> None:
    database = "projects/p/databases/d/documents"
    value.reference_value = draw(
        st.sampled_from(["", "a", database, f"{database}/c", f"{database}/c/d", f"{database}/c//d", "a/" * 9])
    )


def _vector(value: Value, draw: Draw) -> None:
    value.map_value.fields["__type__"].string_value = "__vector__"
    members = value.map_value.fields["value"].array_value.values
    for _ in range(draw(st.integers(0, 2))):
        draw(st.sampled_from(PLAIN))(members.add(), draw)


def _reference_to_parts(value: Value, draw: Draw) -> None:
    fields = value.map_value.fields
    fields["part"].string_value = draw(st.sampled_from(["a", "", "a/b", "__a", "..", "x" * 2000, "\x00"]))
    _number(fields["count"], draw)
    _number(fields["bytes"], draw)


def _empty_map(value: Value, draw: Draw) -> None:
    value.map_value.SetInParent()


def _empty_array(value: Value, draw: Draw) -> None:
    value.array_value.SetInParent()


def _nothing(value: Value, draw: Draw) -> None:
    value.Clear()


def _deep(value: Value, draw: Draw) -> None:
    for _ in range(draw(st.integers(1, 40))):
        value = value.map_value.fields["a"] if draw(st.booleans()) else value.array_value.values.add()
    value.integer_value = 1


def _of_another_type(value: Value, draw: Draw) -> None:
    value.pipeline_value.SetInParent()  # Firestore has it, this package does not


PLAIN: Final = [_number, _double, _boolean, _null, _text, _bytes, _nothing]
HOSTILE: Final = [
    *PLAIN, _json, _envelope, _envelope, _timestamp, _place, _reference_to_document, _vector, _reference_to_parts,
    _empty_map, _empty_array, _deep, _of_another_type,
]  # fmt: skip


# ---- mutations of one place
def _replace(stored: Stored, slot: Slot, draw: Draw) -> None:
    value = Value()
    draw(st.sampled_from(HOSTILE))(value, draw)
    slot.value.CopyFrom(value)


def _remove(stored: Stored, slot: Slot, draw: Draw) -> None:
    del slot.container[slot.key]


def _rename(stored: Stored, slot: Slot, draw: Draw) -> None:
    if slot.in_map:
        value = Value()
        value.CopyFrom(slot.value)
        del slot.container[slot.key]
        slot.container[draw(st.sampled_from(NAMES) | st.text(max_size=5))].CopyFrom(value)


def _add(stored: Stored, slot: Slot, draw: Draw) -> None:
    fill = draw(st.sampled_from(HOSTILE))
    if slot.in_map:
        fill(slot.container[draw(st.sampled_from(NAMES) | st.text(max_size=5))], draw)
    else:
        fill(slot.container.add(), draw)


def _repeat(stored: Stored, slot: Slot, draw: Draw) -> None:
    if not slot.in_map:
        for _ in range(draw(st.integers(1, 3))):
            slot.container.add().CopyFrom(slot.value)


def _move(stored: Stored, slot: Slot, draw: Draw) -> None:
    """Put what stands at another place here, and in half of all cases what stood here there."""
    others = [other for document in stored.documents() for other in slots(document)]
    other = others[draw(st.integers(0, len(others) - 1))]
    here, there = Value(), Value()
    here.CopyFrom(slot.value)
    there.CopyFrom(other.value)
    if draw(st.booleans()):
        other.value.CopyFrom(here)
    slot.value.CopyFrom(there)


def _from_elsewhere(stored: Stored, slot: Slot, draw: Draw) -> None:
    """Put a value of another document here."""
    others = slots(GOLDEN[draw(st.sampled_from(sorted(GOLDEN)))].root)
    slot.value.CopyFrom(others[draw(st.integers(0, len(others) - 1))].value)


def _wrap(stored: Stored, slot: Slot, draw: Draw) -> None:
    value = Value()
    inner = value.map_value.fields["a"] if draw(st.booleans()) else value.array_value.values.add()
    inner.CopyFrom(slot.value)
    slot.value.CopyFrom(value)


def _corrupt(stored: Stored, slot: Slot, draw: Draw) -> None:
    """Change, cut, double or lengthen the text or bytes that stand here."""
    value = slot.value
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        changed = _corrupted(value.string_value.encode(), draw)
        value.string_value = changed.decode("utf-8", draw(st.sampled_from(["replace", "ignore"])))
    elif kind == "bytes_value":
        value.bytes_value = _corrupted(value.bytes_value, draw)
    else:
        _replace(stored, slot, draw)


def _corrupted(data: bytes, draw: Draw) -> bytes:
    at = draw(st.integers(0, len(data)))
    other = draw(st.integers(0, len(data)))
    match draw(st.integers(0, 5)):
        case 0:
            return data[:at]
        case 1:
            return data[at:]
        case 2:
            return data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :] if data[at:] else data
        case 3:
            return data[:at] + data[min(at, other) : max(at, other)] + data[at:]
        case 4:
            return data[:at] + draw(st.binary(max_size=4)) + data[at:]
        case _:
            return data * draw(st.integers(2, 4))


def _relabel(stored: Stored, slot: Slot, draw: Draw) -> None:
    """Name other layers in an envelope than were applied."""
    value = slot.value
    if value.WhichOneof("value_type") != "bytes_value" or value.bytes_value[:1] != b"\xf5":
        _corrupt(stored, slot, draw)
        return
    line, _, body = value.bytes_value[1:].partition(b"\n")
    layers = line.decode("ascii", "replace").split(";")
    at = draw(st.integers(0, len(layers)))
    layers[at : at + draw(st.integers(0, 1))] = draw(st.lists(st.sampled_from(LAYERS), max_size=2))
    value.bytes_value = b"\xf5" + ";".join(layers).encode() + b"\n" + body


def _edit_json(stored: Stored, slot: Slot, draw: Draw) -> None:
    """Change one value inside JSON text, or a key of it."""
    value = slot.value
    try:
        tree = json.loads(value.string_value) if value.WhichOneof("value_type") == "string_value" else None
    except (ValueError, RecursionError):
        tree = None
    if tree is None:
        _corrupt(stored, slot, draw)
        return
    value.string_value = json.dumps(_edited(tree, draw))


def _edited(tree: Any, draw: Draw) -> Any:
    inner = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    if not inner or draw(st.integers(0, 2)) == 0:
        return draw(strategies.json_values() | st.sampled_from([[], {}, "", None, 10**30, [[[[]]]], {"value": 1}]))
    key, member = inner[draw(st.integers(0, len(inner) - 1))]
    if isinstance(tree, list):
        return [*tree[:key], _edited(member, draw), *tree[key + 1 :]]
    if draw(st.integers(0, 3)) == 0:
        return {(draw(st.sampled_from(NAMES) | strategies.step_names()) if k == key else k): v for k, v in inner}
    return {**tree, key: _edited(member, draw)}


MUTATIONS: Final[list[Callable[[Stored, Slot, Draw], None]]] = [
    _replace, _replace, _remove, _rename, _add, _repeat, _move, _from_elsewhere, _wrap, _corrupt, _corrupt, _relabel,
    _edit_json, _edit_json,
]  # fmt: skip


# ---- mutations of a whole document
def _flip(stored: Stored, draw: Draw) -> None:
    """Change the serialized message itself, if what comes out is one still."""
    documents = stored.documents()
    document = documents[draw(st.integers(0, len(documents) - 1))]
    data = document.SerializeToString(deterministic=True)
    try:
        changed = Document.FromString(_corrupted(data, draw))
    except DecodeError:
        return
    changed.update_time.CopyFrom(document.update_time)
    document.CopyFrom(changed)


def _lose_part(stored: Stored, draw: Draw) -> None:
    if stored.parts:
        del stored.parts[draw(st.sampled_from(sorted(stored.parts)))]


def _swap_parts(stored: Stored, draw: Draw) -> None:
    if stored.parts:
        one, other = (draw(st.sampled_from(sorted(stored.parts))) for _ in range(2))
        stored.parts[one], stored.parts[other] = stored.parts[other], stored.parts[one]


@st.composite
def mutated_states(draw: Draw) -> Stored:
    """Stored flow states with one to four mutations."""
    stored = draw(stored_states())
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.integers(0, 19)):
            case 0:
                _flip(stored, draw)
            case 1:
                _lose_part(stored, draw)
            case 2:
                _swap_parts(stored, draw)
            case _:
                documents = stored.documents()
                root_or_part = 0 if draw(st.integers(0, 4)) else draw(st.integers(0, len(documents) - 1))
                places = slots(documents[root_or_part])
                if places:
                    place = places[draw(st.integers(0, len(places) - 1))]
                    draw(st.sampled_from(MUTATIONS))(stored, place, draw)
    return stored
