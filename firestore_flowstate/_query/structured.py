"""FlowStateQuery to Firestore's structured query.

The order is newest startTime first, ties by name descending. The query asks for numbers alone: damaged documents with
a text, a timestamp or NaN as startTime sort elsewhere, and would hide states or break tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from .._document.head import WAKE_AT, write_number, write_scalar
from .._limits import quoted
from .._rpc.messages import Cursor, Int32Value, StructuredQuery, Value
from ..query import FlowStateQuery, milliseconds, statuses
from .matching import Due
from .token import Position

_GREATER_OR_EQUAL: Final = StructuredQuery.FieldFilter.Operator.GREATER_THAN_OR_EQUAL
_LESS_OR_EQUAL: Final = StructuredQuery.FieldFilter.Operator.LESS_THAN_OR_EQUAL
_LESS: Final = StructuredQuery.FieldFilter.Operator.LESS_THAN
_EQUAL: Final = StructuredQuery.FieldFilter.Operator.EQUAL
_IN: Final = StructuredQuery.FieldFilter.Operator.IN
_AND: Final = StructuredQuery.CompositeFilter.Operator.AND
_ASCENDING: Final = StructuredQuery.Direction.ASCENDING
_DESCENDING: Final = StructuredQuery.Direction.DESCENDING
_NATIVE_DONE: Final = "operation.done"


def structured_query(
    collection_id: str,
    query: FlowStateQuery,
    *,
    limit: int | None,
    after: Position | None = None,
    after_name: str | None = None,
    fields: Sequence[str] | None = None,
    shard: int | None = None,
    native_done: Sequence[bool] | None = None,
    native_by_status: bool = False,
) -> StructuredQuery:
    """Return the structured query of a page.

    Args:
        collection_id: The last name of the collection's path.
        query: The filters.
        limit: How many documents to ask for; None: all, for counting.
        after: The last place of the page before; None: this is the first page.
        after_name: The resource name of the document at that place.
        fields: The field paths to read; None: all.
        shard: The shard to ask; None: all documents, whatever their shard.
        native_done: Ask for native documents with one of these values of ``operation.done``, and not by status, which
            they do not have. None: ask by the status.
        native_by_status: Ask for those native documents that have a matching unknown key ``status``, which is not their
            status.
    """
    structured = StructuredQuery()
    structured.from_.add().collection_id = collection_id
    where = structured.where.composite_filter
    where.op = _AND
    done = (False, True) if native_by_status else native_done
    asked = None if native_done is not None else statuses(query)
    for path, value in _equalities(query, shard=shard):
        _compare(where, path, _EQUAL).CopyFrom(value)
    if done is not None:
        _any_of(where, _NATIVE_DONE, [Value(boolean_value=one) for one in done])
    if asked is not None:
        _any_of(where, "status", [Value(string_value=one) for one in asked])
    write_number(_compare(where, "startTime", _GREATER_OR_EQUAL), _start(query.started_after, -math.inf))
    if query.started_before is not None:
        write_number(_compare(where, "startTime", _LESS), milliseconds(query.started_before))
    for path in ("startTime", "__name__"):
        order = structured.order_by.add()
        order.field.field_path = path
        order.direction = _DESCENDING
    if after is not None and after_name is not None:
        cursor = Cursor(before=False)
        write_number(cursor.values.add(), after.start_time)
        cursor.values.add().reference_value = after_name
        structured.start_at.CopyFrom(cursor)
    if limit is not None:
        structured.limit.CopyFrom(Int32Value(value=limit))
    for path in fields or ():
        structured.select.fields.add().field_path = path
    return structured


def due_structured_query(
    collection_id: str,
    *,
    before: float,
    limit: int,
    after: Due | None,
    after_name: str | None,
    fields: Sequence[str],
    shard: int | None,
) -> StructuredQuery:
    """Return the structured query of what is due: earliest first, ties by name.

    Args:
        collection_id: The last name of the collection's path.
        before: The latest moment, inclusive, in milliseconds since the epoch.
        limit: How many documents to ask for.
        after: The last place of the page before; None: this is the first page.
        after_name: The resource name of the document at that place.
        fields: The field paths to read.
        shard: The shard to ask; None: all documents, whatever their shard.
    """
    structured = StructuredQuery()
    structured.from_.add().collection_id = collection_id
    where = structured.where.composite_filter
    where.op = _AND
    if shard is not None:
        _compare(where, "shard", _EQUAL).integer_value = shard
    write_number(_compare(where, WAKE_AT, _GREATER_OR_EQUAL), -math.inf)
    write_number(_compare(where, WAKE_AT, _LESS_OR_EQUAL), before)
    for path in (WAKE_AT, "__name__"):
        order = structured.order_by.add()
        order.field.field_path = path
        order.direction = _ASCENDING
    if after is not None and after_name is not None:
        cursor = Cursor(before=False)
        write_number(cursor.values.add(), after.wake_at)
        cursor.values.add().reference_value = after_name
        structured.start_at.CopyFrom(cursor)
    structured.limit.CopyFrom(Int32Value(value=limit))
    for path in fields:
        structured.select.fields.add().field_path = path
    return structured


def _equalities(query: FlowStateQuery, *, shard: int | None) -> list[tuple[str, Value]]:
    filters: list[tuple[str, Value]] = []
    if shard is not None:
        filters.append(("shard", Value(integer_value=shard)))
    if query.name is not None:
        filters.append(("name", Value(string_value=query.name)))
    if query.blocked_on is not None:
        filters.append(("blockedOnStep.name", Value(string_value=query.blocked_on)))
    for key, value in query.where.items():
        filters.append((quoted(key), _scalar(value)))
    return filters


def _any_of(where: Any, path: str, values: Sequence[Value]) -> None:
    """Add a filter for one value or several. Firestore makes a query for each value, served by the same indexes."""
    if len(values) == 1:
        _compare(where, path, _EQUAL).CopyFrom(values[0])
    else:
        _compare(where, path, _IN).array_value.values.extend(values)


def _compare(where: Any, path: str, op: int) -> Value:
    field_filter = where.filters.add().field_filter
    field_filter.field.field_path = path
    field_filter.op = op
    return field_filter.value


def _start(bound: object, otherwise: float) -> int | float:
    return otherwise if bound is None else milliseconds(bound)  # type: ignore[arg-type]  # checked by the query


def _scalar(value: str | int | bool) -> Value:
    filled = Value()
    write_scalar(filled, value)
    return filled
