"""The native layout: the fields of a document are the fields of the state, as Genkit JS writes and reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from .._error_texts import in_cache, in_events, in_extra
from .._limits import MAX_DOCUMENT_BYTES, MAX_PATH_BYTES, document_size, quoted, unquoted, value_size
from .._rpc.messages import Document, Value
from ..errors import FlowStateEncodeError, FlowStateTooLargeError
from ..models import FlowState, WireModel
from ..unset import Unset
from .difference import Change
from .encoded_state import EncodedState, check_storable, state_from_wire
from .head import EXPIRY, owns_expiry, write_expiry
from .native_values import ReferenceOf, check_key, down_to, read_value, same_fields, write_value
from .stored_document import StoredDocument
from .wire import to_wire, values_by_path

_LARGEST: Final = ("cache", "eventsTriggered")


def write_native(fields: Any, state: FlowState) -> None:
    """Fill the fields of a document. Optional fields that are null are left out: Genkit refuses null there.

    Raises:
        FlowStateEncodeError: Firestore cannot hold a value; `path` names it, and the text says how else to store it.
    """
    try:
        _write_native(fields, state)
    except FlowStateEncodeError:
        check_storable(values_by_path(state))  # if no layout can hold the value, the error is to say that
        raise


def _write_native(fields: Any, state: FlowState) -> None:
    wire = _without_nulls(state)
    wire["cache"] = {step: _entry_wire(entry) for step, entry in state.cache.items()}
    wire["executions"] = [_without_nulls(execution) for execution in state.executions]
    wire["operation"] = operation_wire(state.operation)
    if state.blocked_on_step is not None:
        wire["blockedOnStep"] = _without_nulls(state.blocked_on_step)
    for name, value in wire.items():
        write_value(fields[check_key(name, name)], value, name, names=len(name.encode()))
        if name == "_flowstate" or (name == EXPIRY and not owns_expiry(fields)):
            raise FlowStateEncodeError(
                f"Cannot store the key {name!r} in the native layout: the store keeps something of its own under it. "
                "Choose another key, or the serialized layout.",
                path=name,
            )


def encode_native_state(state: FlowState) -> EncodedState:
    """Return the state, encoded as Firestore keeps it. So a time differs from its text, which JSON does not tell apart.

    Raises:
        FlowStateEncodeError: Firestore cannot hold a value.
    """
    document = Document()
    write_native(document.fields, state)
    stored = {name: value.SerializeToString(deterministic=True) for name, value in document.fields.items()}
    del stored["cache"], stored["eventsTriggered"]
    cache, events = (document.fields[name].map_value.fields for name in ("cache", "eventsTriggered"))
    return EncodedState(
        fields=stored,
        cache={step: cache[step].SerializeToString(deterministic=True) for step in state.cache},
        events={step: events[step].SerializeToString(deterministic=True) for step in state.events_triggered},
    )


def read_native(document: Document, *, flow_id: str, reference_of: ReferenceOf) -> FlowState:
    """Return the flow state of a native document, also of one that Genkit JS has written and cannot read.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema.
    """
    own = document.fields.keys() - (set() if owns_expiry(document.fields) else {EXPIRY})
    wire = {name: read_value(value, reference_of) for name, value in document.fields.items() if name in own}
    # Genkit's client drops a map whose entries are all undefined.
    wire.setdefault("cache", {})
    wire.setdefault("eventsTriggered", {})
    return state_from_wire(wire, flow_id=flow_id)


def write_change(document: Document, change: Change) -> list[str]:
    """Fill a document with what a partial write names; return the field paths of its mask.

    Raises:
        FlowStateEncodeError: A value or the name of a step cannot be stored so.
    """
    try:
        return _write_change(document, change)
    except FlowStateEncodeError:
        check_storable(change.values_by_path())  # as in write_native
        raise


def _write_change(document: Document, change: Change) -> list[str]:
    mask = dict.fromkeys(_member("cache", step, in_cache(step)) for step in change.remove)
    for step, entry in change.cache.items():
        path = in_cache(step)
        mask[_member("cache", step, path)] = None
        names = down_to(step, path, len("cache"))
        write_value(_map_of(document, "cache")[step], _entry_wire(entry), path, depth=1, names=names)
    for step, payload in change.events_triggered.items():
        path = in_events(step)
        mask[_member("eventsTriggered", step, path)] = None
        names = down_to(step, path, len("eventsTriggered"))
        write_value(_map_of(document, "eventsTriggered")[step], payload, path, depth=1, names=names)
    for name, value in replaced_fields(change).items():
        if value is not None or name == "blockedOnStep":
            write_value(document.fields[name], value, name, names=len(name))
        mask[name] = None
    for key, scalar in change.extra.items():
        mask[quoted(key)] = None
        if not isinstance(scalar, Unset):
            write_value(document.fields[key], scalar, in_extra(key), names=len(key.encode()))
    return list(mask)


def write_native_document(
    document: Document, state: FlowState, path: str, expire_at: datetime | None
) -> datetime | None:
    """Fill a document with a state and its expiry; return that expiry, or None if the state has a key ``expireAt``.

    Args:
        document: The document to fill.
        state: What to store.
        path: The path of the document relative to the database.
        expire_at: When the state expires; None: it does not.

    Raises:
        FlowStateEncodeError: Firestore cannot hold a value.
        FlowStateTooLargeError: It is more than a document may have.
    """
    write_native(document.fields, state)
    if owns_expiry(document.fields):
        expire_at = None
    write_expiry(document.fields, expire_at)
    _check_size(path, document.fields)
    return expire_at


def write_native_change(document: Document, change: Change, path: str, expire_at: datetime | Unset | None) -> list[str]:
    """Fill a document with what a partial write names and with the expiry; return the mask.

    Arguments and errors are those of `write_native_document`. An `expire_at` of UNSET leaves the expiry as it was.
    """
    mask = write_change(document, change)
    if not isinstance(expire_at, Unset):
        write_expiry(document.fields, expire_at)
        mask.append(EXPIRY)
    _check_size(path, document.fields)  # if the fields of the write alone are too large, the document would be too
    return mask


def is_written(stored: StoredDocument, document: Document) -> bool:
    """Return whether the stored document is what a whole write stores. Native documents have no revision to tell by."""
    return same_fields(stored.fields, document.fields)


def is_changed(stored: StoredDocument, base: StoredDocument, document: Document, mask: Sequence[str]) -> bool:
    """Return whether the stored document is what a partial write with this mask makes of `base`, the one before it."""
    return same_fields(stored.fields, changed_fields(base.fields, document.fields, mask))


def changed_fields(fields: Mapping[str, Value], written: Mapping[str, Value], mask: Sequence[str]) -> dict[str, Value]:
    """Return the fields of a document after a partial write.

    Args:
        fields: The fields before.
        written: The fields that the write carries.
        mask: Its field paths, as of `write_change`.
    """
    document, change = Document(fields=fields), Document(fields=written)
    for path in mask:
        name, _, member = (unquoted(path), "", "") if path[0] == "`" else path.partition(".")
        to, source, key = document.fields, change.fields, name
        if member:
            # As Firestore does: if the field is not a map, a path into it replaces it by one.
            to, source, key = to[name].map_value.fields, source[name].map_value.fields, unquoted(member)
        if key in source:
            to[key].CopyFrom(source[key])
        else:
            to.pop(key, None)
    return dict(document.fields)


def replaced_fields(change: Change) -> dict[str, Any]:
    """Return the fields that a change replaces whole, in native wire form."""
    replaced: dict[str, Any] = {}
    if not isinstance(change.operation, Unset):
        replaced["operation"] = operation_wire(change.operation)
    if not isinstance(change.blocked_on_step, Unset):
        blocked = change.blocked_on_step
        replaced["blockedOnStep"] = None if blocked is None else _without_nulls(blocked)
    if not isinstance(change.executions, Unset):
        replaced["executions"] = [_without_nulls(execution) for execution in change.executions]
    if not isinstance(change.trace_context, Unset):
        replaced["traceContext"] = change.trace_context
    return replaced


def operation_wire(operation: WireModel) -> dict[str, Any]:
    """Return an operation without the nulls that Genkit refuses; `metadata` and `response` may be null."""
    wire = _without_nulls(operation, but=("metadata",))
    wire.setdefault("done", False)
    result, blocked = operation.__dict__.get("result"), operation.__dict__.get("blocked_on_step")
    if result is not None:
        wire["result"] = _without_nulls(result, but=("response",))
    if blocked is not None:
        wire["blockedOnStep"] = _without_nulls(blocked)
    return wire


def _entry_wire(entry: WireModel) -> dict[str, Any]:
    return _without_nulls(entry, but=("value",))


def _without_nulls(model: WireModel, but: Sequence[str] = ("input", "blockedOnStep")) -> dict[str, Any]:
    nullable = {alias for alias in model.wire_names.values() if alias not in but}
    return {name: value for name, value in to_wire(model).items() if value is not None or name not in nullable}


def _map_of(document: Document, name: str) -> Any:
    return document.fields[name].map_value.fields


def _member(field: str, key: str, path: str) -> str:
    """Return the field path of a map's entry, quoted."""
    check_key(key, path)
    if len(f"{field}.{key}".encode()) > MAX_PATH_BYTES:
        raise FlowStateEncodeError(
            f"Cannot update {path} of a native document: with its name the field path has more than "
            f"{MAX_PATH_BYTES:,} bytes. Save the whole state, or use the serialized layout.",
            path=path,
        )
    return f"{field}.{quoted(key)}"


def _check_size(path: str, fields: Any) -> None:
    """Raise FlowStateTooLargeError if fields of a native document are more than one may have."""
    size = document_size(path, fields)
    if size <= MAX_DOCUMENT_BYTES:
        return
    sizes = {name: value_size(value) for name, value in fields.items()}
    for name in set(_LARGEST).intersection(sizes):
        inside = fields[name].map_value.fields
        sizes.update((f"{name}[{key!r}]", value_size(value)) for key, value in inside.items())
        sizes.pop(name)
    largest = max(sizes, key=sizes.__getitem__)
    raise FlowStateTooLargeError(
        f"The flow state takes {size:,} bytes as a native document, more than Firestore's {MAX_DOCUMENT_BYTES:,}; "
        f'the largest value is {largest} with {sizes[largest]:,}. The serialized layout (layout="serialized") '
        "stores states of any size.",
        path=largest,
        size=size,
        limit=MAX_DOCUMENT_BYTES,
    )
