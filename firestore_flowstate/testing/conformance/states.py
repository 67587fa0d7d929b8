"""Flow states that several suites store."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from ...models import CacheEntry, FlowResult, FlowState, Operation

A_START: Final = 1_700_000_000_000


def started(start_time: float = A_START, *, flow_id: str = "flow") -> FlowState:
    """Return the state of a flow that started at a time, in milliseconds, and did nothing since."""
    state = FlowState.start(flow_id=flow_id)
    state.start_time = start_time
    return state


def with_steps(*names: str) -> FlowState:
    """Return a state with these steps cached, each with its place as its value."""
    state = started()
    state.cache = {name: CacheEntry(value=place) for place, name in enumerate(names)}
    return state


def with_everywhere(value: Any) -> FlowState:
    """Return a state that has the value in each field for which Genkit's schema allows any value."""
    own = copy.deepcopy
    return FlowState.model_validate(
        {
            **WIRE,
            "input": own(value),
            "cache": {"step": {"value": own(value)}},
            "eventsTriggered": {"event": own(value)},
            "operation": {"name": "flow", "metadata": own(value), "done": True, "result": {"response": own(value)}},
            "unknown": own(value),
        }
    )


WIRE: Final[Mapping[str, Any]] = {
    "flowId": "flow",
    "startTime": A_START,
    "cache": {},
    "eventsTriggered": {},
    "blockedOnStep": None,
    "operation": {"name": "flow"},
    "executions": [],
}
"""The fields that every flow state has in Genkit's form."""


def _nested(depth: int, bottom: Any) -> Any:
    value = bottom
    for level in range(depth):
        value = [value] if level % 2 else {"deeper": value}
    return value


VALUES: Final[Mapping[str, Any]] = {
    "null": None,
    "false": False,
    "true": True,
    "zero": 0,
    "one": 1,
    "float zero": 0.0,
    "minus zero": -0.0,
    "float one": 1.0,
    "tenth": 0.1 + 0.2,
    "smallest float": 5e-324,
    "largest float": 1.7976931348623157e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": float("-inf"),
    "NaN inside": {"a": [float("nan"), None, float("-inf")]},
    "2**53 + 1": 2**53 + 1,
    "2**63": 2**63,
    "2**70": 2**70,
    "4,300 digits": -(10**4299),
    "empty text": "",
    "text": "naïve 日本語 🙂 \u2028",
    "text of NUL": "\0a\0",
    "quotes": "\"'\\`\n",
    "text like a number": "1",
    "lone surrogate": "a\ud800b",
    "64 KB of text": "text " * 13_000,
    "empty array": [],
    "empty object": {},
    "array in array": [[1, [2, []]], [], [[]]],
    "array of everything": [None, False, 0, 0.0, "", [], {}],
    "reserved keys": {"__x__": 1, "": 2, ".": 3, "a.b": 4, "a/b": 5, "`": 6, "__name__": 7, "\ud800": 8},
    "like a vector": {"__type__": "__vector__", "value": [1.0, 2.0]},
    "like a cache entry": {"value": 1, "empty": True},
    "200 deep": _nested(200, "bottom"),
    "200 deep, with 2**70": _nested(200, 2**70),
    "long key": {"k" * 10_000: 1},
}
"""JSON values that databases lose or refuse."""

STEPS: Final = (
    "step",
    "",
    ".",
    "..",
    "__x__",
    "__name__",
    "__proto__",
    "a.b",
    "a/b",
    "`a`",
    "a b",
    "0",
    "naïve",
    "日本語",
    "🙂",
    "\0",
    "\ud800",
    "value",
    "cache",
    "_flowstate",
    "x" * 10_000,
)
"""Names of steps that are not names of fields in a database."""


def _changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    wire = copy.deepcopy({**WIRE, "operation": {"name": "flow", "result": {}}, "cache": {"step": {}}})
    wire["blockedOnStep"] = {"name": "step"}
    wire["executions"] = [{"traceIds": []}]
    place: Any = wire
    for key in path[:-1]:
        place = place.setdefault(key, {"name": "step"}) if isinstance(place, dict) else place[key]
    place[path[-1]] = value
    return wire


_OPTIONAL: Final[tuple[tuple[str | int, ...], ...]] = (
    ("name",),
    ("input",),
    ("traceContext",),
    ("blockedOnStep", "schema"),
    ("operation", "metadata"),
    ("operation", "result"),
    ("operation", "result", "response"),
    ("operation", "result", "error"),
    ("operation", "result", "stacktrace"),
    ("operation", "blockedOnStep"),
    ("operation", "blockedOnStep", "schema"),
    ("cache", "step", "value"),
    ("cache", "step", "empty"),
    ("executions", 0, "startTime"),
    ("executions", 0, "endTime"),
)

VARIANTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "least": WIRE,
    "all absent": _changed(("flowId",), "flow"),
    **{f"{'.'.join(map(str, path))} null": _changed(path, None) for path in _OPTIONAL},
    "no result": {**WIRE, "operation": {"name": "flow", "done": True}},
    "done false": _changed(("operation", "done"), False),
    "done true": _changed(("operation", "done"), True),
    "empty name": _changed(("name",), ""),
    "empty flowId": _changed(("flowId",), ""),
    "empty trace context": _changed(("traceContext",), ""),
    "empty error": _changed(("operation", "result", "error"), ""),
    "empty with a value": _changed(("cache", "step"), {"value": 0, "empty": True}),
    "execution from 0 to 0.5": _changed(("executions", 0), {"startTime": 0, "endTime": 0.5, "traceIds": ["t", ""]}),
    **{
        f"unknown keys in {'.'.join(map(str, path)) or 'the state'}": _changed(
            (*path, "__unknown__"), {"null": None, "list": [[1]]}
        )
        for path in (
            (),
            ("blockedOnStep",),
            ("operation",),
            ("operation", "result"),
            ("cache", "step"),
            ("executions", 0),
        )
    },
    "unknown scalars": {**WIRE, "owner": "me", "zero": 0, "no": False, "half": 0.5, "nothing": None, "big": 2**64},
    "unknown keys with names of the database": {
        **WIRE,
        **dict.fromkeys(("status", "shard", "expireAt", "summary", "_flowstate", "__name__", "", "a.b", "`"), "mine"),
    },
}
"""Flow states in Genkit's form: each optional part absent, null and there."""


def finished(*, error: str | None = None) -> FlowState:
    """Return a state that is done, or failed with the error."""
    state = started()
    state.operation = Operation(name="op", done=True, result=FlowResult(error=error))
    return state


def expires_in(duration: timedelta, state: FlowState | None) -> bool:
    """Return whether the state expires so long after now, or a minute earlier."""
    assert state is not None
    if state.expire_at is None:
        return False
    left = state.expire_at - datetime.now(timezone.utc)
    return duration - timedelta(minutes=1) < left <= duration
