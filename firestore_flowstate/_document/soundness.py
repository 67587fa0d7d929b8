"""What is wrong with a document that can be read: lists do not show it, or its readable fields contradict its state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Literal, get_args

from .._rpc.messages import Value
from ..models import FlowState, FlowStatus
from .head import EXPIRY
from .stored_document import StoredDocument

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


def hidden(document: StoredDocument, shards: int) -> Iterator[tuple[Literal["hidden", "native"], str]]:
    """Yield why lists over so many shards cannot see a document."""
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
        yield "hidden", f"shard is missing or no integer, so no list over {shards} shards shows it. Save it again."
    elif not 0 <= fields["shard"].integer_value < shards:
        number = fields["shard"].integer_value
        yield "hidden", f"It is in shard {number}, which no list over {shards} shards asks. Migrate, or raise shards."


def contradictions(document: StoredDocument, state: FlowState) -> Iterator[str]:
    """Yield where the head, which filters ask, says something else than the state."""
    fields = document.fields
    if document.is_native:
        return
    if EXPIRY in fields and document.expire_at is None:
        yield "expireAt is not a timestamp, so it never expires. Save it again."
    status = fields["status"].string_value if "status" in fields else None
    if status != state.status:
        told = f"says {status!r}" if status in get_args(FlowStatus) else "is missing or none"
        yield f"status {told}, but it is {state.status}: filters go by the head. Save it again."
    blocked = fields["blockedOnStep"].map_value.fields if "blockedOnStep" in fields else {}
    name = blocked["name"].string_value if "name" in blocked else None
    if name != (None if state.blocked_on_step is None else state.blocked_on_step.name):
        yield f"blockedOnStep says {name!r}, which is not the step that it waits for. Save it again."


def _wrong_number(value: Value) -> str | None:
    """Return what a value is if it is not a number that has a place in the order."""
    kind = value.WhichOneof("value_type")
    if kind == "integer_value":
        return None
    if kind == "double_value":
        return "NaN" if math.isnan(value.double_value) else None
    return _KINDS.get(kind, "no number")
