"""Hypothesis strategies for what a store has to keep."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from hypothesis import strategies as st

from ..models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation, WireModel

_ODD_NAMES = ("", ".", "..", "__x__", "__proto__", "a.b", "a/b", "`", "value", "x" * 2000, "\0", "🙂", "é", "\ud800")
_ODD_IDS = ("a", "A", "a b", "...", "__a", "a__", "é", "🙂", "\uff5e", "a.b", "%2F", "\\", "x" * 1500, "🙂" * 375)
_JOINABLE = re.compile("[\ud800-\udbff][\udc00-\udfff]")  # which JSON cannot tell from the character they make

SearchStrategy = st.SearchStrategy


def json_texts() -> SearchStrategy[str]:
    """Return a strategy for strings: any characters, lone surrogates among them."""
    any_character = st.characters(exclude_categories=())
    return st.one_of(st.text(max_size=20), st.text(any_character, max_size=5).filter(lambda t: not _JOINABLE.search(t)))


def json_values(*, max_leaves: int = 6) -> SearchStrategy[Any]:
    """Return a strategy for JSON values: integers of any size, NaN and infinities, nested arrays, odd keys."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**100), 2**100),
        st.floats(),
        json_texts(),
        st.sampled_from([0, 0.0, -0.0, 1.0, "", False, float("nan"), float("-inf"), 2**53 + 1, 2**63, -(2**63), 2**70]),
    )
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(step_names(), inner, max_size=3),
        max_leaves=max_leaves,
    )


def step_names() -> SearchStrategy[str]:
    """Return a strategy for names of steps and keys: any text, and the names that other stores refuse."""
    return st.one_of(st.sampled_from(_ODD_NAMES), json_texts())


def flow_ids() -> SearchStrategy[str]:
    """Return a strategy for ids that name a document by Firestore's rules."""
    characters = st.characters(codec="utf-8", exclude_characters="/")
    drawn = st.text(characters, min_size=1, max_size=30)
    return st.one_of(st.sampled_from(_ODD_IDS), drawn.filter(_is_id))


def cache_entries() -> SearchStrategy[CacheEntry]:
    """Return a strategy for cache entries: with a value, null, empty, or neither."""
    return _cache_entry_dicts().map(CacheEntry.model_validate)


def operations() -> SearchStrategy[Operation]:
    """Return a strategy for operations: running, blocked, done, failed."""
    return _operation_dicts().map(Operation.model_validate)


def blocked_steps() -> SearchStrategy[BlockedOnStep]:
    """Return a strategy for blocked steps."""
    return _blocked_dicts().map(BlockedOnStep.model_validate)


def executions() -> SearchStrategy[FlowStateExecution]:
    """Return a strategy for executions."""
    return _execution_dicts().map(FlowStateExecution.model_validate)


def flow_states() -> SearchStrategy[FlowState]:
    """Return a strategy for flow states that a store must keep exactly."""
    return flow_state_dicts().map(FlowState.model_validate)


def flow_state_dicts() -> SearchStrategy[dict[str, Any]]:
    """Return a strategy for flow states in Genkit's form: each optional field absent, null or there; unknown keys."""
    return _dicts(
        FlowState,
        {
            "flowId": _stored_texts(),
            "startTime": start_times(),
            "cache": st.dictionaries(step_names(), _cache_entry_dicts(), max_size=4),
            "eventsTriggered": st.dictionaries(step_names(), json_values(), max_size=3),
            "blockedOnStep": st.none() | _blocked_dicts(),
            "operation": _operation_dicts(),
            "executions": st.lists(_execution_dicts(), max_size=3),
        },
        {"name": st.none() | _stored_texts(), "input": json_values(), "traceContext": st.none() | json_texts()},
    )


def start_times() -> SearchStrategy[int | float]:
    """Return a strategy for start times: whole numbers of 64 bits and finite floats, often equal by value."""
    return st.one_of(
        st.sampled_from([0, 0.0, -1, 1, 1.0, 1.5, 1_700_000_000_000, 1_700_000_000_000.0, 2**53, 2**53 + 1]),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
    )


def _cache_entry_dicts() -> SearchStrategy[dict[str, Any]]:
    return _dicts(CacheEntry, {}, {"value": json_values(), "empty": st.sampled_from([True, None])})


def _blocked_dicts() -> SearchStrategy[dict[str, Any]]:
    return _dicts(BlockedOnStep, {"name": _stored_texts()}, {"schema": st.none() | json_texts()})


def _operation_dicts() -> SearchStrategy[dict[str, Any]]:
    result = _dicts(
        FlowResult,
        {},
        {"response": json_values(), "error": st.none() | json_texts(), "stacktrace": st.none() | json_texts()},
    )
    return _dicts(
        Operation,
        {"name": json_texts()},
        {
            "metadata": json_values(),
            "done": st.booleans(),
            "result": st.none() | result,
            "blockedOnStep": st.none() | _blocked_dicts(),
        },
    )


def _execution_dicts() -> SearchStrategy[dict[str, Any]]:
    moments = st.none() | st.integers() | st.floats()
    return _dicts(
        FlowStateExecution,
        {"traceIds": st.lists(json_texts(), max_size=2)},
        {"startTime": moments, "endTime": moments},
    )


def _dicts(
    model: type[WireModel], required: Mapping[str, SearchStrategy[Any]], optional: Mapping[str, SearchStrategy[Any]]
) -> SearchStrategy[dict[str, Any]]:
    known = st.fixed_dictionaries(dict(required), optional=dict(optional))
    unknown = st.dictionaries(_unknown_keys({*model.wire_names, *model.wire_names.values()}), json_values(), max_size=2)
    return st.builds(lambda some, more: {**some, **more}, known, st.just({}) | unknown)


def _unknown_keys(known: Collection[str]) -> SearchStrategy[str]:
    drawn = st.one_of(
        st.sampled_from(["owner", "tags", "status", "expireAt", "_flowstate", *_ODD_NAMES[:-1]]), st.text()
    )
    return drawn.filter(lambda key: key not in known)  # pydantic takes no lone surrogates here


def _stored_texts() -> SearchStrategy[str]:
    """Return a strategy for the strings that queries see, which a database keeps as UTF-8."""
    return st.text(max_size=20)


def _is_id(text: str) -> bool:
    reserved = len(text) >= 4 and text.startswith("__") and text.endswith("__")
    return text not in (".", "..") and not reserved and len(text.encode()) <= 1500
