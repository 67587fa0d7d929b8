"""Every field of a state, and what an application without a type checker may put into it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

from ...models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation, WireModel
from .sample_values import RaisingMapping
from .states import A_START


class TextApart(str):
    """A text that is only equal to itself."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Incomparable:
    """A value of which `==` fails, as the truth of what that of an array returns does."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ValueError


class Word(str, enum.Enum):
    """A text of an enumeration."""

    ONE = "one"


class Level(enum.IntEnum):
    """A number of an enumeration."""

    HIGH = 3


class Number(int):
    """An int of a subclass."""


class TenantFlow(FlowState):
    """A flow state with declared fields of its own."""

    tenant: str = "acme"
    labels: list[str] = []  # noqa: RUF012  # pydantic copies it


class RegionalOperation(Operation):
    """An operation with a declared field of its own."""

    region: str


class Indexed:
    """An integer of a library's own type, such as numpy has."""

    def __index__(self) -> int:
        return 7


class CodedResult(FlowResult):
    """A result with a declared field of its own."""

    error_code: int


class TimedEntry(CacheEntry):
    """A cached step with a declared field of its own."""

    took_ms: int


class BlockedForWhom(BlockedOnStep):
    """A blocked step with a declared field of its own."""

    for_whom: str | None


class HostExecution(FlowStateExecution):
    """An execution with a declared field of its own."""

    host: str


Change: TypeAlias = Callable[[FlowState, Any], object]


ODD_VALUES: Final[Mapping[str, Any]] = {
    "None": None,
    "True": True,
    "int": 1,
    "float": 1.5,
    "NaN": float("nan"),
    "text": "text",
    "bytes": b"bytes",
    "lone surrogate": "\ud800",
    "list": [1],
    "empty dict": {},
    "dict": {"name": 5, "value": 1},
    "set": {"text"},
    "object": object(),
    "datetime": datetime(2024, 1, 1),  # noqa: DTZ001  # to be refused, or stored as it is
    "text of an enumeration": Word.ONE,
    "number of an enumeration": Level.HIGH,
    "int of a subclass": Number(7),
    "2**70": 2**70,
    "a model": Operation(name="operation"),
    "an entry": CacheEntry(value=1),
    "Decimal": Decimal("1.5"),
    "Decimal that no float is equal to": Decimal("0.1"),
    "a mapping whose methods fail": RaisingMapping(),
    "a value whose == fails": Incomparable(),
}
"""Values that an application without a type checker may put into any field."""


def full() -> FlowState:
    """Return a state that has every field."""
    return FlowState(
        flow_id="flow",
        name="name",
        input=1,
        start_time=A_START,
        cache={"step": CacheEntry(value=1)},
        events_triggered={"event": 1},
        blocked_on_step=BlockedOnStep.model_validate({"name": "wait", "schema": "{}"}),
        operation=Operation(
            name="flow",
            metadata=1,
            done=True,
            result=FlowResult(response=1, error="error", stacktrace="trace"),
            blocked_on_step=BlockedOnStep(name="wait"),
        ),
        trace_context="trace",
        executions=[FlowStateExecution(start_time=1, end_time=2, trace_ids=["trace"])],
    )


def models_of(state: FlowState) -> dict[str, WireModel]:
    """Return each model in a state that has every field, by what it is."""
    result, blocked = state.operation.result, state.operation.blocked_on_step
    assert result is not None
    assert blocked is not None
    assert state.blocked_on_step is not None
    return {
        "state": state,
        "cache entry": state.cache["step"],
        "blocked step": state.blocked_on_step,
        "operation": state.operation,
        "result": result,
        "operation's blocked step": blocked,
        "execution": state.executions[0],
    }


def _field(model: str, name: str) -> Change:
    def change(state: FlowState, value: Any) -> None:  # as model_copy(update=...) does
        changed = models_of(state)[model]
        changed.__dict__[name] = value
        changed.__pydantic_fields_set__.add(name)

    return change


PLACES: Final[Mapping[str, Change]] = {
    **{
        f"{name} of the {model}": _field(model, name)
        for model, example in models_of(full()).items()
        for name in type(example).model_fields
    },
    "entry of the cache": lambda state, value: state.cache.update(step=value),
    "name of a step": lambda state, value: _put(state.cache, value, CacheEntry(value=1)),
    "event": lambda state, value: state.events_triggered.update(event=value),
    "name of an event": lambda state, value: _put(state.events_triggered, value, 1),
    "execution": lambda state, value: state.executions.append(value),
    "trace id": lambda state, value: state.executions[0].trace_ids.append(value),  # type: ignore[attr-defined]  # a list
    "unknown key": lambda state, value: _put(state.__pydantic_extra__, value, 1),
    "value of an unknown key": lambda state, value: setattr(state, "owner", value),
    "wire name": lambda state, value: _put(state.__pydantic_extra__, "startTime", value),
    "wire name in the operation": lambda state, value: _put(state.operation.__pydantic_extra__, "blockedOnStep", value),
    "field that is missing": lambda state, value: state.__dict__.pop("start_time"),
}


def _put(mapping: Any, key: Any, value: Any) -> None:
    if key.__hash__ is not None:
        mapping[key] = value
