"""Reading the head back: as a summary, and why lists do not show it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from .._error_texts import unreadable
from .._limits import quoted
from .._rpc.messages import Value
from ..errors import FlowStateDecodeError
from ..pages import FlowStateSummary
from .head import EXPIRY, WAKE_AT, Reason
from .layouts import LAYOUTS
from .native_values import NUMBER, ReferenceOf, field_of, map_field, read_value, required_field
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
    fields = document.fields
    try:
        flow_id = required_field(fields, "flowId", "string_value")
        name = field_of(fields, "name", "string_value")
        shown = LAYOUTS[document.layout].read_shown(document)
        # A field wins over its copy in the summary, if another tool has set only one of them: queries go by the field.
        extra = {**shown.extra, **{name: fields[name] for name in (WAKE_AT, *where) if name in fields}}
        return FlowStateSummary(
            id=document.id,
            flow_id=flow_id,
            name=name,
            status=shown.status,
            start_time=required_field(fields, "startTime", *NUMBER),
            blocked_on=field_of(map_field(fields, "blockedOnStep"), "name", "string_value"),
            step_count=shown.step_count,
            size_bytes=shown.size_bytes,
            last_end_time=shown.last_end_time,
            error_line=shown.error_line,
            updated_at=document.updated.as_datetime(),
            expire_at=document.expire_at,
            extra={name: read_value(value, reference_of) for name, value in extra.items()},
        )
    except FlowStateDecodeError as error:
        raise unreadable(error, document.id) from error.__cause__


def hidden(document: StoredDocument, shards: int) -> Iterator[Reason]:
    """Yield each reason why lists over so many shards cannot see a document: a kind of finding, and its message."""
    fields = document.fields
    if "startTime" not in fields:
        yield "hidden", "startTime is missing, so no list shows it. Load it by its id, and save it or delete it."
    elif (wrong := _wrong_number(fields["startTime"])) is not None:
        yield "hidden", f"startTime is {wrong}, so no list shows it. Correct it, or delete the document."
    if shards == 1:
        return
    if (reason := LAYOUTS[document.layout].hidden_by_shard(document, shards)) is not None:
        yield reason


def _wrong_number(value: Value) -> str | None:
    """Return what a value is if it is not a number that has a place in the order."""
    kind = value.WhichOneof("value_type")
    if kind == "integer_value":
        return None
    if kind == "double_value":
        return "NaN" if math.isnan(value.double_value) else None
    return _KINDS.get(kind, "not a number")
