"""A notation of raw documents that a test can spell out whole, with their exact value types.

Strings, integers, doubles, booleans, nulls, arrays and maps are written as Python has them. `Time`, `Packed` and
`Long` stand for what else there is. What differs from run to run is normalised by rule, never left out: ids by
the order they come in, times by what they follow from, packed bytes by the text that is in them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pprint import pformat
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ID = re.compile(r"[A-Za-z0-9_-]{11}")
_SHOWN = 400  # characters or bytes: what is longer is shown by its size and hash


class Time(NamedTuple):
    """A timestamp: as text, or how much later than now it was when the document was written."""

    value: str | timedelta


class Packed(NamedTuple):
    """Bytes in an envelope: the line that names what was applied, and the text they unpack to."""

    line: str
    text: Any


class Long(NamedTuple):
    """A long text or a part's bytes, by size and the start of their SHA-256."""

    size: int
    sha256: str

    @classmethod
    def of(cls, data: str | bytes) -> Long:
        data = data.encode() if isinstance(data, str) else data
        return cls(len(data), hashlib.sha256(data).hexdigest()[:16])


def plain(value: Mapping[str, Any]) -> Any:
    """Return a raw value in this notation."""
    ((kind, content),) = value.items()
    if kind == "mapValue":
        return fields(content.get("fields", {}))
    if kind == "arrayValue":
        return [plain(member) for member in content.get("values", [])]
    if kind == "integerValue":
        return int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "timestampValue":
        return Time(content)
    if kind == "bytesValue":
        return base64.b64decode(content)
    if kind in ("stringValue", "booleanValue", "nullValue"):
        return content
    raise AssertionError(f"a {kind} is nothing that flow states are stored as")


def fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return raw fields in this notation."""
    return {name: plain(value) for name, value in raw.items()}


def same(document: Any) -> str:
    """Return a text that is equal for equal documents only: 1, 1.0 and True differ, the order of fields does not."""
    return pformat(_shortened(document), width=110, sort_dicts=True)


class Normaliser:
    """Normalises documents of the serialized layout, by docs/format.md alone.

    Args:
        owner: The collection's path and the flow's id.
        keys: The encryption keys by id, in base64.
    """

    def __init__(self, *owner: str, keys: Mapping[str, str] | None = None) -> None:
        self._owner = json.dumps(list(owner), separators=(",", ":")).encode()
        self._keys = keys or {}
        self._names: dict[str, str] = {}
        self._logical: dict[str, str] = {}

    def root(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return a root document. Its ids are called id-1, id-2 and so on in the order of the log."""
        document = fields(raw)
        payload = document["_flowstate"]
        for segment in payload["log"]:
            id = segment["id"]
            for name in segment.keys() & {"set", "del", "events"}:
                segment[name] = self._value(segment[name], f"log.{id}.{name}")
            if "ids" in segment:
                segment["ids"] = [self._id(covered) for covered in segment["ids"]]
            segment["id"] = self._id(id)
        if "created" in payload:
            payload["created"] = self._id(payload["created"])
        for name in payload.keys() - {"v", "log", "weight", "parts", "created"}:
            payload[name] = self._value(payload[name], name)
        return _with_expiry(document)

    def parts(self, raw: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return part documents under the names that the root has for them, after `root`, with envelopes unpacked."""
        shown = {}
        for name, document in raw.items():
            part = _with_expiry(fields(document))
            if part["data"][:1] == b"\xf5":
                assert [name] == [other for other in raw if other.startswith(name[:11])], "an envelope in one part"
                part["data"] = self.unpacked(part["data"], self._logical[name[:11]])
            shown[f"{self._names[name[:11]]}{name[11:]}"] = part
        return shown

    def unpacked(self, stored: str | bytes, logical: str) -> Any:
        """Return text as it is, and bytes as what they unpack to."""
        if isinstance(stored, str):
            return stored
        assert stored[:1] == b"\xf5"
        line, _, body = stored[1:].partition(b"\n")
        for layer in reversed(line.decode().split(";") if line else []):
            name, _, parameter = layer.partition("=")
            if name == "zstd":
                body = zstd.decompress(body)
                assert len(body) == int(parameter)
            elif name == "backwards":
                body = body[::-1]
            else:
                assert name == "aes-gcm"
                key = AESGCM(base64.b64decode(self._keys[parameter]))
                body = key.decrypt(body[:12], body[12:], self._owner + b"\n" + logical.encode())
        return Packed(line.decode(), body.decode())

    def _value(self, stored: Any, logical: str) -> Any:
        if isinstance(stored, dict):
            self._logical[stored["part"]] = logical
            return {**stored, "part": self._id(stored["part"])}
        return self.unpacked(stored, logical)

    def _id(self, id: str) -> str:
        assert _ID.fullmatch(id)
        return self._names.setdefault(id, f"id-{len(self._names) + 1}")


def _with_expiry(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with its expiry as the time from now, in whole minutes: tests take less than one."""
    if "expireAt" in document:
        at = datetime.fromisoformat(document["expireAt"].value.replace("Z", "+00:00"))
        document["expireAt"] = Time(timedelta(minutes=round((at - datetime.now(timezone.utc)) / timedelta(minutes=1))))
    return document


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shortened(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_shortened(member) for member in value]
    if isinstance(value, Packed):
        return Packed(value.line, _shortened(value.text))
    return Long.of(value) if isinstance(value, (str, bytes)) and len(value) > _SHOWN else value
