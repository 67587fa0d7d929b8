"""Comparing flow states to the last bit: 1, 1.0 and True differ, NaN equals itself, and the order of steps counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..models import FlowState

_ORDERED = ("cache", "eventsTriggered")


def same_state(one: FlowState, other: FlowState) -> bool:
    """Return whether both have the same fields, of the same types and values, and the same order of steps and events.

    The order of other keys does not count, nor does the version. If a test fails, a comparison of `exactly` of both
    shows the difference.

    ::

        state = FlowState.start(name="publish", input=1)
        assert not same_state(state, state.model_copy(update={"input": 1.0}))

    Args:
        one: A flow state.
        other: Another one.
    """
    return bool(exactly(one) == exactly(other))


def exactly(value: Any) -> Any:
    """Return a form of a flow state, or of any JSON value, that equals another form only if the values are the same.

    Scalars become texts with their type in front, which pytest can show side by side.

    ::

        assert exactly([1, True]) == ["int 1", "bool True"]

    Args:
        value: The flow state, or the value.
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
        return f"int {value:#x}" if abs(value) >= 2**64 else f"int {value}"  # Python limits the digits of a decimal
    return f"{type(value).__name__} {value!r}"
