"""Writing the serialized layout: a readable head, every value as packed JSON, the cache and events as a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from .._limits import MAX_DOCUMENT_BYTES, document_size, new_id, size_at_most
from .._rpc.messages import Document
from ..errors import FlowStateEncodeError, FlowStateTooLargeError
from ..models import BlockedOnStep, FlowState, FlowStateExecution, Operation
from .encoded_state import check_storable
from .head import check_head, error_line, last_end_time, queryable, write_expiry, write_number, write_scalar
from .json_forms import plain
from .json_text import encode
from .payload import DocumentContext
from .root import VERSION
from .stored_values import MAX_IDS, Segment, Spill, Stored, Written, write_log, write_stored
from .version import Absent, Exactly, Expectation, Version, remembered_revisions
from .wire import executions_to_wire, to_wire, values_by_path

_PLAIN: Final = frozenset({str, int, float, bool, dict, list, type(None)})
_AROUND_VALUES: Final = 4096  # bytes: more than a payload of one segment has beside its values (names, references, ids)
ROOT_BYTES: Final = 512 * 1024  # what a saved root may have: the rest up to 1 MiB is room for steps of updates


def write_state(
    document: Document,
    state: FlowState,
    context: DocumentContext,
    *,
    expected: Expectation,
    expire_at: datetime | None,
) -> Written:
    """Fill a document with the whole state, its log in one segment. Values that are too large for it are left to parts.

    Args:
        document: The document to fill. Its name is not set here.
        state: What to store.
        context: The context of the document.
        expected: What the write expects to replace. If that is a version, the document remembers its revisions.
        expire_at: When the state expires; None: it does not.

    Raises:
        FlowStateEncodeError: A value cannot be stored.
        FlowStateTooLargeError: The state cannot be stored; nothing was sent.
    """
    head, extra = _write_head(document, state, context)
    try:
        texts = {name: encode(value, name) for name, value in _values_wire(state).items()}
        if extra:
            texts["extra"] = encode(extra, "extra")
        set_text, events_text = text_of_cache(state.cache), text_of_events(state.events_triggered)
    except FlowStateEncodeError:
        check_storable(values_by_path(state))
        raise
    write_expiry(head, expire_at)
    write_summary(
        head,
        steps=len(state.cache),
        size=sum(map(len, texts.values())) + len(set_text) + len(events_text),
        executions=state.executions,
        operation=state.operation,
        encrypted=context.payloads.keyring is not None,
    )
    id = new_id()
    base = expected.version if isinstance(expected, Exactly) else None
    head_bytes = size_at_most(context.path, document)
    spill = Spill(room=ROOT_BYTES - head_bytes)
    values: dict[str, Stored] = {name: context.pack(text, name) for name, text in texts.items()}
    if state.cache:
        values["log.set"] = context.pack(set_text, f"log.{id}.set")
    if state.events_triggered:
        values["log.events"] = context.pack(events_text, f"log.{id}.events")
    value_bytes = sum([len(stored) for stored in values.values() if isinstance(stored, bytes)])
    if value_bytes > spill.room:
        values = spill.move_largest(values)
    segment = Segment(
        id=id,
        set=values.pop("log.set", None),
        events=values.pop("log.events", None),
        ids=revisions_to_remember(state, base),
    )
    created = id if isinstance(expected, Absent) else None if base is None else base.created
    payload = head["_flowstate"].map_value.fields
    write_payload(payload, values, [segment], parts=spill.count, created=created)
    if head_bytes + min(value_bytes, ROOT_BYTES) + _AROUND_VALUES > MAX_DOCUMENT_BYTES:
        _check_size(context.path, head)
    return Written(
        revision=id,
        weight=segment.weight(),
        parts=spill.moved,
        created=created,
        has_extra="extra" in values,
    )


def revisions_to_remember(state: FlowState, base: Version | None) -> tuple[str, ...]:
    """Return the revisions that a write of the whole state on top of a version can remember, oldest first."""
    if base is None or not base.revision:
        return ()
    known = remembered_revisions(state)
    return known[-MAX_IDS:] if known[-1:] == (base.revision,) else (base.revision,)


def text_of_cache(cache: Mapping[str, Any]) -> bytes:
    """Return the JSON of cache entries by step.

    Raises:
        FlowStateEncodeError: An entry cannot be stored.
    """
    return encode({step: to_wire(entry) for step, entry in cache.items()}, "cache")


def text_of_events(events: Mapping[str, Any]) -> bytes:
    """Return the JSON of events by step.

    Raises:
        FlowStateEncodeError: A payload cannot be stored.
    """
    return encode(dict(events), "events_triggered")


def write_blocked(head: Any, blocked: BlockedOnStep | None) -> None:
    """Write the readable part of the blocked step."""
    if blocked is None:
        head["blockedOnStep"].null_value = 0
    else:
        head["blockedOnStep"].map_value.fields["name"].string_value = blocked.name


def write_summary(
    head: Any,
    *,
    steps: int | None = None,
    size: int | None = None,
    executions: Sequence[FlowStateExecution] = (),
    operation: Operation | None = None,
    encrypted: bool,
) -> None:
    """Write what summaries show, as far as it is given."""
    end = last_end_time(executions)
    line = None if operation is None or encrypted else error_line(operation)
    if (steps, size, end, line) == (None, None, None, None):
        return  # to name the summary would give the head a value without a type, which Firestore refuses
    summary = head["summary"].map_value.fields
    if steps is not None:
        summary["steps"].integer_value = steps
    if size is not None:
        summary["bytes"].integer_value = size
    if end is not None:
        write_number(summary["lastEnd"], end)
    if line is not None:
        summary["errorLine"].string_value = line


def _values_wire(state: FlowState) -> dict[str, Any]:
    blocked = state.blocked_on_step
    wire: dict[str, Any] = {
        "operation": to_wire(state.operation),
        "executions": executions_to_wire(state.executions),
        "blockedOnStep": None if blocked is None else to_wire(blocked),
    }
    if state.has("input"):
        wire["input"] = state.input
    if state.has("trace_context"):
        wire["traceContext"] = state.trace_context
    return wire


def _write_head(document: Document, state: FlowState, context: DocumentContext) -> tuple[Any, dict[str, Any]]:
    """Fill the head; return its fields, and the unknown keys (and a null name) that only the payload can hold."""
    check_head(state)
    head = document.fields
    shown, extra = _unknown(state.__pydantic_extra__) if state.__pydantic_extra__ else ({}, {})
    head["flowId"].string_value = state.flow_id
    if state.name is not None:
        head["name"].string_value = state.name
    elif state.has("name"):
        extra["name"] = None
    write_number(head["startTime"], state.start_time)
    head["status"].string_value = state.status
    write_blocked(head, state.blocked_on_step)
    head["shard"].integer_value = context.shard
    write_extra(head, shown)
    return head, extra


def _unknown(unknown: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the unknown keys that the head can hold, and the others."""
    values = {key: value if type(value) in _PLAIN else plain(value, key) for key, value in unknown.items()}
    shown = queryable(values)
    return shown, {key: value for key, value in values.items() if key not in shown}


def write_extra(head: Any, shown: Mapping[str, str | int | float | bool]) -> None:
    """Write the unknown keys of the head."""
    for key, value in shown.items():
        write_scalar(head[key], value)
        # Repeated in the summary, all of which a projection can ask for without knowing the keys.
        write_scalar(head["summary"].map_value.fields["extra"].map_value.fields[key], value)


def _check_size(path: str, fields: Any) -> None:
    size = document_size(path, fields)
    if size > MAX_DOCUMENT_BYTES:
        raise FlowStateTooLargeError(
            f"The flow state takes {size:,} bytes in its document, more than Firestore's {MAX_DOCUMENT_BYTES:,}, and "
            "what takes them cannot be moved to parts: the scalar unknown keys, flow id and name. Make these smaller.",
            path="flow_id",
            size=size,
            limit=MAX_DOCUMENT_BYTES,
        )


def write_payload(
    fields: Any, values: Mapping[str, Stored], log: Sequence[Segment], *, parts: int, created: str | None
) -> None:
    """Fill the fields of the payload map of a new root."""
    fields["v"].integer_value = VERSION
    for name, stored in values.items():
        write_stored(fields[name], stored)
    write_log(fields, log)
    fields["parts"].integer_value = parts
    if created is not None:
        fields["created"].string_value = created
