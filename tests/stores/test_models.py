"""The models keep Genkit's wire form exactly, and fall into none of pydantic's traps."""

from __future__ import annotations

import copy
import json
import math
import pickle
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from pydantic import AliasChoices, AliasPath, BaseModel, Field, ValidationError, create_model

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FlowResult,
    FlowState,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateExecution,
    FlowStatus,
    Operation,
)
from firestore_flowstate._document.wire import to_wire
from firestore_flowstate._memory_records import RecordedAs
from firestore_flowstate.testing import exactly, flow_state_dicts, flow_states, same_state
from firestore_flowstate.testing.conformance.states import VARIANTS, WIRE

AS_VERSION = RecordedAs("version", datetime(2026, 1, 1, tzinfo=timezone.utc), None)
GOLDEN = sorted((Path(__file__).parents[1] / "data" / "genkit-js").glob("*.json"))


@given(flow_state_dicts())
def test_dump_gives_back_what_was_validated(wire: dict[str, Any]) -> None:
    """Absent stays absent, null stays null, unknown keys are kept, falsy values and NaN stay themselves."""
    assert exactly(wire) == exactly(FlowState.model_validate(wire).model_dump(by_alias=True))


@given(flow_state_dicts())
def test_json_mode_gives_back_what_was_validated(wire: dict[str, Any]) -> None:
    """It does in JSON mode too, though NaN is null there by default. Pydantic's JSON is UTF-8, without surrogates."""
    assume("\\ud" not in repr(wire))  # how repr shows a surrogate, or a backslash before a ud, which is as rare
    assert exactly(wire) == exactly(FlowState.model_validate(wire).model_dump(by_alias=True, mode="json"))


@pytest.mark.parametrize("wire", VARIANTS.values(), ids=VARIANTS)
def test_each_optional_part_is_absent_null_or_there(wire: dict[str, Any]) -> None:
    """Each optional part is tried in all three."""
    assert exactly(wire) == exactly(FlowState.model_validate(wire).model_dump(by_alias=True))


@given(flow_states(), flow_states())
def test_equality_is_that_of_dumps(one: FlowState, other: FlowState) -> None:
    """If two dumps differ by more than the type of a number, the states differ. A copy is equal."""
    if one == other:
        assert one.model_dump(by_alias=True) == other.model_dump(by_alias=True)
    assert same_state(one, copy.deepcopy(one))
    assert same_state(one, FlowState.model_validate(one.model_dump(by_alias=True)))


def test_blocked_on_step_is_always_there() -> None:
    """It is nullable and not optional: a dump has it, a dict without it is refused."""
    without = {key: value for key, value in WIRE.items() if key != "blockedOnStep"}

    assert FlowState.start().model_dump(by_alias=True)["blockedOnStep"] is None
    with pytest.raises(ValidationError, match="blockedOnStep"):
        FlowState.model_validate(without)


@pytest.mark.parametrize("key", WIRE)
def test_required_keys_are_required(key: str) -> None:
    """What Genkit's schema requires cannot be left out."""
    with pytest.raises(ValidationError, match=key):
        FlowState.model_validate({name: value for name, value in WIRE.items() if name != key})


def test_presence_counts_in_equality() -> None:
    """Absent and null are two things."""
    assert CacheEntry() != CacheEntry(value=None)
    assert CacheEntry(value=None) == CacheEntry(value=None)
    assert FlowResult() != FlowResult(error=None)
    assert FlowState.model_validate(WIRE) != FlowState.model_validate({**WIRE, "name": None})


def test_unknown_keys_count_in_equality() -> None:
    """Two states that differ in an unknown key differ."""
    assert FlowState.model_validate(WIRE) != FlowState.model_validate({**WIRE, "owner": "me"})


def test_version_does_not_count_in_equality() -> None:
    """A stored state equals the same state before it was stored."""
    stored, state = FlowState.model_validate(WIRE), FlowState.model_validate(WIRE)
    stored._note_stored(AS_VERSION)

    assert stored == state
    assert "version" not in str(stored.model_dump(by_alias=True))


def test_setting_a_field_makes_it_present() -> None:
    """Null is there once it is set, and unset fields stay absent."""
    entry = CacheEntry()
    entry.value = None

    assert {"value": None} == entry.model_dump(by_alias=True)


def test_schema_has_another_name_here() -> None:
    """Pydantic's models have a method `schema`, so the field is schema_. On the wire it is schema."""
    step = BlockedOnStep.model_validate({"name": "step", "schema": "{}"})

    assert "{}" == step.schema_
    assert step == BlockedOnStep(name="step", schema_="{}")
    assert {"name": "step", "schema": "{}"} == step.model_dump(by_alias=True)


@pytest.mark.parametrize(
    ("model", "wire_name", "name"),
    [
        (FlowState.start(), "blockedOnStep", "blocked_on_step"),
        (FlowState.start(), "flowId", "flow_id"),
        (Operation(name="op"), "blockedOnStep", "blocked_on_step"),
        (FlowStateExecution(trace_ids=[]), "traceIds", "trace_ids"),
        (BlockedOnStep(name="step"), "schema", "schema_"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wire_names_cannot_be_set(model: Any, wire_name: str, name: str) -> None:
    """If unknown keys are allowed, setting the wire name would make a second field beside the real one."""
    before = model.model_dump(by_alias=True)
    with pytest.raises(AttributeError, match=rf"\b{name}\b"):
        setattr(model, wire_name, None)

    assert before == model.model_dump(by_alias=True)


@pytest.mark.parametrize("name", ["flow_id", "start_time", "trace_context", "blocked_on_step", "events_triggered"])
def test_an_unknown_key_may_be_called_like_a_field_here(name: str) -> None:
    """The Python name is an unknown key like any other, beside the wire name."""
    wire = {**WIRE, "traceContext": "trace", name: {"unknown": True}}

    assert exactly(wire) == exactly(FlowState.model_validate(wire).model_dump(by_alias=True))


@pytest.mark.parametrize("name", ["flow_id", "start_time", "events_triggered", "trace_context"])
def test_an_assignment_leaves_an_unknown_key_that_is_called_like_a_field(name: str) -> None:
    """It does not become the value of the field, whatever else of the state is set."""
    wire = {**WIRE, "traceContext": "trace", name: {"unknown": True}}
    state = FlowState.model_validate(wire, by_alias=True, by_name=False)

    state.name = "another"
    assert {**wire, "name": "another"} == state.model_dump(by_alias=True)

    with pytest.raises(ValidationError):
        state.name = 5  # type: ignore[assignment]  # the mistake
    assert {**wire, "name": "another"} == state.model_dump(by_alias=True)

    state.trace_context = "another"
    assert {**wire, "name": "another", "traceContext": "another"} == state.model_dump(by_alias=True)


@pytest.mark.parametrize("start_time", [True, False, "5", None, math.nan, math.inf, -math.inf, [5]], ids=repr)
def test_start_time_is_a_finite_number(start_time: Any) -> None:
    """What is not a number is not taken for one, at construction as on assignment."""
    with pytest.raises(ValidationError, match="startTime"):
        FlowState.model_validate({**WIRE, "startTime": start_time})
    state = FlowState.start()
    with pytest.raises(ValidationError, match=r"start_time|startTime"):
        state.start_time = start_time


@pytest.mark.parametrize("start_time", [0, 0.0, -1, 1.5, 5.0, 2**53 + 1, 10**30], ids=repr)
def test_start_time_keeps_its_type(start_time: float) -> None:
    """A whole number is not a float, and the other way round."""
    assert exactly(start_time) == exactly(FlowState.model_validate({**WIRE, "startTime": start_time}).start_time)


@pytest.mark.parametrize("empty", [False, 0, 1, 1.0, "true"], ids=repr)
def test_empty_is_true_if_it_is_present(empty: Any) -> None:
    """Genkit's schema knows true alone, and 1 is not it."""
    with pytest.raises(ValidationError, match="empty"):
        CacheEntry.model_validate({"empty": empty})


@pytest.mark.parametrize("done", [0, 1, "true", None], ids=repr)
def test_done_is_a_bool(done: Any) -> None:
    """What is not a bool is not taken for one."""
    with pytest.raises(ValidationError, match="done"):
        Operation.model_validate({"name": "op", "done": done})


def test_wrong_types_are_refused_on_assignment() -> None:
    """A state cannot become one that nobody could read."""
    state = FlowState.start()
    for name, value in (("cache", None), ("executions", "x"), ("operation", None), ("flow_id", 5)):
        with pytest.raises(ValidationError):
            setattr(state, name, value)


def test_start_makes_a_scheduled_flow() -> None:
    """A new flow has an id, the time and nothing else."""
    before = time.time_ns() // 1_000_000
    state = FlowState.start()

    assert before <= state.start_time <= time.time_ns() // 1_000_000
    assert {
        "flowId": state.flow_id,
        "startTime": state.start_time,
        "cache": {},
        "eventsTriggered": {},
        "blockedOnStep": None,
        "operation": {"name": state.flow_id, "done": False},
        "executions": [],
    } == state.model_dump(by_alias=True)
    assert state.flow_id != FlowState.start().flow_id


def test_start_takes_name_input_and_id() -> None:
    """An input of None is null, and no input is none."""
    wire = FlowState.start(name="flow", input=None, flow_id="id").model_dump(by_alias=True)

    assert ("flow", None, "id", "id") == (wire["name"], wire["input"], wire["flowId"], wire["operation"]["name"])
    assert "input" not in FlowState.start().model_dump(by_alias=True)


_CLASHING: dict[str, tuple[type[BaseModel], dict[str, Any], str]] = {
    "two of one generated name": (FlowState, {"traceId": (str, "x"), "trace_id": (str, "y")}, "traceId trace_id"),
    "the alias of an inherited field": (FlowState, {"my_name": (str, Field("x", alias="name"))}, "my_name name"),
    "the generated alias of an inherited field": (FlowState, {"startTime": (int, 0)}, "startTime start_time"),
    "the name of an inherited field": (FlowState, {"other": (str, Field("x", alias="trace_context"))}, "trace_context"),
    "of a part of the state": (Operation, {"finished": (bool, Field(default=True, alias="done"))}, "finished done"),
    "of a step": (CacheEntry, {"val": (int, Field(5, alias="value"))}, "val value"),
    "the name of another by its alias": (
        FlowState,
        {"one": (int, Field(1, alias="other")), "other": (int, Field(2, alias="one"))},
        "one other",
    ),
    "read as an inherited field": (FlowState, {"mine": (str, Field("x", validation_alias="name"))}, "mine name"),
    "dumped as an inherited field": (
        FlowState,
        {"mine": (str, Field("x", validation_alias=AliasChoices("mine", "name"), serialization_alias="name"))},
        "mine name",
    ),
    "read out of an inherited field": (
        FlowState,
        {"mine": (int, Field(0, validation_alias=AliasChoices(AliasPath("input", "mine"), "mine")))},
        "mine input",
    ),
    "not read as it is stored": (FlowState, {"my_tenant": (str, Field("x", validation_alias="tenant"))}, "my_tenant"),
    "not read as it is dumped": (FlowState, {"tenant": (str, Field("x", serialization_alias="of"))}, "tenant of"),
    "read out of itself": (FlowState, {"mine": (dict, Field({}, validation_alias=AliasPath("mine", "a")))}, "mine"),
    "of a type that comes later": (
        FlowState,
        {"plan_a": ("Later", None), "planA": ("Later", None)},
        "plan_a",
    ),
}
"""Classes of which one field or another would lose its value, and the names that the error has."""


@pytest.mark.parametrize(("base", "fields", "named"), _CLASHING.values(), ids=_CLASHING)
def test_a_class_that_would_lose_a_field_is_refused(base: type[BaseModel], fields: dict[str, Any], named: str) -> None:
    """The error comes at the class and names the fields: an object of it would lose the value in silence."""
    with pytest.raises(TypeError) as refusal:
        create_model("Lossy", __base__=base, **fields)

    assert set(named.split()) <= set(re.findall(r"\w+", str(refusal.value)))


def test_a_field_of_a_type_that_is_defined_later_has_its_wire_name() -> None:
    """Pydantic asks for aliases when it knows the types, which is after the class."""
    later = create_model("WithLater", __base__=FlowState, big_map=("Later | None", None))
    later.model_rebuild(_types_namespace={"Later": int})
    state = later.start()

    assert ("bigMap", None) == (later.wire_names["big_map"], state.model_dump(by_alias=True)["bigMap"])


@pytest.mark.parametrize(
    "field",
    [
        Field("x", alias="of"),
        Field("x", validation_alias=AliasChoices("of", "my_tenant", "myTenant")),
        Field("x", validation_alias="myTenant", serialization_alias="myTenant"),
    ],
    ids=repr,
)
def test_a_class_that_reads_what_it_writes_is_taken(field: Any) -> None:
    """Aliases of any kind are taken, as long as the value of the field comes back."""
    kind: type[FlowState] = create_model("Lossless", __base__=FlowState, my_tenant=(str, field))
    state = kind.start()
    setattr(state, "my_tenant", "mine")  # noqa: B010  # declared above, which no checker of types sees
    plain = FlowState.model_validate(to_wire(state))

    assert state == kind.model_validate(plain.model_dump(by_alias=True))
    assert state == kind.model_validate(state.model_dump(by_alias=True))


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("scheduled", {}),
        ("running", {"executions": [{"traceIds": []}]}),
        ("blocked", {"blockedOnStep": {"name": "step"}}),
        ("blocked", {"blockedOnStep": {"name": "step"}, "executions": [{"traceIds": []}]}),
        ("done", {"operation": {"name": "op", "done": True}, "blockedOnStep": {"name": "step"}}),
        ("done", {"operation": {"name": "op", "done": True, "result": {"response": 1, "error": None}}}),
        ("failed", {"operation": {"name": "op", "done": True, "result": {"error": ""}}}),
        ("failed", {"operation": {"name": "op", "done": True, "result": {"error": "no"}}}),
        ("running", {"operation": {"name": "op", "done": False}, "executions": [{"traceIds": []}]}),
    ],
)
def test_status(status: FlowStatus, change: dict[str, Any]) -> None:
    """Failed and done come first, then blocked. A flow that has not run is scheduled."""
    assert status == FlowState.model_validate({**WIRE, **change}).status


def test_a_value_that_cannot_be_read_as_a_type_is_named() -> None:
    """The error has the flow's id and the path, as the errors of stores do, also if the value could not be stored."""
    state = FlowState.start(flow_id="flow")
    state.cache["a step"] = CacheEntry(value={"of": [{1}]})
    state.events_triggered['"'] = {"of": ["text"]}
    with pytest.raises(FlowStateEncodeError, match=r"^Flow state 'flow': ") as unstorable:
        state.cache_value("a step", as_=int)
    with pytest.raises(FlowStateDecodeError) as unlike:
        state.event_value('"', as_=dict[str, list[int]])

    assert ("flow", 'cache["a step"]["of"][0]') == (unstorable.value.flow_id, unstorable.value.path)
    assert "flow" == unlike.value.flow_id
    assert 'events_triggered["\\""]["of"][0]: ' in str(unlike.value)


def test_version_is_read_only() -> None:
    """Stores set it. An app cannot set it by accident."""
    state = FlowState.start()
    with pytest.raises(AttributeError):
        state.version = "mine"  # type: ignore[misc]


@given(flow_states())
def test_states_can_be_copied_and_pickled(state: FlowState) -> None:
    """Copies keep presence, unknown keys and the version."""
    state._note_stored(AS_VERSION)
    for copied in (copy.deepcopy(state), state.model_copy(deep=True), pickle.loads(pickle.dumps(state))):  # noqa: S301
        assert same_state(state, copied)
        assert "version" == copied.version


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_reads_what_genkit_loads(path: Path) -> None:
    """What Genkit JS returned for its own documents comes through the models unchanged."""
    loaded = json.loads(path.read_text())["loadedByGenkit"]
    if "loadError" in loaded:  # a document that Genkit wrote and cannot read. Ours is tested with the native layout
        assert "cache-missing" == path.stem
        return

    assert exactly(loaded) == exactly(FlowState.model_validate(loaded).model_dump(by_alias=True))


def test_golden_documents_are_there() -> None:
    """A missing folder would make the test above pass."""
    assert 13 == len(GOLDEN)
