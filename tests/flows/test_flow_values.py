"""Values of flows on their way through JSON: none is changed in silence, whatever type they are annotated with."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from typing_extensions import TypedDict

from firestore_flowstate import FlowStateEncodeError, MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.json_round_trip import Values, exact_json, parsed_json, plain_json
from firestore_flowstate.testing import crash_everywhere
from tests.flows.decorators import passed_on


class Measured(BaseModel):
    mean: float | None
    raw: Any = None


@dataclass
class Point:
    height: float | None


class Pair(NamedTuple):
    first: Any
    second: Any


class Size(Enum):
    SMALL = 1
    NONE = None
    WRONG = math.nan
    MANY = 2**64 + 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (math.inf, float),
        (-math.inf, float | None),
        (math.nan, float | None),
        (None, float | None),
        ([1.5, math.nan, None], list[float | None]),
        ({"a": math.inf, "b": None}, dict[str, float | None]),
        ({1: math.inf}, dict[int, float]),
        ((math.nan, None), tuple[float, None]),
        (Measured(mean=math.nan), Measured),
        (Measured(mean=None, raw=[math.inf, None]), Measured),
        ([Point(-math.inf), Point(None)], list[Point]),
        ({math.inf}, set[float]),
    ],
)
def test_a_number_that_is_not_finite_stays(value: object, kind: Any) -> None:
    """Pydantic writes null for it in what is annotated, which would be read as None."""
    values = Values()

    assert repr(value) == repr(values.read(values.dump(value, kind, "a value"), kind))


def test_a_number_of_a_model_that_is_not_finite_stays_without_an_annotation() -> None:
    """The model is dumped as its own type says, also if nothing is annotated."""
    form = Values().dump([Measured(mean=math.inf, raw={"a": math.nan}), {"b": Point(math.nan)}], Any, "a value")

    assert "[{'mean': inf, 'raw': {'a': nan}}, {'b': {'height': nan}}]" == repr(form)


def test_a_set_that_may_have_changed_is_refused() -> None:
    """The JSON does not tell which of its members was written as null."""
    with pytest.raises(FlowStateEncodeError, match="Cannot store a value: a set"):
        Values().dump({1.0, math.nan}, set[float], "a value")


async def test_a_flow_gets_its_numbers_whole_on_each_replay() -> None:
    """Its input, the results of its steps and its own result are whole, at whatever write its process dies."""

    async def measure(mean: float) -> Measured:
        return Measured(mean=mean)

    flows = Flows(MemoryFlowStateStore())

    @flows.flow
    async def report(run: Run, mean: float) -> float | None:
        return (await run.step("measure", measure, mean)).mean

    for crashed in await crash_everywhere(report, math.inf):
        assert math.inf == crashed.result


@passed_on
async def measured(mean: float) -> Measured:
    return Measured(mean=mean)


@passed_on
async def reporting(run: Run, of: Measured) -> Measured:
    return await run.step("measure", measured, of.mean or 0)


async def test_annotations_of_decorated_functions_are_found() -> None:
    """They are text, which `functools.wraps` copies to a function of a module that does not know the names."""
    flows = Flows(MemoryFlowStateStore())

    assert Measured(mean=1.5) == await flows.run(flows.flow(reporting), Measured(mean=1.5))


@pytest.mark.parametrize("value", [b"text", b"\xff\x00", b""])
async def test_bytes_are_bytes_wherever_they_are_given(value: bytes) -> None:
    """An input, results and an answer may hold them, in containers too. The store keeps them as its other bytes."""
    store = MemoryFlowStateStore()
    flows = Flows(store)

    async def one() -> bytes:
        return value

    async def many() -> dict[str, list[bytes]]:
        return {"a": [value]}

    @flows.flow
    async def keeping(run: Run, given: bytes) -> list[Any]:
        answer = await run.interrupt("approve", bytes)
        assert [value, value, {"a": [value]}] == [given, await run.step("one", one), await run.step("many", many)]
        return [answer == value]

    handle = await flows.start(keeping, value)
    await handle.resume(value, step="approve")

    assert [True] == await handle.result(timeout=5)
    state = await handle.state()
    assert state is not None
    assert value == state.cache_value("one", as_=bytes)
    await flows.close()


@dataclass
class Scan:
    data: bytes
    before: Scan | None = None


class Shot(TypedDict):
    data: bytes


@pytest.mark.parametrize(
    ("kind", "value"), [(Scan, Scan(b"\xff", Scan(b"text"))), (Shot, {"data": b"\xff"})], ids=["dataclass", "dict"]
)
async def test_bytes_are_bytes_in_a_plain_dataclass_too(kind: Any, value: Any) -> None:
    """So are those in a TypedDict. Neither has a configuration of its own that says how bytes are stored."""
    flows = Flows(MemoryFlowStateStore())

    async def one() -> Any:
        return value

    one.__annotations__["return"] = kind

    async def keeping(run: Run, given: Any) -> bool:
        answer = await run.interrupt("approve", kind)
        return bool(value == given == await run.step("one", one) == answer)

    keeping.__annotations__["given"] = kind

    handle = await flows.start(flows.flow(keeping), value)
    await handle.resume(value, step="approve")

    assert await handle.result(timeout=5) is True
    await flows.close()


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(2**63 - 2, 2**64 + 2),
    st.integers(-(2**63) - 2, 2 - 2**63),
    st.floats(),
    st.text(st.characters(codec=None)),
    st.sampled_from([*Size, Text("null"), UUID(int=5), b"bytes", b"\xff", 1e16, 5e-324, -0.0]),
)
anything = st.recursive(
    leaves,
    lambda inside: st.one_of(
        st.lists(inside, max_size=4),
        st.tuples(inside, inside),
        st.dictionaries(st.one_of(st.text(), st.sampled_from([1, None, Text("a"), Size.SMALL])), inside, max_size=3),
        st.builds(Pair, inside, inside),
        st.builds(deque, st.lists(inside, max_size=3)),
    ),
    max_leaves=12,
)


@given(anything)
def test_the_fast_way_to_json_is_the_careful_one(value: object) -> None:
    """What orjson writes and reads is what pydantic does: types, signs of zero and the order of keys, too."""
    text = plain_json(value)

    if text is not None:
        assert repr(parsed_json(exact_json(value))) == repr(orjson.loads(text))
