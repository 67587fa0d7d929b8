"""A partial write in the serialized layout: a mask of the fields it replaces, and one segment for the log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .._limits import (
    MAX_DOCUMENT_BYTES,
    document_size,
    new_id,
    quoted,
    size_at_most,
    text_size,
    value_size,
)
from .._own_fields import PAYLOAD, SUMMARY_EXTRA
from .._rpc.messages import Document, Value
from ..errors import FlowStateEncodeError, FlowStateTooLargeError
from ..unset import Unset
from .difference import Change
from .encoded_state import check_storable
from .head import EXPIRY, StatusInputs, check_blocked, write_blocked, write_expiry, write_extra, write_summary
from .json_text import AROUND, encode
from .payload import DocumentContext
from .stored_values import SEGMENT_WEIGHT, Segment, Spill, Stored, bytes_of, write_segment, write_stored
from .update import Update
from .wire import cache_to_wire, executions_to_wire, to_wire


def pack_update(change: Change, context: DocumentContext) -> Update:
    """Pack what a change names.

    Raises:
        FlowStateEncodeError: A value cannot be stored; `path` names it.
    """
    id = new_id()
    spill = Spill(room=0)
    try:
        texts = _texts(change)
        replaced = {name: encode(value, name, around=AROUND) for name, value in _replaced(change).items()}
    except FlowStateEncodeError:
        check_storable(change.values_by_path())
        raise
    stored = {name: spill.move_if_large("log", context.pack(text, f"log.{id}.{name}")) for name, text in texts.items()}
    values = {name: spill.move_if_large(name, context.pack(text, name)) for name, text in replaced.items()}
    head = Document()
    mask = _write_head(head, change, context)
    return Update(
        change=change,
        context=context,
        revision=id,
        segment=Segment(id=id, set=stored.get("set"), delete=stored.get("del"), events=stored.get("events")),
        values=values,
        parts=spill.moved,
        size=sum(map(len, replaced.values()))
        + sum(_members_size(text) for name, text in texts.items() if name != "del")
        + _extra_size(change),
        head=head,
        mask=mask,
    )


def _texts(change: Change) -> dict[str, bytes]:
    """Return the JSON of what a change adds to the log."""
    texts: dict[str, bytes] = {}
    if change.cache:
        texts["set"] = encode(cache_to_wire(change.cache), "cache", around=2)
    if change.remove:
        texts["del"] = encode(list(change.remove), "remove")
    if change.events_triggered:
        texts["events"] = encode(dict(change.events_triggered), "events_triggered", around=1)
    return texts


def write_update(
    document: Document, update: Update, base: StatusInputs, expire_at: datetime | Unset | None
) -> list[str]:
    """Fill a document with the fields that the update replaces; return the field paths of its mask.

    Args:
        document: The document to fill.
        update: What to write.
        base: What the status of the version that it goes on top of follows from.
        expire_at: When the state expires from now on; UNSET: as before.

    Raises:
        FlowStateTooLargeError: What it names is more than a document may have, whatever else is stored.
    """
    document.MergeFrom(update.head)
    fields = document.fields
    mask = []
    for name, stored in update.values.items():
        write_stored(fields[PAYLOAD].map_value.fields[name], stored)
        mask.append(f"{PAYLOAD}.{name}")
    if update.change.names_status:
        fields["status"].string_value = update.status_inputs_after(base).status
        mask.append("status")
    mask += update.mask
    if not isinstance(expire_at, Unset):
        write_expiry(fields, expire_at)
        mask.append(EXPIRY)
    _check_size(document, update)
    return mask


def _write_head(document: Document, change: Change, context: DocumentContext) -> list[str]:
    """Fill a document with the fields of its head that a change names; return their field paths.

    The status and the expiry are not among them: they follow from the version too.
    """
    fields = document.fields
    mask = []
    if not isinstance(change.blocked_on_step, Unset):
        write_blocked(fields, change.blocked_on_step)
        mask.append("blockedOnStep")
    if not isinstance(change.executions, Unset) or not isinstance(change.operation, Unset):
        write_summary(
            fields,
            executions=() if isinstance(change.executions, Unset) else change.executions,
            operation=None if isinstance(change.operation, Unset) else change.operation,
            encrypted=context.payloads.keyring is not None,  # then the head says less
        )
    if not isinstance(change.executions, Unset):
        mask.append("summary.lastEnd")
    if not isinstance(change.operation, Unset):
        mask.append("summary.errorLine")
    if change.extra:
        write_extra(fields, change.set_extra)
        for path in map(quoted, change.extra):
            mask += [path, f"{SUMMARY_EXTRA}{path}"]
    return mask


def _check_size(document: Document, update: Update) -> None:
    """Raise FlowStateTooLargeError if what the update writes is more than its document may have by that alone.

    Large values are in parts. The name of the blocked step and unknown keys stay in the head, whatever their size.
    """
    path, segment = update.context.path, update.segment or Segment(id="")
    if size_at_most(path, document) + SEGMENT_WEIGHT + segment.weight() <= MAX_DOCUMENT_BYTES:
        return
    appended = Value()
    write_segment(appended, segment)
    size = document_size(path, document.fields) + value_size(appended)
    if size <= MAX_DOCUMENT_BYTES:
        return
    change, fields = update.change, document.fields
    taken = {
        "blocked_on_step.name": value_size(fields["blockedOnStep"]) if "blockedOnStep" in fields else 0,
        "extra": sum(2 * (text_size(key) + value_size(fields[key])) for key in change.set_extra),
    }
    largest = max(taken, key=taken.__getitem__)
    raise FlowStateTooLargeError(
        f"What is to be written takes {size:,} bytes in its document, more than Firestore's {MAX_DOCUMENT_BYTES:,}; "
        f"{taken[largest]:,} of them are {largest}, which cannot be moved to parts. Make it smaller.",
        path=largest,
        size=size,
        limit=MAX_DOCUMENT_BYTES,
    )


def unremovable(change: Change, extra: Stored, resolved: Mapping[str, bytes], context: DocumentContext) -> list[str]:
    """Return the keys that a change is to remove and that the payload has too, so that they would appear again.

    Args:
        change: What to write.
        extra: The unknown keys in the payload, packed.
        resolved: The bytes of its reference, if it is one.
        context: The context of the document.

    Raises:
        FlowStateDecodeError: They cannot be read.
    """
    unpacked = context.unpack(bytes_of(extra, resolved), "extra")
    return sorted(change.unset.intersection(unpacked if isinstance(unpacked, dict) else ()))


def _extra_size(change: Change) -> int:
    return _members_size(encode(set_keys, "extra")) if change.extra and (set_keys := change.set_extra) else 0


def _replaced(change: Change) -> dict[str, Any]:
    """Return the payload values that the change replaces, in wire form."""
    replaced: dict[str, Any] = {}
    if not isinstance(change.operation, Unset):
        replaced["operation"] = to_wire(change.operation)
    if not isinstance(change.blocked_on_step, Unset):
        check_blocked(change.blocked_on_step)
        replaced["blockedOnStep"] = None if change.blocked_on_step is None else to_wire(change.blocked_on_step)
    if not isinstance(change.executions, Unset):
        replaced["executions"] = executions_to_wire(change.executions)
    if not isinstance(change.trace_context, Unset):
        replaced["traceContext"] = change.trace_context
    return replaced


def _members_size(text: bytes) -> int:
    """Return by how many bytes a JSON object with members grows if it gets those of another one, of this text."""
    return max(0, len(text) - 1)  # for its braces a comma
