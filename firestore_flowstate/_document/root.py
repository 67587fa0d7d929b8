"""The root document of the serialized layout, version 1, taken apart as it is stored.

docs/format.md describes each field. Values stay packed here: `serialized` writes them, and unpacks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .._limits import Moment, moment_of
from .._own_fields import PAYLOAD
from .._rpc.messages import Document, Value
from ..errors import FlowStateDecodeError
from .log import covered_by, distinct
from .stored_values import MAX_STATE_PARTS, PartRef, Segment, Stored

VERSION: Final = 1  # of the format
VALUES: Final[tuple[str, ...]] = ("input", "operation", "executions", "blockedOnStep", "traceContext", "extra")
"""The payload values beside the log."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """A root document as it is stored.

    Attributes:
        head: The fields of the head as they are, unknown keys of the state among them.
        values: The packed payload values.
        log: The segments as they are, late duplicates included.
        weight: The weight of the log inside the root, as the document has it.
        part_count: How many parts it counts: as many as it refers to, or more.
        created: The id of the create that made it; None if none did, or it is not known.
        updated: Its update_time.
        unique_log: The log without late duplicates.
        ids: Every revision that the log knows of, oldest first.
        refs: Every reference to parts: those of the values, then those of the log in order.
    """

    head: Mapping[str, Value]
    values: Mapping[str, Stored]
    log: Sequence[Segment]
    weight: int
    part_count: int
    created: str | None
    updated: Moment
    unique_log: Sequence[Segment] = field(init=False)
    ids: Sequence[str] = field(init=False)
    refs: tuple[PartRef, ...] = field(init=False)

    def __post_init__(self) -> None:
        # Not by cached_property: before Python 3.12 that has a lock, which a forked child may find taken for ever.
        object.__setattr__(self, "unique_log", distinct(self.log))
        object.__setattr__(self, "ids", covered_by(self.unique_log))
        object.__setattr__(self, "refs", _refs(self.values, self.log))

    @property
    def revision(self) -> str:
        """The revision: the last distinct id of the log."""
        return self.ids[-1]

    @property
    def extra(self) -> Stored | None:
        """The unknown keys in the payload, packed; None if it has none."""
        return self.values.get("extra")

    def has_seen(self, revision: str) -> bool:
        """Return whether the document remembers the write with this id."""
        return revision in self.ids or revision == self.created


def is_serialized(document: Document) -> bool:
    """Return whether the document is in the serialized layout; otherwise it is native."""
    return PAYLOAD in document.fields


def read_root(document: Document) -> Root:
    """Take the document apart.

    Raises:
        FlowStateDecodeError: It is damaged, or of a newer version; the text names the field.
    """
    payload = _payload(document)
    if "log" not in payload:
        raise FlowStateDecodeError(f"{PAYLOAD}.log is missing")
    log = _log(payload["log"])
    values = {name: _stored(payload[name], name) for name in VALUES if name in payload}
    fields = document.fields
    root = Root(
        head={name: fields[name] for name in fields if name != PAYLOAD},  # protobuf's `items` is slow, in Python
        values=values,
        log=log,
        weight=_integer(payload, "weight"),
        part_count=_integer(payload, "parts"),
        created=_text(payload["created"], f"{PAYLOAD}.created") if "created" in payload else None,
        updated=moment_of(document.update_time),
    )
    _check_refs(root.refs)
    return root


def check_layout(document: Document) -> None:
    """Raise FlowStateDecodeError if a document, of which the values were not read, is in neither layout.

    A writer that reads no more of the document asks, so as not to mix two layouts or add to a later format.
    """
    if is_serialized(document):
        _payload(document)
    elif "operation" not in document.fields:
        raise FlowStateDecodeError(f"it has neither {PAYLOAD} nor operation")


def refs_in(document: Document, names: Iterable[str]) -> list[PartRef]:
    """Return the references in the place of these payload values, in a document that may have been read by a mask.

    Raises:
        FlowStateDecodeError: A reference is damaged.
    """
    payload = document.fields[PAYLOAD].map_value.fields
    refs = []
    for name in names:
        if name in payload and payload[name].WhichOneof("value_type") == "map_value":
            stored = _stored(payload[name], name)
            if isinstance(stored, PartRef):
                refs.append(stored)
    return refs


def reference_fields(name: str) -> list[str]:
    """Return the field paths of the reference in the place of a payload value. They read nothing of a packed value."""
    return [f"{PAYLOAD}.{name}.{field}" for field in ("part", "count", "bytes")]


def _refs(values: Mapping[str, Stored], log: Sequence[Segment]) -> tuple[PartRef, ...]:
    refs = [value for value in values.values() if isinstance(value, PartRef)]
    for segment in log:
        # Spelt out for speed: a log has hundreds of segments, and `values()` would make a dict for each.
        if isinstance(segment.set, PartRef):
            refs.append(segment.set)
        if isinstance(segment.delete, PartRef):
            refs.append(segment.delete)
        if isinstance(segment.events, PartRef):
            refs.append(segment.events)
    return tuple(refs)


def _check_refs(refs: Sequence[PartRef]) -> None:
    if not refs:
        return
    different = {(ref.name, ref.count, ref.bytes) for ref in refs}  # a late duplicate of a segment has the same ones
    if len({name for name, _, _ in different}) < len(different):
        raise FlowStateDecodeError("two references to the same parts differ")
    if (count := sum(count for _, count, _ in different)) > MAX_STATE_PARTS:
        raise FlowStateDecodeError(f"it refers to {count:,} parts; {MAX_STATE_PARTS:,} are allowed")


def _payload(document: Document) -> Mapping[str, Value]:
    payload = _map(document.fields[PAYLOAD], PAYLOAD)
    version = _integer(payload, "v")
    if version != VERSION:
        raise FlowStateDecodeError(
            f"it is of format version {version}; this version of the package reads {VERSION}. Upgrade the package"
        )
    return payload


def _log(value: Value) -> list[Segment]:
    log: list[Segment] = []
    for segment in _array(value, f"{PAYLOAD}.log"):
        try:
            log.append(_segment(segment))
        except FlowStateDecodeError as error:  # its text goes on after the path of the segment
            raise FlowStateDecodeError(f"{PAYLOAD}.log[{len(log)}]{error}") from None
    if not log:
        raise FlowStateDecodeError(f"{PAYLOAD}.log is empty")
    return log


def _segment(value: Value) -> Segment:
    fields = value.map_value.fields
    # The usual segment, of one small step, read without a loop: a log has hundreds of these.
    if len(fields) == 2 and "id" in fields and "set" in fields:
        id, text = fields["id"].string_value, fields["set"].string_value
        if id and text:  # both are strings, then
            return Segment(id=id, set=text.encode())
    id = ""
    ids: tuple[str, ...] = ()
    stored: dict[str, Stored] = {}
    inside_of = _map(value, "")
    for name in inside_of:
        inside = inside_of[name]
        if name == "id":
            id = _text(inside, ".id")
        elif name in ("set", "del", "events"):
            stored[name] = _stored(inside, "log", path=f".{name}")
        elif name == "ids":
            ids = tuple(_text(earlier, ".ids") for earlier in _array(inside, ".ids"))
    if not id:
        raise FlowStateDecodeError(".id is missing")
    return Segment(id=id, set=stored.get("set"), delete=stored.get("del"), events=stored.get("events"), ids=ids)


def _stored(value: Value, field: str, *, path: str | None = None) -> Stored:
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        return value.string_value.encode()  # type: ignore[no-any-return]  # protobuf's messages are untyped
    path = path or f"{PAYLOAD}.{field}"
    if kind == "bytes_value":
        if value.bytes_value[:1] != b"\xf5":
            raise FlowStateDecodeError(f"{path} has bytes without an envelope")
        return value.bytes_value  # type: ignore[no-any-return]  # as above
    if kind == "map_value":
        fields = value.map_value.fields
        ref = PartRef(
            field,
            _text(fields["part"], f"{path}.part") if "part" in fields else "",
            _integer(fields, "count", path),
            _integer(fields, "bytes", path),
        )
        if ref.is_sound():
            return ref
    raise FlowStateDecodeError(f"{path} is neither text, bytes nor a reference to parts")


def _map(value: Value, path: str) -> Mapping[str, Value]:
    if value.WhichOneof("value_type") != "map_value":
        raise FlowStateDecodeError(f"{path} is not a map")
    return value.map_value.fields  # type: ignore[no-any-return]  # as above


def _array(value: Value, path: str) -> Sequence[Value]:
    if value.WhichOneof("value_type") != "array_value":
        raise FlowStateDecodeError(f"{path} is not an array")
    return value.array_value.values  # type: ignore[no-any-return]  # as above


def _text(value: Value, path: str) -> str:
    if value.WhichOneof("value_type") != "string_value":
        raise FlowStateDecodeError(f"{path} is not a string")
    return value.string_value  # type: ignore[no-any-return]  # as above


def _integer(fields: Mapping[str, Value], name: str, path: str = PAYLOAD) -> int:
    value = fields.get(name)
    if value is None or value.WhichOneof("value_type") != "integer_value":
        raise FlowStateDecodeError(f"{path}.{name} is not an integer")
    return value.integer_value  # type: ignore[no-any-return]  # as above
