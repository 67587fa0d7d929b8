"""Whether a flow state is asked for or due, and where it stands in the order: decided here, as Firestore decides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from .._document.head import WAKE_AT
from .._limits import check_flow_id, exact, is_int64
from ..errors import InvalidFlowIdError, InvalidQueryError, shown
from ..pages import FlowStateSummary
from ..query import FlowStateQuery, check_limit, check_moment, milliseconds, statuses


def matches(query: FlowStateQuery, summary: FlowStateSummary) -> bool:
    """Return whether all filters of the query hold."""
    start, asked = summary.start_time, statuses(query)
    return (
        (query.name is None or summary.name == query.name)
        and (asked is None or summary.status in asked)
        and (query.blocked_on is None or summary.blocked_on == query.blocked_on)
        and (query.started_after is None or start >= milliseconds(query.started_after))
        and (query.started_before is None or start < milliseconds(query.started_before))
        and all(key in summary.extra and _equal(summary.extra[key], value) for key, value in query.where.items())
    )


def order(start_time: float, id: str) -> tuple[float, bytes]:
    """Return the key to sort a list by, descending: start, then id as Firestore orders names, by its bytes in UTF-8."""
    return start_time, id.encode()


def _equal(stored: object, asked: object) -> bool:
    """Compare as Firestore does: numbers by value, whatever their type; a bool is not a number."""
    return isinstance(stored, bool) == isinstance(asked, bool) and stored == asked


class Due(NamedTuple):
    """A place in the order of what is due.

    Attributes:
        wake_at: The moment in milliseconds since the epoch, as the int or float that is stored.
        id: The id of a document.
    """

    wake_at: int | float
    id: str

    @property
    def key(self) -> tuple[float, bytes]:
        """The key to sort by, ascending: the moment, then the id, as `order` has them."""
        return order(self.wake_at, self.id)


@dataclass(frozen=True, kw_only=True)
class DueQuery:
    """What is due.

    Attributes:
        before: The latest moment, inclusive, in milliseconds since the epoch.
        limit: How many states at most.
        after: The last place of the page before; None: from the beginning.
    """

    before: int | float
    limit: int
    after: Due | None


def due_query(
    before: datetime | float | None, *, now: datetime, limit: int | None, after: FlowStateSummary | None
) -> DueQuery:
    """Return the query that the parameters of `due` stand for.

    Raises:
        InvalidQueryError: A parameter has a wrong value.
    """
    check_moment("before", before)
    if limit is None:
        raise InvalidQueryError("limit is a whole number from 1 to 300, not None")
    check_limit(limit, more="ask again with the last summary as after")
    moment = milliseconds(now if before is None else before)
    if after is None:
        return DueQuery(before=moment, limit=limit, after=None)
    return DueQuery(before=moment, limit=limit, after=_place_of(after))


def _place_of(after: object) -> Due:
    """Return the place of a summary in the order. Its fields are checked, since it may come from outside."""
    try:
        if isinstance(after, FlowStateSummary) and (moment := wake_at(after.extra)) is not None:
            return Due(moment, check_flow_id(after.id))
    except (InvalidFlowIdError, AttributeError):  # AttributeError: its extra is not a mapping
        pass
    raise InvalidQueryError(
        f"after is a summary that due() has returned, with a number of 64 bits as {WAKE_AT}, not {shown(after)}"
    )


def wake_at(extra: Mapping[str, Any]) -> int | float | None:
    """Return the ``wakeAt`` among the unknown keys of a state; None if there is none, or it is not a number."""
    value = exact(extra.get(WAKE_AT))
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value if type(value) is int and is_int64(value) else None


def is_due(query: DueQuery, summary: FlowStateSummary) -> bool:
    """Return whether a state is due, and comes after the place from which the query goes on."""
    moment = wake_at(summary.extra)
    if moment is None or moment > query.before:
        return False
    return query.after is None or Due(moment, summary.id).key > query.after.key
