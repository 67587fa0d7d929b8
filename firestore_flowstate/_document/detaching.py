"""A copy of a value that later changes of it do not reach, if it cannot be encoded at once."""

from __future__ import annotations

import copy
from typing import Any, Final, TypeVar

from ..models import WireModel
from .json_forms import MAX_DEPTH

_Value = TypeVar("_Value")

_IMMUTABLE: Final = frozenset({str, int, float, bool, bytes, type(None)})


def detached(value: _Value) -> _Value:
    """Return a copy of dicts, lists and models down to what nobody can change; it is as deep as can be stored."""
    copied: _Value = _detached(value, 0)
    return copied


def _detached(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _IMMUTABLE or depth > MAX_DEPTH + 10:  # deeper ones are refused in any case
        return value
    if kind is dict:
        return {key: _detached(member, depth + 1) for key, member in value.items()}
    if kind is list:
        return [_detached(member, depth + 1) for member in value]
    if isinstance(value, WireModel):
        copied = value.model_copy()
        for name, member in value.__dict__.items():
            copied.__dict__[name] = _detached(member, depth + 1)
        if copied.__pydantic_extra__:
            copied.__pydantic_extra__.update(
                {name: _detached(member, depth + 1) for name, member in copied.__pydantic_extra__.items()}
            )
        return copied
    if kind is memoryview:
        return bytes(value)
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001  # by a method of the application's, and what cannot be copied is stored as it is
        return value
