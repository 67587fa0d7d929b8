"""Whether a query asks for a flow state, and where it stands in the order: decided here, as Firestore decides."""

from __future__ import annotations

from ..pages import FlowStateSummary
from ..query import FlowStateQuery, milliseconds, statuses


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
    """Return the key to sort by, descending: start, then id as Firestore orders names, by its bytes in UTF-8."""
    return start_time, id.encode()


def _equal(stored: object, asked: object) -> bool:
    """Compare as Firestore does: numbers by value, whatever their type; a bool is not a number."""
    return isinstance(stored, bool) == isinstance(asked, bool) and stored == asked
