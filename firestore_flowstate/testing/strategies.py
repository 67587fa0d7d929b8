"""Strategies of hypothesis for what a store has to keep: ``flow_states()``, ``json_values()``, ``flow_ids()``, ...

Each public strategy is a composite over a constant. So hypothesis prepares it only once, and shows it by its name in
place of pages of nested strategies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from hypothesis import strategies as st

from ..models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation, WireModel

_ODD_NAMES: Final = ("", ".", "..", "__x__", "__proto__", "a.b", "a/b", "`", "value", "x" * 2000, "\0", "🙂", "é")
_ODD_IDS: Final = (
    "a",
    "A",
    "a b",
    "...",
    "__a",
    "a__",
    "é",
    "🙂",
    "\uff5e",
    "a.b",
    "%2F",
    "\\",
    "x" * 1500,
    "🙂" * 375,
)
_JOINABLE: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # JSON reads such a pair as one character

_TEXTS: Final = st.text(max_size=20)
_ANY_TEXTS: Final = _TEXTS | st.text(st.characters(exclude_categories=()), max_size=5).filter(
    lambda text: not _JOINABLE.search(text)
)
_NAMES: Final = st.sampled_from((*_ODD_NAMES, "\ud800")) | _ANY_TEXTS
_JSON_VALUES: Final = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**100), 2**100),
        st.floats(),
        _ANY_TEXTS,
        st.sampled_from([0, 0.0, -0.0, 1.0, "", False, float("nan"), float("-inf"), 2**53 + 1, 2**63, -(2**63), 2**70]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)
_START_TIMES: Final = st.one_of(
    st.sampled_from([0, 0.0, -1, 1, 1.0, 1.5, 1_700_000_000_000, 1_700_000_000_000.0, 2**53, 2**53 + 1]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)


def _is_id(text: str) -> bool:
    reserved = len(text) >= 4 and text.startswith("__") and text.endswith("__")
    return text not in (".", "..") and not reserved and len(text.encode()) <= 1500


_FLOW_IDS: Final = st.sampled_from(_ODD_IDS) | st.text(
    st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=30
).filter(_is_id)


@st.composite
def json_values(draw: st.DrawFn) -> Any:
    """JSON values: integers of any size, NaN and infinities, nested arrays, odd keys, lone surrogates."""
    return draw(_JSON_VALUES)


@st.composite
def step_names(draw: st.DrawFn) -> str:
    """Names of steps and keys: any text, and names that databases refuse."""
    return draw(_NAMES)


@st.composite
def flow_ids(draw: st.DrawFn) -> str:
    """Ids that can name a document by Firestore's rules."""
    return draw(_FLOW_IDS)


@st.composite
def start_times(draw: st.DrawFn) -> int | float:
    """Start times: integers of 64 bits and finite floats, many of them equal by value."""
    return draw(_START_TIMES)


def _dicts(
    model: type[WireModel],
    required: Mapping[str, st.SearchStrategy[Any]],
    optional: Mapping[str, st.SearchStrategy[Any]],
) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for a model in its wire form, with some of the optional keys, and with unknown keys."""
    taken = {*model.wire_names, *model.wire_names.values()}
    # The names have no lone surrogates: pydantic does not take them in unknown keys.
    keys = st.sampled_from(["owner", "tags", "status", "expireAt", "_flowstate", *_ODD_NAMES]) | _TEXTS
    unknown: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.dictionaries(
        keys.filter(lambda key: key not in taken), json_values(), max_size=2
    )
    return st.builds(
        lambda known, more: {**known, **more}, st.fixed_dictionaries(dict(required), optional=dict(optional)), unknown
    )


_MOMENTS: Final = st.none() | st.integers() | st.floats()
_OPTIONAL_TEXTS: Final = st.none() | _ANY_TEXTS
_CACHE_ENTRIES: Final = _dicts(CacheEntry, {}, {"value": json_values(), "empty": st.sampled_from([True, None])})
_BLOCKED: Final = _dicts(BlockedOnStep, {"name": _TEXTS}, {"schema": _OPTIONAL_TEXTS})
_RESULTS: Final = _dicts(
    FlowResult, {}, {"response": json_values(), "error": _OPTIONAL_TEXTS, "stacktrace": _OPTIONAL_TEXTS}
)
_OPERATIONS: Final = _dicts(
    Operation,
    {"name": _ANY_TEXTS},
    {
        "metadata": json_values(),
        "done": st.booleans(),
        "result": st.none() | _RESULTS,
        "blockedOnStep": st.none() | _BLOCKED,
    },
)
_EXECUTIONS: Final = _dicts(
    FlowStateExecution, {"traceIds": st.lists(_ANY_TEXTS, max_size=2)}, {"startTime": _MOMENTS, "endTime": _MOMENTS}
)
_FLOW_STATES: Final = _dicts(
    FlowState,
    {
        "flowId": _TEXTS,  # indexed, as are name and blockedOnStep.name, so it has no lone surrogates
        "startTime": _START_TIMES,
        "cache": st.dictionaries(_NAMES, _CACHE_ENTRIES, max_size=4),
        "eventsTriggered": st.dictionaries(_NAMES, json_values(), max_size=3),
        "blockedOnStep": st.none() | _BLOCKED,
        "operation": _OPERATIONS,
        "executions": st.lists(_EXECUTIONS, max_size=3),
    },
    {"name": st.none() | _TEXTS, "input": json_values(), "traceContext": _OPTIONAL_TEXTS},
)


@st.composite
def cache_entries(draw: st.DrawFn) -> CacheEntry:
    """Cache entries: with a value, null, empty, or neither."""
    return CacheEntry.model_validate(draw(_CACHE_ENTRIES))


@st.composite
def blocked_steps(draw: st.DrawFn) -> BlockedOnStep:
    """Blocked steps, with a schema or without."""
    return BlockedOnStep.model_validate(draw(_BLOCKED))


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    """Operations: running, blocked, done, failed."""
    return Operation.model_validate(draw(_OPERATIONS))


@st.composite
def executions(draw: st.DrawFn) -> FlowStateExecution:
    """Executions, ended or not."""
    return FlowStateExecution.model_validate(draw(_EXECUTIONS))


@st.composite
def flow_state_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Flow states in Genkit's form: each optional field is absent, null or given, and there are unknown keys."""
    return draw(_FLOW_STATES)


@st.composite
def flow_states(draw: st.DrawFn) -> FlowState:
    """Flow states that a store must keep exactly."""
    return FlowState.model_validate(draw(_FLOW_STATES))
