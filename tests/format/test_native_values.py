"""Values that JSON has not, in native documents: read as Python's, and written back exactly as they were."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FlowState,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateExecution,
)
from firestore_flowstate._document.difference import Change
from firestore_flowstate._document.encoded_state import detached
from firestore_flowstate._document.json_text import encode
from firestore_flowstate._document.native import read_native, write_change, write_native
from firestore_flowstate._document.native_values import read_value, write_value
from firestore_flowstate._rpc.client import reference
from firestore_flowstate._rpc.messages import Document, Timestamp, Value
from firestore_flowstate.testing.conformance.sample_values import PUT
from tests.format.forms import state

OFFSETS: Final = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
FIRST, LAST = -62_135_596_800, 253_402_300_799


def _set(name: str) -> Callable[[FlowState, Any], object]:
    return lambda state, value: setattr(state, name, value)


def reference_of(name: str) -> Any:
    return reference(name, client=None)


@given(st.permutations(["zebra", "ant", "ä", "a", "10", "9", "\uffff", "\U0001f40d"]))
def test_maps_are_read_with_sorted_keys(names: list[str]) -> None:
    """Whatever order they were written in, at each depth: a replay of a flow must see what the first call has seen."""
    written, document = dict.fromkeys(names, 1), Document()
    write_native(document.fields, FlowState.start(input={**written, "inside": [written]}, flow_id="x"))
    read = read_native(document, flow_id="x", reference_of=reference_of)

    assert sorted([*names, "inside"]) == list(read.input)
    assert sorted(names) == list(read.input["inside"][0])


@given(st.integers(FIRST, LAST), st.integers(0, 999_999_999))
@example(FIRST, 0)
@example(-1, 500_000_000)
@example(LAST, 999_999_999)
def test_timestamps_keep_every_nanosecond(seconds: int, nanos: int) -> None:
    """So do those that Google's client gets a second wrong: those with a fraction before 1970, and late ones."""
    stored = Value(timestamp_value=Timestamp(seconds=seconds, nanos=nanos))
    read = read_value(stored, reference_of)
    again = Value()
    write_value(again, read, "input", names=5)

    assert (seconds, nanos // 1000) == _whole(read)
    assert stored == again


@pytest.mark.parametrize(
    ("nanos", "fraction"),
    [(0, "000000"), (500_000_000, "500000"), (1_000, "000001"), (123_456_789, "123456789"), (1, "000000001")],
)
def test_the_json_of_a_time(nanos: int, fraction: str) -> None:
    """Equal times have the same text, copied or not. Nanoseconds are kept."""
    read = read_value(Value(timestamp_value=Timestamp(seconds=-1, nanos=nanos)), reference_of)

    assert f'"1969-12-31T23:59:59.{fraction}Z"' == encode(read, "input").decode()
    if nanos % 1000 == 0:
        assert encode(read, "input") == encode(copy.deepcopy(read), "input")


@dataclass
class Dated:
    at: Any


@pytest.mark.parametrize("around", [list, tuple, Dated], ids=["list", "tuple", "dataclass"])
def test_a_value_that_is_copied_before_a_write_keeps_its_nanoseconds(around: Callable[[Any], Any]) -> None:
    """A write that waits first stores the text that one without a wait stores."""
    read = read_value(Value(timestamp_value=Timestamp(seconds=-1, nanos=123_456_789)), reference_of)
    value = around(read if around is Dated else [read])

    assert encode(value, "input") == encode(detached(value), "input")
    assert b".123456789Z" in encode(detached(value), "input")


@given(st.datetimes(timezones=st.none() | OFFSETS))
def test_datetimes_are_written_to_the_microsecond(moment: datetime) -> None:
    """They may be of any time zone. Without one they are in UTC."""
    target = Value()
    try:
        write_value(target, moment, "input", names=5)
    except FlowStateEncodeError:  # the first and last hours of the calendar, which UTC does not have
        assert moment.year in (1, 9999)
        return

    assert (target.timestamp_value.seconds, target.timestamp_value.nanos // 1000) == _whole(moment)


def test_moments_outside_of_firestores_years_are_refused() -> None:
    """What is before the year 1 or after 9999 in UTC cannot be stored natively."""
    for moment, hours in ((datetime.min, 14), (datetime.max, -12)):  # noqa: DTZ901  # the zone follows
        local = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
        with pytest.raises(FlowStateEncodeError, match="years 1 to 9999") as refusal:
            write_native(Document().fields, state(input={"at": local}))
        assert 'input["at"]' == refusal.value.path


_TOO_LARGE: Final = 2**64
PLACES: Final[dict[str, tuple[Callable[[FlowState, Any], object], Any]]] = {
    **{path: (put, [[_TOO_LARGE]]) for path, put in PUT.items()},
    "start_time": (_set("start_time"), _TOO_LARGE),
    "flow_id": (_set("flow_id"), "\ud800"),
    "trace_context": (_set("trace_context"), "\ud800"),
    "executions[0].end_time": (
        lambda state, value: state.executions.append(FlowStateExecution(end_time=value, trace_ids=[])),
        _TOO_LARGE,
    ),
    "executions[0].trace_ids[0]": (
        lambda state, value: state.executions.append(FlowStateExecution(trace_ids=[value])),
        "\ud800",
    ),
    "blocked_on_step.schema_": (
        lambda state, value: setattr(state, "blocked_on_step", BlockedOnStep(name="wait", schema_=value)),
        "\ud800",
    ),
    'cache["step"].more_of': (
        lambda state, value: state.cache.update(step=CacheEntry.model_validate({"more_of": value})),
        _TOO_LARGE,
    ),
    'cache["step"]["more of"]["a"]': (
        lambda state, value: state.cache.update(step=CacheEntry.model_validate({"more of": {"a": value}})),
        _TOO_LARGE,
    ),
}
"""How to put a value into each place of a state, by its path, and one that only this layout refuses there."""


@pytest.mark.parametrize("path", PLACES)
def test_a_path_is_as_an_application_writes_it(path: str) -> None:
    """It is that of the other layouts, with the names of Python, in a save as in an update."""
    put, value = PLACES[path]
    odd = FlowState.start()
    put(odd, value)
    with pytest.raises(FlowStateEncodeError, match=f"Cannot store {re.escape(path)}") as saved:
        write_native(Document().fields, odd)
    names = ("cache", "events_triggered", "operation", "blocked_on_step", "executions", "trace_context")
    change = Change(**{name: getattr(odd, name) for name in names})

    assert path + ("[0][0]" if isinstance(value, list) else "") == saved.value.path
    if path.startswith(names):
        with pytest.raises(FlowStateEncodeError) as updated:
            write_change(Document(), change)
        assert saved.value.path == updated.value.path


WRONG: Final = {
    "a timestamp before the year 1": Value(timestamp_value=Timestamp(seconds=FIRST - 1)),
    "a timestamp after 9999": Value(timestamp_value=Timestamp(seconds=LAST + 1)),
    "a timestamp of a second and more": Value(timestamp_value=Timestamp(nanos=10**9)),
    "a reference to nothing": Value(reference_value=""),
    "a reference to a collection": Value(reference_value="projects/p/databases/d/documents/c"),
    "a vector of text": Value(
        map_value={
            "fields": {
                "__type__": Value(string_value="__vector__"),
                "value": Value(array_value={"values": [Value(string_value="x")]}),
            }
        }
    ),
    "a value of a type to come": Value(pipeline_value={}),
}


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_what_is_not_a_value_is_refused(value: Value) -> None:
    """Firestore does not give out such values. Should it do so, they are damage like any other."""
    document = Document()
    write_native(document.fields, state())
    document.fields["input"].CopyFrom(value)

    with pytest.raises(FlowStateDecodeError):
        read_native(document, flow_id="id", reference_of=reference_of)


def _whole(moment: datetime) -> tuple[int, int]:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)
    since = aware - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return since // timedelta(seconds=1), since.microseconds


def test_a_naive_datetime_is_read_back_in_utc() -> None:
    """It is the one value that is not the same after a load, if it is read as its type: docs/values.md says so."""
    aware, before, document = datetime(2024, 5, 1, 12, tzinfo=timezone.utc), state(), Document()
    naive = aware.replace(tzinfo=None)
    before.cache["step"] = CacheEntry(value=naive)
    write_native(document.fields, before)
    after = read_native(document, flow_id="flow", reference_of=reference_of)

    assert naive == before.cache_value("step", as_=datetime)
    assert aware == after.cache_value("step", as_=datetime)
