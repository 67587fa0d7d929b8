"""Damages to raw documents, by hand: wrong types, missing fields, text and bytes that are not what they should be."""

from __future__ import annotations

import base64
import copy
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.raw_documents import Fields

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Damage: TypeAlias = Callable[[Fields], None]
"""Changes the fields of a document in place."""

_DATA = Path(__file__).parents[1] / "data"


def sound(name: str = "saved") -> Fields:
    """Return the fields of a golden document of our format."""
    golden = json.loads((_DATA / "format-v1" / f"{name}.json").read_text())
    return dict(copy.deepcopy(golden["documents"][golden["id"]]))


def sound_native() -> Fields:
    """Return the fields of a document that Genkit JS wrote."""
    return dict(json.loads((_DATA / "genkit-js" / "blocked.json").read_text())["document"]["fields"])


def put(path: str, value: Mapping[str, Any]) -> Damage:
    """Return the damage that puts a raw value at a path such as ``_flowstate.log.0.set``."""

    def damage(fields: Fields) -> None:
        container, last = _container(fields, path)
        container[last] = value

    return damage


def drop(path: str) -> Damage:
    """Return the damage that removes what is at a path."""

    def damage(fields: Fields) -> None:
        container, last = _container(fields, path)
        del container[last]

    return damage


def packed(path: str, line: str, body: bytes) -> Damage:
    """Return the damage that puts an envelope at a path."""
    return put(path, envelope(line, body))


def envelope(line: str, body: bytes) -> dict[str, Any]:
    return raw_bytes(b"\xf5" + line.encode() + b"\n" + body)


def log_of(count: int, **values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a log of so many segments with the same values. References get names of their own."""
    segments = []
    for index in range(count):
        named = copy.deepcopy(values)
        for value in named.values():
            if "mapValue" in value:
                value["mapValue"]["fields"]["part"] = text(f"part-{index}")
        segments.append({"mapValue": {"fields": {"id": text(f"id-{index}"), **named}}})
    return {"arrayValue": {"values": segments}}


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def integer(value: int) -> dict[str, Any]:
    return {"integerValue": str(value)}


def raw_bytes(value: bytes) -> dict[str, Any]:
    return {"bytesValue": base64.b64encode(value).decode()}


def ref(part: object = "missing-000", count: object = 1, size: object = 5) -> dict[str, Any]:
    """Return a reference to parts, of which each field may be of a wrong type."""
    fields = {"part": part, "count": count, "bytes": size}
    raw = {name: text(value) if isinstance(value, str) else integer(int(str(value))) for name, value in fields.items()}
    return {"mapValue": {"fields": raw}}


def bomb(mebibytes: int) -> bytes:
    """Return a compressed string of JSON, many MiB long. It is compressed by the MiB, to take little memory here."""
    compressor = zstd.ZstdCompressor()
    chunks = [b'"a', *[b"a" * 1024 * 1024] * (mebibytes - 1), b"a" * (1024 * 1024 - 3) + b'"']
    return b"".join([*map(compressor.compress, chunks), compressor.flush()])


BOMB = bomb(64)
"""64 MiB in some kilobytes."""

INPUT, OPERATION, SET = "_flowstate.input", "_flowstate.operation", "_flowstate.log.0.set"

SERIALIZED: dict[str, Damage] = {
    "payload is text": put("_flowstate", text("{}")),
    "payload is empty": put("_flowstate", {"mapValue": {}}),
    "version is missing": drop("_flowstate.v"),
    "version is text": put("_flowstate.v", text("1")),
    "version is a double": put("_flowstate.v", {"doubleValue": 1}),
    "version is newer": put("_flowstate.v", integer(2)),
    "version is 0": put("_flowstate.v", integer(0)),
    "flow id is missing": drop("flowId"),
    "flow id is a number": put("flowId", integer(5)),
    "flow id is null": put("flowId", {"nullValue": None}),
    "name is a number": put("name", integer(5)),
    "name is a map": put("name", {"mapValue": {}}),
    "operation is missing": drop(OPERATION),
    "operation is a number": put(OPERATION, integer(5)),
    "operation is a boolean": put(OPERATION, {"booleanValue": True}),
    "operation is not JSON": put(OPERATION, text('{"name":')),
    "operation is empty text": put(OPERATION, text("")),
    "operation is other JSON": put(OPERATION, text('"done"')),
    "operation has no name": put(OPERATION, text('{"done":true}')),
    "operation is done by 1": put(OPERATION, text('{"name":"a","done":1}')),
    "executions are missing": drop("_flowstate.executions"),
    "executions are cut off": put("_flowstate.executions", text("[")),
    "executions are an object": put("_flowstate.executions", text("{}")),
    "an execution has no trace ids": put("_flowstate.executions", text('[{"startTime":1}]')),
    "blocked step is missing": drop("_flowstate.blockedOnStep"),
    "blocked step has no name": put("_flowstate.blockedOnStep", text("{}")),
    "blocked step is a map": put("_flowstate.blockedOnStep", {"mapValue": {"fields": {"name": text("approval")}}}),
    "trace context is an object": put("_flowstate.traceContext", text("{}")),
    "input is not JSON": put(INPUT, text("{topic}")),
    "input is two values": put(INPUT, text("1 2")),
    "input is nested without end": put(INPUT, text("[" * 100_000)),
    "input is a number of a million digits": put(INPUT, text("9" * 500_000)),
    "input is an array": put(INPUT, {"arrayValue": {"values": [text("1")]}}),
    "input is a timestamp": put(INPUT, {"timestampValue": "2026-01-01T00:00:00Z"}),
    "input is null": put(INPUT, {"nullValue": None}),
    "input is bytes without envelope": put(INPUT, raw_bytes(b'{"topic":"cats"}')),
    "input is not bytes": put(INPUT, raw_bytes(b"")),
    "input is an envelope without end": put(INPUT, raw_bytes(b"\xf5zstd=10")),
    "input is an envelope without body": packed(INPUT, "zstd=10", b""),
    "input is an envelope of nothing": packed(INPUT, "", b""),
    "input is an envelope of other text": packed(INPUT, "", b"cats"),
    "input is UTF-16": packed(INPUT, "", '{"topic":"cats"}'.encode("utf-16")),
    "input is not UTF-8": packed(INPUT, "", b'"\xff\xfe"'),
    "codec is unknown": packed(INPUT, "brotli=16", b'{"topic":"cats"}'),
    "codec has no name": packed(INPUT, ";;", b"1"),
    "codec is not ASCII": packed(INPUT, "zst\u0111=1", b"1"),
    "codec comes twice": packed(INPUT, "zstd=4000;zstd=4000", zstd.compress(b"1" * 4000)),
    "key although there are none": packed(INPUT, "aes-gcm=key-1", bytes(40)),
    "zstd of garbage": packed(INPUT, "zstd=16", b"garbage garbage!"),
    "zstd of truncated data": packed(INPUT, "zstd=4000", zstd.compress(b"1" * 4000)[:-3]),
    "zstd and something behind": packed(INPUT, "zstd=4000", zstd.compress(b"1" * 4000) + b"1"),
    "zstd declares less": packed(INPUT, "zstd=3999", zstd.compress(b"1" * 4000)),
    "zstd declares more": packed(INPUT, "zstd=4001", zstd.compress(b"1" * 4000)),
    "zstd declares nothing": packed(INPUT, "zstd", zstd.compress(b"1")),
    "zstd declares no number": packed(INPUT, "zstd=-1", zstd.compress(b"1")),
    "zstd declares a digit of another script": packed(INPUT, "zstd=\u0661", zstd.compress(b"1")),
    "zstd is a bomb": packed(INPUT, "zstd=10", BOMB),
    "zstd is a bomb that says so": packed(INPUT, f"zstd={10**12}", BOMB),
    "zstd is one bomb of many": put("_flowstate.log", log_of(20, events=envelope(f"zstd={64 * 2**20}", BOMB))),
    "reference to a part that is missing": put(INPUT, ref()),
    "reference without a name": put(INPUT, ref(part="")),
    "reference to a path": put(INPUT, ref(part="a/b")),
    "reference to a name of Firestore's": put(INPUT, ref(part="__a", count=1)),
    "reference to a number": put(INPUT, ref(part=5)),
    "reference to no parts": put(INPUT, ref(count=0)),
    "reference to fewer than no parts": put(INPUT, ref(count=-1)),
    "reference to more parts than there can be": put(INPUT, ref(count=90_000)),
    "reference to more parts than there can be together": put("_flowstate.log", log_of(21, set=ref(count=1000))),
    "reference to more bytes than its parts can have": put(INPUT, ref(size=1_000_001)),
    "reference to fewer than no bytes": put(INPUT, ref(size=-1)),
    "reference to a name that is too long": put(INPUT, ref(part="x" * 1500)),
    "reference to a name with a zero": put(INPUT, ref(part="\0")),
    "references to the same parts that differ": put("_flowstate.log", log_of(2, set=ref(size=4), events=ref(size=5))),
    "reference with a count of text": put(INPUT, ref(count="1")),
    "reference of no size": put(INPUT, {"mapValue": {"fields": {"part": text("a"), "count": integer(1)}}}),
    "reference of nothing": put(INPUT, {"mapValue": {}}),
    "log is missing": drop("_flowstate.log"),
    "log is a map": put("_flowstate.log", {"mapValue": {}}),
    "log is empty": put("_flowstate.log", {"arrayValue": {}}),
    "segment is text": put("_flowstate.log.0", text("{}")),
    "segment is null": put("_flowstate.log.0", {"nullValue": None}),
    "segment has no id": drop("_flowstate.log.0.id"),
    "segment has an empty id": put("_flowstate.log.0.id", text("")),
    "segment has a number for an id": put("_flowstate.log.0.id", integer(5)),
    "covered ids are text": put("_flowstate.log.0.ids", text("a")),
    "a covered id is a number": put("_flowstate.log.0.ids", {"arrayValue": {"values": [integer(5)]}}),
    "steps are not JSON": put(SET, text("{")),
    "steps are a list": put(SET, text('["prepare"]')),
    "steps are null": put(SET, text("null")),
    "a step is a number": put(SET, text('{"prepare":5}')),
    "a step is null": put(SET, text('{"prepare":null}')),
    "a step is empty by false": put(SET, text('{"prepare":{"empty":false}}')),
    "steps in a part that is missing": put(SET, ref()),
    "removed steps are an object": put("_flowstate.log.0.del", text('{"prepare":1}')),
    "a removed step is a list": put("_flowstate.log.0.del", text('[["prepare"]]')),
    "a removed step is a number": put("_flowstate.log.0.del", text("[5]")),
    "events are a list": put("_flowstate.log.0.events", text("[]")),
    "weight is missing": drop("_flowstate.weight"),
    "weight is text": put("_flowstate.weight", text("1037")),
    "parts are missing": drop("_flowstate.parts"),
    "parts are a double": put("_flowstate.parts", {"doubleValue": 0.5}),
    "created is a number": put("_flowstate.created", integer(5)),
    "extra is a list": put("_flowstate.extra", text("[]")),
    "extra is not JSON": put("_flowstate.extra", text("no")),
    "extra takes a field's place": put("_flowstate.extra", text('{"executions":5}')),
    "both layouts: input": put("input", text("cats")),
    "both layouts: cache": put("cache", {"mapValue": {}}),
    "both layouts: events": put("eventsTriggered", {"mapValue": {}}),
    "both layouts: operation": put("operation", {"mapValue": {"fields": {"name": text("a")}}}),
    "both layouts: executions": put("executions", {"arrayValue": {}}),
    "both layouts: trace context": put("traceContext", {"nullValue": None}),
}
"""Damages of a serialized document, each of which makes it unreadable."""

NATIVE: dict[str, Damage] = {
    "flow id is missing": drop("flowId"),
    "flow id is a number": put("flowId", integer(5)),
    "name is a number": put("name", integer(5)),
    "cache is text": put("cache", text("{}")),
    "cache is null": put("cache", {"nullValue": None}),
    "a step is a number": put("cache.prepare", integer(5)),
    "a step is null": put("cache.prepare", {"nullValue": None}),
    "a step is empty by false": put("cache.prepare.empty", {"booleanValue": False}),
    "a step is empty by 1": put("cache.prepare.empty", integer(1)),
    "events are a list": put("eventsTriggered", {"arrayValue": {}}),
    "blocked step is missing": drop("blockedOnStep"),
    "blocked step is text": put("blockedOnStep", text("approval")),
    "blocked step has no name": drop("blockedOnStep.name"),
    "blocked step's schema is a map": put("blockedOnStep.schema", {"mapValue": {}}),
    "operation is missing": drop("operation"),
    "operation is null": put("operation", {"nullValue": None}),
    "operation is text": put("operation", text("{}")),
    "operation has no name": drop("operation.name"),
    "operation is done by text": put("operation.done", text("true")),
    "result is a list": put("operation.result", {"arrayValue": {}}),
    "error is a number": put("operation.result", {"mapValue": {"fields": {"error": integer(5)}}}),
    "executions are missing": drop("executions"),
    "executions are a map": put("executions", {"mapValue": {}}),
    "an execution is text": put("executions.0", text("now")),
    "an execution has no trace ids": drop("executions.0.traceIds"),
    "an execution starts as text": put("executions.0.startTime", text("1")),
    "trace ids are text": put("executions.0.traceIds", text("a")),
    "trace context is a map": put("traceContext", {"mapValue": {}}),
}
"""Damages of a native document, each of which makes it unreadable."""

STARTS: dict[str, Damage] = {
    "start is missing": drop("startTime"),
    "start is text": put("startTime", text("1795336740800")),
    "start is a timestamp": put("startTime", {"timestampValue": "2026-11-22T08:39:00.800Z"}),
    "start is NaN": put("startTime", {"doubleValue": "NaN"}),
    "start is a boolean": put("startTime", {"booleanValue": True}),
    "start is null": put("startTime", {"nullValue": None}),
}
"""Damages of a document in either layout that no list comes upon: its order goes by numbers."""

HEADS: dict[str, Damage] = {
    "status is missing": drop("status"),
    "status is a number": put("status", integer(5)),
    "status is unknown": put("status", text("lost")),
    "flow id is a number": put("flowId", integer(5)),
    "name is a number": put("name", integer(5)),
    "blocked step is text": put("blockedOnStep", text("approval")),
    "blocked step has a number for a name": put("blockedOnStep", {"mapValue": {"fields": {"name": integer(5)}}}),
    "summary is text": put("summary", text("{}")),
    "steps are text": put("summary.steps", text("1")),
    "bytes are a double": put("summary.bytes", {"doubleValue": 0.5}),
    "last end is text": put("summary.lastEnd", text("1")),
    "error line is a number": put("summary.errorLine", integer(5)),
    "extra is a list": put("summary.extra", {"arrayValue": {}}),
}
"""Damages of a head, each of which leaves summaries without it."""

NATIVE_HEADS: dict[str, Damage] = {
    "flow id is missing": drop("flowId"),
    "name is a number": put("name", integer(5)),
    "operation is missing": drop("operation"),
    "operation is text": put("operation", text("{}")),
    "operation has no name": drop("operation.name"),
    "error is a number": put("operation.result", {"mapValue": {"fields": {"error": integer(5)}}}),
    "blocked step is text": put("blockedOnStep", text("approval")),
}
"""The same for native documents, whose heads are what summaries ask for."""

HARMLESS: dict[str, Damage] = {
    "status is missing": drop("status"),
    "status is a number": put("status", integer(5)),
    "shard is missing": drop("shard"),
    "shard is text": put("shard", text("0")),
    "blocked step of the head is missing": drop("blockedOnStep"),
    "blocked step of the head is text": put("blockedOnStep", text("approval")),
    "summary is missing": drop("summary"),
    "summary is text": put("summary", text("{}")),
    "expiry is text": put("expireAt", text("2020-01-01T00:00:00Z")),
    "expiry is a number": put("expireAt", integer(0)),
}
"""Damages of what only queries see: the state is read without it."""


def _container(fields: Fields, path: str) -> tuple[Any, Any]:
    *names, last = path.split(".")
    container: Any = fields
    for name in names:
        value = container[int(name) if isinstance(container, list) else name]
        container = value["mapValue"].setdefault("fields", {}) if "mapValue" in value else value["arrayValue"]["values"]
    return container, int(last) if isinstance(container, list) else last
