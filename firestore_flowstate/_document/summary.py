"""Reading the head back: as a summary, and what is wrong with it: lists do not show it, or it contradicts its state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, get_args

from .._error_texts import unreadable
from .._limits import quoted
from .._rpc.messages import Value
from ..errors import FlowStateDecodeError
from ..models import FlowState, FlowStatus
from ..pages import FlowStateSummary
from .head import EXPIRY, WAKE_AT, first_line
from .native_values import ReferenceOf, read_value
from .stored_document import NATIVE_STATUS_INPUTS, StoredDocument

SUMMARY: Final = (
    "flowId",
    "name",
    "startTime",
    "status",
    "blockedOnStep",
    EXPIRY,
    "summary",
    WAKE_AT,
    *NATIVE_STATUS_INPUTS,
)

_STATUSES: Final = get_args(FlowStatus)
_NUMBER: Final = ("integer_value", "double_value")
_KINDS: Final = {
    "null_value": "null",
    "boolean_value": "a boolean",
    "timestamp_value": "a timestamp",
    "string_value": "a string",
    "bytes_value": "bytes",
    "reference_value": "a reference",
    "geo_point_value": "a geo point",
    "array_value": "an array",
    "map_value": "a map",
}


def summary_mask(where: Iterable[str]) -> list[str]:
    """Return the mask of what a summary shows, with the unknown keys that a query asks for."""
    return [*SUMMARY, *map(quoted, where)]


def summary_of(document: StoredDocument, *, reference_of: ReferenceOf, where: Iterable[str] = ()) -> FlowStateSummary:
    """Return the summary of a document of either layout.

    Args:
        document: The document, whole or read by `summary_mask`.
        reference_of: Makes DocumentReferences of values that are references.
        where: The unknown keys that the query asks for. Of a native document only these and wakeAt are shown, since it
            has no summary that a projection could name.

    Raises:
        FlowStateDecodeError: A field is damaged; the text names it.
    """
    fields, native = document.fields, document.is_native
    try:
        summary = {} if native else _map(fields, "summary")
        # A field wins over its copy in the summary, if another tool has set only one of them: queries go by the field.
        extra = {**_map(summary, "extra"), **{name: fields[name] for name in (WAKE_AT, *where) if name in fields}}
        return FlowStateSummary(
            id=document.id,
            flow_id=_required(fields, "flowId", "string_value"),
            name=_optional(fields, "name", "string_value"),
            status=_native_status(document) if native else _status(fields),
            start_time=_required(fields, "startTime", *_NUMBER),
            blocked_on=_optional(_map(fields, "blockedOnStep"), "name", "string_value"),
            step_count=_optional(summary, "steps", "integer_value") or 0,
            size_bytes=_optional(summary, "bytes", "integer_value") or 0,
            last_end_time=_native_last_end(fields) if native else _optional(summary, "lastEnd", *_NUMBER),
            error_line=_native_error(fields) if native else _optional(summary, "errorLine", "string_value"),
            updated_at=document.updated.as_datetime(),
            expire_at=document.expire_at,
            extra={name: read_value(value, reference_of) for name, value in extra.items()},
        )
    except FlowStateDecodeError as error:
        raise unreadable(error, document.id) from error


def _native_status(document: StoredDocument) -> FlowStatus:
    _required(_map(document.fields, "operation"), "name", "string_value")
    return document.native_status


def _status(fields: Mapping[str, Value]) -> FlowStatus:
    status: FlowStatus = _required(fields, "status", "string_value")
    if status not in _STATUSES:
        raise FlowStateDecodeError(f"its status is {status!r:.80}")
    return status


def _native_error(fields: Mapping[str, Value]) -> str | None:
    text = _optional(_map(_map(fields, "operation"), "result"), "error", "string_value")
    return None if text is None else first_line(text)


def _native_last_end(fields: Mapping[str, Value]) -> int | float | None:
    """Return when the last execution ended; None too if that is damaged, since no query goes by it."""
    executions = fields["executions"].array_value.values if "executions" in fields else ()
    last = executions[-1].map_value.fields if executions else {}
    kind = last["endTime"].WhichOneof("value_type") if "endTime" in last else None
    end: int | float | None = getattr(last["endTime"], kind) if kind in _NUMBER else None
    return end


def _required(fields: Mapping[str, Value], name: str, *kinds: str) -> Any:
    value = _optional(fields, name, *kinds)
    if value is None:
        raise FlowStateDecodeError(f"its {name} is missing")
    return value


def _optional(fields: Mapping[str, Value], name: str, *kinds: str) -> Any:
    kind = fields[name].WhichOneof("value_type") if name in fields else "null_value"
    if kind == "null_value":
        return None
    if kind not in kinds:
        raise FlowStateDecodeError(f"its {name} has the type {kind}")
    return getattr(fields[name], kind)


def _map(fields: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    value = _optional(fields, name, "map_value")
    return {} if value is None else value.fields


def hidden(document: StoredDocument, shards: int) -> Iterator[tuple[Literal["hidden", "native"], str]]:
    """Yield each reason why lists over so many shards cannot see a document: a kind of finding, and its message."""
    fields = document.fields
    if "startTime" not in fields:
        yield "hidden", "startTime is missing, so no list shows it. Load it by its id, and save it or delete it."
    elif (wrong := _wrong_number(fields["startTime"])) is not None:
        yield "hidden", f"startTime is {wrong}, so no list shows it. Correct it, or delete the document."
    if shards == 1:
        return
    if document.is_native:
        yield "native", f"A native document, which carries no shard: no list over {shards} shards shows it. Migrate it."
    elif "shard" not in fields or fields["shard"].WhichOneof("value_type") != "integer_value":
        yield (
            "hidden",
            f"shard is missing or is not an integer, so no list over {shards} shards shows it. Save it again.",
        )
    elif not 0 <= fields["shard"].integer_value < shards:
        number = fields["shard"].integer_value
        yield "hidden", f"It is in shard {number}, which no list over {shards} shards asks. Migrate, or raise shards."


def contradictions(document: StoredDocument, state: FlowState) -> Iterator[str]:
    """Yield a message for each field of the head that differs from the state. Filters go by the head."""
    fields = document.fields
    if document.is_native:
        if "done" not in _map(fields, "operation"):
            yield (
                "operation.done is missing, by which filters by status find native documents: this one is in no such "
                f"list, and the flow is {state.status}. Save it again."
            )
        return
    if EXPIRY in fields and document.expire_at is None:
        yield "expireAt is not a timestamp, so that the state never expires. Save it again."
    status = fields["status"].string_value if "status" in fields else None
    if status != state.status:
        told = f"says {status!r}" if status in get_args(FlowStatus) else "is missing, or is not one"
        yield f"status {told}, and the flow is {state.status}: filters go by the head. Save it again."
    blocked = fields["blockedOnStep"].map_value.fields if "blockedOnStep" in fields else {}
    name = blocked["name"].string_value if "name" in blocked else None
    if name != (None if state.blocked_on_step is None else state.blocked_on_step.name):
        yield f"blockedOnStep says {name!r}, which is not the step that the flow waits for. Save it again."


def _wrong_number(value: Value) -> str | None:
    """Return what a value is if it is not a number that has a place in the order."""
    kind = value.WhichOneof("value_type")
    if kind == "integer_value":
        return None
    if kind == "double_value":
        return "NaN" if math.isnan(value.double_value) else None
    return _KINDS.get(kind, "not a number")
