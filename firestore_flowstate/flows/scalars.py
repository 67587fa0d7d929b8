"""Scalars that stand beside the state, for people and queries: progress, and what `start` was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from firestore_flowstate import FlowState

_TAKEN: Final = frozenset(
    (
        *("flowId", "name", "input", "startTime", "cache", "eventsTriggered", "blockedOnStep", "operation"),
        *("traceContext", "executions", "wakeAt", "parent", "expireAfter"),
    )
)


def check_scalar(name: str, value: Any) -> None:
    """Raise ValueError if the key or the value cannot stand beside the state."""
    if name in _TAKEN or isinstance(getattr(FlowState, name, None), property):
        raise ValueError(f"{name!r} is a key of the state itself: choose another name")
    if not isinstance(value, (str, int, float, bool)):
        raise ValueError(  # noqa: TRY004  # as for its name
            f"{name} is text, a number or a bool, not {type(value).__name__}: a browser reads it as it is"
        )


def scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the progress as it is to be stored.

    Raises:
        ValueError: A name is one of the schema's, or a value is not a scalar.
    """
    for name, value in values.items():
        check_scalar(name, value)
    return dict(values)
