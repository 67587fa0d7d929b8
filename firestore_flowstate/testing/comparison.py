"""Comparing flow states to the last bit: 1, 1.0 and True differ, NaN equals itself, steps have an order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..models import FlowState

_ORDERED = ("cache", "eventsTriggered")


def same_state(one: FlowState, other: FlowState) -> bool:
    """Return whether both dump to the same: types, presence, unknown keys, the order of steps and events.

    The order of other keys does not count, nor does the version. When a test fails, comparing `exactly` of both
    shows the difference.
    """
    return bool(exactly(one) == exactly(other))


def exactly(value: Any) -> Any:
    """Return a form of a flow state, or of any JSON value, that is equal for exactly equal ones only.

    Scalars become text with their type in front, which pytest can show side by side.
    """
    if isinstance(value, FlowState):
        form = {key: exactly(part) for key, part in value.model_dump(by_alias=True).items()}
        return {key: list(part.items()) if key in _ORDERED else part for key, part in form.items()}
    if isinstance(value, BaseModel):
        return exactly(value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {key: exactly(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [exactly(part) for part in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return f"int {value:#x}" if abs(value) >= 2**64 else f"int {value}"  # decimals have a limit in Python
    return f"{type(value).__name__} {value!r}"
