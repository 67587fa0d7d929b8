"""What an edit changed is found exactly, and writing it leads to the state after the edit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestore_flowstate import UNSET, BlockedOnStep, CacheEntry, FlowState, FlowStateEncodeError, Operation
from firestore_flowstate._document.difference import WHOLE, Change, Snapshot, apply
from firestore_flowstate._document.encoded_state import decode_state, encode_state
from firestore_flowstate.testing import cache_entries, exactly, flow_states, json_values, operations
from firestore_flowstate.testing.conformance.states import with_steps
from firestore_flowstate.testing.strategies import blocked_steps, executions, step_names


@st.composite
def edited(draw: st.DrawFn) -> tuple[FlowState, FlowState]:
    """A state and what became of it: mostly what a partial write can express."""
    before = draw(flow_states())
    after = copy.deepcopy(before)
    kept = draw(st.sets(st.sampled_from(sorted(before.cache) or [""])))
    after.cache = {step: entry for step, entry in after.cache.items() if step in kept or draw(st.booleans())}
    after.cache.update(draw(st.dictionaries(step_names(), cache_entries(), max_size=2)))
    after.events_triggered.update(draw(st.dictionaries(step_names(), json_values(), max_size=2)))
    for name, values in (
        ("operation", operations()),
        ("blocked_on_step", st.none() | blocked_steps()),
        ("executions", st.lists(executions(), max_size=2)),
        ("trace_context", st.none() | st.text(max_size=3)),
    ):
        if draw(st.booleans()):
            setattr(after, name, draw(values))
    return before, after


@given(edited())
def test_applying_the_difference_gives_the_state_after(states: tuple[FlowState, FlowState]) -> None:
    """Order of steps, types, presence and all."""
    before, after = states
    difference = Snapshot(before).difference(after)
    if difference is None:
        assert exactly(before) == exactly(after)
    elif isinstance(difference, Change):
        written = decode_state(apply(difference, encode_state(before)), flow_id="id")
        assert exactly(after) == exactly(written)
        assert difference.new_steps == len(after.cache) - len(before.cache)
    else:
        assert difference == WHOLE


@given(flow_states(), flow_states())
def test_no_difference_means_the_same(one: FlowState, other: FlowState) -> None:
    """None is answered for exactly equal states and only for those."""
    assert Snapshot(one).difference(copy.deepcopy(one)) is None
    if Snapshot(one).difference(other) is None:
        assert exactly(one) == exactly(other)


@given(flow_states())
def test_pieces_give_back_the_state(state: FlowState) -> None:
    """Encoding piece by piece loses nothing."""
    assert exactly(state) == exactly(decode_state(encode_state(state), flow_id="id"))


def _difference(change: Callable[[FlowState], object]) -> Change | str | None:
    state = with_steps("a", "b", "c")
    state.input, state.name = [float("nan")], "name"
    state.events_triggered = {"first": 1, "second": 2}
    snapshot = Snapshot(state)
    change(state)
    return snapshot.difference(state)


def _named(change: Change | str | None) -> set[str]:
    assert isinstance(change, Change)
    fields = {name: getattr(change, name) for name in ("operation", "blocked_on_step", "executions", "trace_context")}
    return {name for name, value in fields.items() if value is not UNSET}


def test_only_what_changed_is_named() -> None:
    """A changed step does not bring the others along, nor the operation."""
    change = _difference(lambda state: setattr(state.cache["b"], "value", [1]))

    assert isinstance(change, Change)
    assert {"b": CacheEntry(value=[1])} == change.cache
    assert ((), {}, 0) == (tuple(change.remove), change.events_triggered, change.new_steps)
    assert set() == _named(change)
    assert not change.names_status


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operation", Operation(name="other")),
        ("blocked_on_step", BlockedOnStep(name="wait")),
        ("executions", []),
        ("trace_context", None),
    ],
)
def test_each_field_is_named_alone(field: str, value: Any) -> None:
    """The fields that changed are named, of those that a partial write can replace. Null is a value."""
    change = _difference(lambda state: setattr(state, field, value))
    expected = {field} if field != "executions" else set()  # which were empty before

    if expected:
        assert expected == _named(change)
    else:
        assert change is None


@pytest.mark.parametrize(
    "change",
    [
        lambda state: setattr(state, "name", "other"),
        lambda state: setattr(state, "name", None),
        lambda state: setattr(state, "input", [float("inf")]),
        lambda state: setattr(state, "start_time", float(state.start_time)),
        lambda state: setattr(state, "flow_id", "other"),
        lambda state: setattr(state, "owner", None),
        lambda state: setattr(state, "cache", dict(reversed(list(state.cache.items())))),
        lambda state: state.cache.update(z=CacheEntry(), a=state.cache.pop("a")),
        lambda state: state.events_triggered.pop("first"),
        lambda state: setattr(state, "events_triggered", {"second": 2, "first": 1}),
    ],
    ids=range(10),
)
def test_what_no_partial_write_can_express_is_whole(change: Callable[[FlowState], object]) -> None:
    """Another name, input, start or unknown key, steps in another order, an event less."""
    difference = _difference(change)
    if isinstance(difference, Change):  # a step that was removed and set again is at the end either way
        state = with_steps("a", "b", "c")
        state.events_triggered = {"first": 1, "second": 2}
        expected = copy.deepcopy(state)
        change(expected)
        assert exactly(expected) == exactly(decode_state(apply(difference, encode_state(state)), flow_id="id"))
    else:
        assert WHOLE == difference


@pytest.mark.parametrize(
    ("before", "after"), [(1, True), (1, 1.0), (0.0, -0.0), (None, float("nan")), ([], {})], ids=repr
)
def test_python_equality_is_not_enough(before: Any, after: Any) -> None:
    """What Python calls equal may be another JSON value."""
    state = FlowState.start()
    state.cache = {"step": CacheEntry(value=before)}
    snapshot = Snapshot(state)
    state.cache["step"].value = after

    change = snapshot.difference(state)
    assert isinstance(change, Change)
    assert exactly(after) == exactly(change.cache["step"].value)


def test_presence_is_a_difference() -> None:
    """An entry whose value goes from null to absent has changed."""
    state = FlowState.start()
    state.cache = {"step": CacheEntry(value=None)}
    snapshot = Snapshot(state)
    state.cache["step"] = CacheEntry()

    change = snapshot.difference(state)
    assert isinstance(change, Change)
    assert {"step": CacheEntry()} == change.cache


def test_entries_may_be_given_in_genkits_form() -> None:
    """A dict in a cache is read as the entry it describes."""
    change = Change(cache={"step": {"value": 1, "more": 2}})  # type: ignore[dict-item]  # as untyped code may do

    assert CacheEntry.model_validate({"value": 1, "more": 2}) == change.cache["step"]


def test_a_string_is_not_a_list_of_steps() -> None:
    """Its letters would be taken for the names of steps."""
    with pytest.raises(FlowStateEncodeError, match="remove"):
        Change(remove="step")
