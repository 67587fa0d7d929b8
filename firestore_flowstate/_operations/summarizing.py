"""Summaries, from documents of which only the head was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from .._collection.collection import expires_at
from .._document.head import first_line
from .._document.moment import moment_of
from .._document.native_values import ReferenceOf, read_value
from .._document.root import is_serialized
from .._document.status_inputs import NATIVE_STATUS_INPUTS, native_status_inputs
from .._query.due import WAKE_AT
from .._rpc.messages import Document, Value
from ..errors import FlowStateDecodeError
from ..models import FlowStateSummary, FlowStatus

SUMMARY_FIELDS: Final = (
    "flowId",
    "name",
    "startTime",
    "status",
    "blockedOnStep",
    "expireAt",
    "summary",
    WAKE_AT,
    *NATIVE_STATUS_INPUTS,
)

_STATUSES: Final = get_args(FlowStatus)
_NUMBER: Final = ("integer_value", "double_value")


def summary_of(
    document: Document, *, id: str, reference_of: ReferenceOf, where: Iterable[str] = ()
) -> FlowStateSummary:
    """Return the summary of a document of either layout.

    Args:
        document: The fields `SUMMARY_FIELDS` of it, and those of `where`.
        id: The id it is stored under.
        reference_of: Makes references of values that are references.
        where: The unknown keys that the query asks for; of native documents only these and wakeAt can be shown.

    Raises:
        FlowStateDecodeError: A field is damaged; says which.
    """
    try:
        native = not is_serialized(document)
        summary = {} if native else _map(document.fields, "summary")
        # The fields themselves are what queries go by: they win where another tool has set one of the two.
        extra = {**_map(summary, "extra"), **_extra(document, (WAKE_AT, *where))}
        return FlowStateSummary(
            id=id,
            flow_id=_required(document.fields, "flowId", "string_value"),
            name=_optional(document.fields, "name", "string_value"),
            status=_status(document, native=native),
            start_time=_required(document.fields, "startTime", *_NUMBER),
            blocked_on=_optional(_map(document.fields, "blockedOnStep"), "name", "string_value"),
            step_count=_optional(summary, "steps", "integer_value") or 0,
            size_bytes=_optional(summary, "bytes", "integer_value") or 0,
            last_end_time=_optional(summary, "lastEnd", *_NUMBER),
            error_line=_native_error(document) if native else _optional(summary, "errorLine", "string_value"),
            updated_at=moment_of(document.update_time).as_datetime(),
            expire_at=expires_at(document.fields),
            extra={name: read_value(value, reference_of) for name, value in extra.items()},
        )
    except FlowStateDecodeError as error:
        raise FlowStateDecodeError(f"The flow state {id!r} cannot be read: {error}.", flow_id=id) from error


def _status(document: Document, *, native: bool) -> FlowStatus:
    if native:
        _required(_map(document.fields, "operation"), "name", "string_value")
        return native_status_inputs(document).status
    status: FlowStatus = _required(document.fields, "status", "string_value")
    if status not in _STATUSES:
        raise FlowStateDecodeError(f"its status is {status!r:.80}")
    return status


def _native_error(document: Document) -> str | None:
    text = _optional(_map(_map(document.fields, "operation"), "result"), "error", "string_value")
    return None if text is None else first_line(text)


def _extra(document: Document, where: Iterable[str]) -> Mapping[str, Value]:
    return {name: document.fields[name] for name in where if name in document.fields}


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
