"""Scalars that stand beside the state, for people and queries: `Run.progress`, and `extra` of `Flows.start`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from firestore_flowstate import FlowState
from firestore_flowstate.errors import shown
from firestore_flowstate.query import check_extra, is_queryable_value

_TAKEN: Final = frozenset(
    (
        *("flowId", "name", "input", "startTime", "cache", "eventsTriggered", "blockedOnStep", "operation"),
        *("traceContext", "executions", "wakeAt", "parent", "expireAfter"),
    )
)


def scalars(values: Any) -> dict[str, Any]:
    """Return the scalars as they are to be stored.

    Raises:
        TypeError: What is given is not a mapping.
        ValueError: A name is one of the state's own.
        FlowStateEncodeError: The store's `update` does not take a name or a value.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"extra maps names to scalars, as {{'owner': 'me'}}; it is not {shown(values)}")
    for name in values:
        if isinstance(name, str) and (name in _TAKEN or isinstance(getattr(FlowState, name, None), property)):
            raise ValueError(f"{name!r} is a key of the state itself: choose another name")
    for name, value in values.items():
        check_extra(name, value)
    return dict(values)


def parent_scalar(parent: str | None) -> dict[str, Any]:
    """Return the key ``parent`` that a child has beside its state, by which the children of a run are listed.

    If the id of the parent is too long for an index, the child has it in its record alone.
    """
    return {"parent": parent} if parent is not None and is_queryable_value(parent) else {}
