"""Values of flows on their way through JSON: none is changed in silence, whatever type they are annotated with."""

from __future__ import annotations

import asyncio
import math
import re
from collections import UserDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Annotated, Any, NamedTuple, NoReturn, Optional, TypeVar
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    PlainSerializer,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    computed_field,
    field_serializer,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import Never, Self, TypedDict

from firestore_flowstate import FlowState, FlowStateEncodeError, MemoryFlowStateStore
from firestore_flowstate.flows import FlowFailedError, Flows, InvalidPayloadError, Retry, Run, StepFailedError
from firestore_flowstate.flows.entries import arguments_sum
from firestore_flowstate.flows.json_round_trip import Values, exact_json, parsed_json, plain_json
from firestore_flowstate.flows.payloads import check_payload
from firestore_flowstate.testing import crash_everywhere
from tests.flows.counting_store import CountingStore
from tests.flows.decorators import passed_on
from tests.flows.test_waits import blocked


class Measured(BaseModel):
    mean: float | None
    raw: Any = None


class Spot(BaseModel):
    model_config = ConfigDict(frozen=True)

    height: float | None


class Loose(BaseModel):
    model_config = ConfigDict(frozen=True)

    height: Any


@dataclass(frozen=True)
class Held:
    loose: Loose


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


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1.0, math.inf, -math.inf}, set[float]),
        (frozenset({None, math.inf}), frozenset[float | None]),
        ({(1.0, math.inf), (2.0, 3.0), (4.0, None)}, set[tuple[float, float | None]]),
        ({Spot(height=math.inf), Spot(height=None), Spot(height=1.0)}, set[Spot]),
        ([{Spot(height=1.0)}, None, Measured(mean=math.inf)], list[set[Spot] | Measured | None]),
    ],
)
def test_a_set_with_numbers_that_are_not_finite_stays(value: Any, kind: Any) -> None:
    """Its members are the same, at any depth, also if they are models, of whose dicts Python makes no set."""
    values = Values()

    assert value == values.read(values.dump(value, kind, "a value"), kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1.0, math.nan}, set[Any]),
        ({(1.0, math.inf), (2.0, 3.0)}, set[tuple[Any, ...]]),
        ({Loose(height=math.inf), Loose(height=1.0)}, set[Loose]),
        ({Held(Loose(height=(1.0, math.inf)))}, set[Held]),
    ],
)
def test_a_set_that_would_lose_a_number_is_refused(value: Any, kind: Any) -> None:
    """Pydantic does not tell which of its members was written as null, if a number is not annotated as one."""
    with pytest.raises(FlowStateEncodeError, match="Cannot store a value: a set"):
        Values().dump(value, kind, "a value")


@given(st.sets(st.tuples(st.integers(0, 1 << 60), st.sampled_from([math.inf, -math.inf, 1.5])), max_size=20))
def test_the_members_of_a_set_keep_their_numbers(value: set[tuple[int, float]]) -> None:
    """Python does not give two sets of the same members in the same order: no number comes to another member."""
    members = {*value, *((number, math.inf) for number in range(5))} - {(number, math.inf) for number in range(3)}
    values, kind = Values(), set[tuple[int, float]]

    assert members == values.read(values.dump(members, kind, "a value"), kind)


async def test_a_set_without_an_annotation_is_a_list() -> None:
    """It is one on the first call as on each replay, with its infinities."""
    flows = Flows(MemoryFlowStateStore())

    @flows.flow
    async def unannotated(run: Run) -> str:
        return repr(sorted(await run.step("both", lambda: {1.0, math.inf})))

    for crashed in await crash_everywhere(unannotated):
        assert "[1.0, inf]" == crashed.result
        assert isinstance(crashed.state.cache["both"].value, list)


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


class Accept(BaseModel):
    why: str


class Reject(BaseModel):
    why: str


Made = Callable[[type, type], Any]


@pytest.mark.parametrize(
    ("of", "form"),
    [
        (lambda one, other: one | other, {"why": "a"}),
        (lambda one, other: list[one | other], [{"why": "a"}]),  # type: ignore[valid-type]  # made when it runs
        (lambda one, other: Annotated[one, 1] | Annotated[other, 1], {"why": "a"}),
        (lambda one, other: dict[str, tuple[int, one | other]], {"k": [1, {"why": "a"}]}),  # type: ignore[valid-type]  # as above
    ],
    ids=["alone", "in a list", "annotated", "deeper"],
)
def test_a_union_is_read_in_its_own_order(of: Made, form: Any) -> None:
    """It equals one of another order, as which the same value is of another type."""
    values = Values()

    for first, second in ((Accept, Reject), (Reject, Accept), (Accept, Reject)):
        assert f"{first.__name__}(why='a')" in repr(values.read(form, of(first, second)))


async def test_a_step_returns_the_first_type_of_its_own_annotation() -> None:
    """Whatever other step is annotated with the same types in another order."""
    flows = Flows(MemoryFlowStateStore())

    async def one() -> Accept | Reject:
        return Accept(why="a")

    async def other() -> Reject | Accept:
        return Reject(why="a")

    @flows.flow
    async def both(run: Run) -> list[str]:
        return [type(await run.step("step", each)).__name__ for each in (one, other)]

    assert ["Accept", "Reject"] == await flows.run(both)


def test_an_annotation_that_is_made_at_each_call_is_kept_once() -> None:
    """Equal ones in the same order share an adapter, so that a process does not grow."""
    values = Values()

    assert 1 == len({id(values.adapter(list[Accept | Reject])) for _ in range(5)})
    assert 1 == len(values._adapters)


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


class Tagged(BaseModel):
    model_config = ConfigDict(frozen=True)

    tags: frozenset[int] = Field(alias="Tags")


class Tags(RootModel[set[int]]):
    pass


@dataclass
class Labelled:
    tags: set[int]


@dataclass(slots=True)
class Slotted:
    tags: set[int]


class Computed(BaseModel):
    given: Annotated[list[int], Field(exclude=True)]

    @computed_field(alias="Tags")
    def tags(self) -> dict[str, set[int]]:
        return {"all": set(self.given)}


@pydantic_dataclass
class ComputedToo:
    given: Annotated[list[int], Field(exclude=True)]

    @computed_field
    def tags(self) -> set[int]:
        return set(self.given)


@pytest.mark.parametrize(
    "around",
    [
        lambda tags: tags,
        lambda tags: [(tags, 1)],
        lambda tags: {1: tags, "a": {"b": tags}},
        lambda tags: {frozenset(tags), frozenset({3})},
        lambda tags: Tagged(Tags=tags),
        lambda tags: {Tagged(Tags=tags)},
        lambda tags: Tags(tags),
        lambda tags: Labelled(tags),
        lambda tags: [Slotted(tags)],
        lambda tags: Computed(given=list(tags)),
        lambda tags: ComputedToo(list(tags)),
    ],
    ids=[
        "alone",
        "in lists",
        "in maps",
        "in a set",
        "model",
        "models in a set",
        "root",
        "dataclass",
        "slots",
        "computed",
        "computed of a dataclass",
    ],
)
def test_the_sum_of_a_set_does_not_depend_on_its_order(around: Callable[[set[int]], Any]) -> None:
    """It differs between processes, each of which may replay the run. Here 0 and 8 collide in a table of 8 places."""
    one, other = set([0, 8]), set([8, 0])  # noqa: C405  # in this order, which literals do not promise
    assert list(one) != list(other)

    assert arguments_sum([around(one)], {}) is not None
    assert arguments_sum([around(one)], {}) == arguments_sum([around(other)], {})
    assert arguments_sum([around(one)], {}) != arguments_sum([around({0, 9})], {})


def test_the_sums_of_other_arguments_are_those_that_are_stored() -> None:
    """Runs of earlier versions go on. The order of a list counts, and that of a map does not."""
    assert 1588350085 == arguments_sum([datetime(2020, 1, 1)], {"k": 1})  # noqa: DTZ001  # as it was stored
    assert 2571460088 == arguments_sum([1, "a", [2, 1], {"b": 1, "a": {"d": None, "c": [3, 1]}}], {"k": 1})
    assert 2571460088 == arguments_sum([1, "a", [2, 1], {"a": {"c": [3, 1], "d": None}, "b": 1}], {"k": 1})
    assert 2571460088 != arguments_sum([1, "a", [1, 2], {"b": 1, "a": {"d": None, "c": [3, 1]}}], {"k": 1})


async def test_a_step_in_a_branch_gets_its_iterator_whole() -> None:
    """The sum of its arguments is made before it runs, and does not use the iterator up."""
    flows = Flows(MemoryFlowStateStore())

    @flows.flow
    async def adding(run: Run) -> list[int]:
        async def branch() -> int:
            return await run.step("sum", sum, (number for number in range(4)))

        return list(await asyncio.gather(branch()))

    assert [6] == await flows.run(adding)


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


@pytest.mark.parametrize("text", [b"{oops", b"1"])
def test_raw_text_is_refused(text: bytes) -> None:
    """The fast way would copy it into the result, whatever it is."""
    with pytest.raises(FlowStateEncodeError, match="Fragment"):
        Values().dump([orjson.Fragment(text)], Any, "the result")


class Item(BaseModel):
    n: int

    @classmethod
    async def load(cls, n: int) -> Self:
        return cls(n=n)

    async def bump(self, n: int) -> list[Self]:
        return [type(self)(n=n)]


class Special(Item):
    pass


OfItem = TypeVar("OfItem", bound="Item")


async def inner(n: int) -> Item:
    return Item(n=n)


async def in_a_list(n: int) -> Any:
    return [Item(n=n)]


async def optional(n: int) -> Any:
    return Item(n=n)


def awaitable(n: int) -> Any:
    return inner(n)


def coroutine(n: int) -> Any:
    return inner(n)


def bare(n: int) -> Any:
    return awaitable(n)


async def variable(n: int) -> Any:
    return Item(n=n)


for function, annotation in (  # as a module without `from __future__ import annotations` has them
    (in_a_list, list["Item"]),
    (optional, Optional["Item"]),
    (awaitable, Awaitable[Item]),
    (coroutine, Coroutine[Any, Any, "Item"]),
    (bare, Awaitable),
    (variable, OfItem),
    (Item.load.__func__, Self),
    (Item.bump, list[Self]),
):
    function.__annotations__["return"] = annotation


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (in_a_list, [Item(n=5)]),
        (optional, Item(n=5)),
        (awaitable, Item(n=5)),
        (coroutine, Item(n=5)),
        (bare, {"n": 5}),
        (variable, Item(n=5)),
        (Item.load, Item(n=5)),
        (Special.load, Special(n=5)),
        (Special(n=1).bump, [Special(n=5)]),
        (partial(Item.load, n=5), Item(n=5)),
        (partial(Item.bump, Item(n=1)), [{"n": 5}]),
    ],
)
async def test_an_annotation_that_type_checkers_take_is_read(function: Any, result: object) -> None:
    """Text inside of a type, what a function returns to be awaited, Self if the class is known, a bound variable."""
    flows = Flows(MemoryFlowStateStore())

    @flows.flow
    async def asking(run: Run) -> bool:
        given = () if isinstance(function, partial) and function.keywords else (5,)
        found = await run.step("ask", function, *given)
        return type(found) is type(result) and found == result

    for crashed in await crash_everywhere(asking):
        assert crashed.result is True


@pytest.mark.parametrize("annotation", [NoReturn, Never], ids=str)
async def test_a_step_that_is_not_to_return_raises_its_error(annotation: Any) -> None:
    """There is no value of its type, and none is needed."""
    flows = Flows(MemoryFlowStateStore())

    async def refuse() -> None:
        raise ValueError("as it should")

    refuse.__annotations__["return"] = annotation

    @flows.flow
    async def refusing(run: Run) -> str:
        with pytest.raises(StepFailedError, match="as it should") as refused:
            await run.step("refuse", refuse)
        return refused.value.error_type

    assert "ValueError" == await flows.run(refusing)


async def test_the_input_of_a_flow_may_name_a_type_inside_of_another() -> None:
    """As it does in a module without annotations as text."""
    flows = Flows(MemoryFlowStateStore())

    async def taking(run: Run, item: Any = None) -> int | None:
        return item.n if item is not None else None

    taking.__annotations__["item"] = Optional["Item"]
    flow = flows.flow(taking)

    assert 5 == await flows.run(flow, Item(n=5))
    assert await flows.run(flow) is None


class Login(BaseModel):
    user: str
    token: SecretStr


class Counted(BaseModel):
    count: int
    seen: int = Field(default=0, exclude=True)


class Dated(Secret[int]):
    def _display(self) -> str:
        return "****-**"


class Nested(BaseModel):
    logins: dict[str, list[Any]]


@pydantic_dataclass
class Account:
    born: Dated


class Tokens(RootModel[list[SecretStr]]):
    pass


HIDDEN = [
    (Tokens([SecretStr("hush")]), "[0]"),
    (Login(user="a", token=SecretStr("hush")), ".token"),
    (Nested(logins={"x": [1, Login(user="a", token=SecretStr("hush"))]}), ".logins['x'][1].token"),
    ([SecretBytes(b"hush")], "[0]"),
    (Account(born=Dated(5)), ".born"),
    (Counted(count=1, seen=42), ".seen"),
    ((None, {"a": Counted(count=1, seen=42)}), "[1]['a'].seen"),
]


@pytest.mark.parametrize(("value", "path"), HIDDEN)
@pytest.mark.parametrize("is_annotated", [True, False])
def test_what_a_dump_would_hide_or_leave_out_is_refused(value: Any, path: str, is_annotated: bool) -> None:
    """As the store refuses it: stars would be read back as the secret, and the default as the field."""
    kinds: dict[Any, Any] = {list: list[SecretBytes], tuple: tuple[None, dict[str, Counted]]}
    kind = kinds.get(type(value), type(value)) if is_annotated else Any

    with pytest.raises(FlowStateEncodeError, match=r"Cannot store a value") as refused:
        Values().dump(value, kind, "a value")

    assert f"a value{path}".replace("'", '"') == str(refused.value.path).replace("'", '"')


def test_what_the_store_refuses_of_a_model_with_other_names_is_named_as_the_value() -> None:
    """Such a model is taken apart by the store's own rules, whose errors speak of a state."""
    value = [Written(name="q"), {"a": SecretStr("hush")}]

    with pytest.raises(FlowStateEncodeError, match=r"^Cannot store a value\[1\]\[.a.\]: a secret") as refused:
        Values().dump(value, list[Written | Any], "a value")

    assert "a value[1][" in str(refused.value.path)


class Failing(UserDict[str, int]):
    def __iter__(self) -> Iterator[str]:
        raise LookupError("no keys")


def test_a_value_whose_own_method_fails_is_refused() -> None:
    """It is looked through before pydantic dumps it, and is an error as any value without a JSON form."""
    with pytest.raises(FlowStateEncodeError, match=r"Cannot store a value: .*LookupError"):
        Values().dump([Failing()], Any, "a value")


class Shown(BaseModel):
    token: SecretStr
    stars: str = "**********"

    @field_serializer("token")
    def _show(self, token: SecretStr) -> str:
        return token.get_secret_value()


@pytest.mark.parametrize(
    "value",
    [
        Counted(count=1),
        Login(user="**********", token=SecretStr("")),
        Nested(logins={"**********": ["**********", None]}),
    ],
    ids=repr,
)
def test_what_no_dump_loses_is_taken(value: Any) -> None:
    """An excluded field that has its default, an empty secret, stars that somebody wrote."""
    values = Values()

    assert value == values.read(values.dump(value, type(value), "a value"), type(value))
    assert values.dump(value, Any, "a value") == values.dump(value, type(value), "a value")


def test_a_secret_that_a_serializer_shows_is_stored() -> None:
    """Its text is the secret, which is what stands in the JSON form."""
    shown = Shown(token=SecretStr("hush"), stars="no")

    for kind in (Shown, Any):
        assert {"token": "hush", "stars": "no"} == Values().dump(shown, kind, "a value")


async def test_a_secret_is_refused_wherever_a_flow_is_given_it(flows: Flows) -> None:
    """At start and resume nothing is written; a step that returns one ends the run, by its name."""
    login = Login(user="a", token=SecretStr("hush"))

    async def sign_in() -> Login:
        return login

    @flows.flow
    async def taking(run: Run, given: Login) -> str:
        return (await run.interrupt("sign-in", Login)).user

    @flows.flow
    async def making(run: Run) -> str:
        return (await run.step("sign-in", sign_in)).user

    with pytest.raises(FlowStateEncodeError, match=r"the input of the flow 'taking'\.token"):
        await flows.start(taking, login)
    handle = await flows.start(taking, Login(user="a", token=SecretStr("")))
    with pytest.raises(FlowStateEncodeError, match=r"the answer\.token"):
        await handle.resume(login, step="sign-in")
    with pytest.raises(FlowFailedError, match=r"the result of the step 'sign-in'\.token"):
        await flows.run(making)


class Written(BaseModel):
    name: str = Field(default="", serialization_alias="n")


class Read(BaseModel):
    name: str = Field(validation_alias="n")


class Deep(BaseModel):
    name: str = Field(validation_alias=AliasPath("a", "b"))


class Choice(BaseModel):
    x: int = Field(validation_alias=AliasChoices("x_new", AliasPath("a", "b"), "x_old"))


class Doubled(BaseModel):
    model_config = ConfigDict(extra="forbid")

    a: int

    @computed_field
    def double(self) -> int:
        return 2 * self.a


class Open(Doubled):
    model_config = ConfigDict(extra="allow")


class OfText(BaseModel):
    j: Json[list[float]]


class Rest(TypedDict):
    a: int
    b: Annotated[int, Field(exclude=True)]


@dataclass
class Plain:
    a: Written
    b: Annotated[int, Field(exclude=True)] = 0


class Late(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)

    a: int

    @computed_field
    def double(self) -> int:
        return 2 * self.a


ONE_WAY = [
    (Late.model_construct(a=1), Late),
    (Written(name="q"), Written),
    ([{"a": Written(name="q")}], list[dict[str, Written]]),
    (Read(n="q"), Read),
    (Deep(a={"b": "q"}), Deep),
    (Choice(x_old=1), Choice),
    (Doubled(a=1), Doubled),
    (Open(a=1), Open),
    ((Doubled(a=1), None), tuple[Doubled, None]),
    (OfText(j="[1, 2.5]"), OfText),
    ({"a": 1, "b": 2}, Rest),
    (Plain(Written(name="q"), 42), Plain),
]


@pytest.mark.parametrize(("value", "kind"), ONE_WAY, ids=repr)
def test_a_model_comes_back_whose_names_are_not_those_that_pydantic_writes(value: Any, kind: Any) -> None:
    """It is stored under the names that it reads, and without a computed field that it does not read."""
    values = Values()

    assert repr(value) == repr(values.read(values.dump(value, kind, "a value"), kind))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("\ud800", str),
        ({"a": "\ud800", "\udfff": [None, 1.5]}, dict[str, Any]),
        (["x", "\ud800"], list),
        ([("\ud800", 1)], list[tuple[str, int]]),
        ({"\ud800": 1}, dict[str, int]),
    ],
)
def test_a_lone_surrogate_stays_in_what_is_annotated(value: Any, kind: Any) -> None:
    """As it does without an annotation, and as the store has it. U+FFFD is a character as any other."""
    values = Values()

    assert value == values.read(values.dump(value, kind, "a value"), kind)
    assert {"\ufffd": {1}} == values.read(values.dump({"\ufffd": {1}}, dict[str, set[int]], "it"), dict[str, set[int]])


def test_a_lone_surrogate_beside_what_has_another_form_in_python_is_refused() -> None:
    """Pydantic reads it in Python's values alone, as which the JSON form of bytes would be other bytes."""
    values = Values()

    with pytest.raises(FlowStateEncodeError, match="surrogates"):
        values.dump(["\ud800", b"\xff"], list[str | bytes], "a value")
    with pytest.raises(ValidationError):
        values.read(["\ud800", "aGk="], tuple[str, bytes])


class Strict(BaseModel):
    value: Decimal


@pytest.mark.parametrize(
    ("unfit", "kind", "says"),
    [
        ("abc", int, "<class 'int'>.*valid integer"),
        (Strict.model_construct(value=Decimal("NaN")), Strict, "Strict.*finite number"),
        ({(1, 2): 3}, dict[tuple[int, int], int], "valid array"),
    ],
    ids=["int", "decimal", "keys"],
)
async def test_a_result_that_its_type_does_not_read_is_not_recorded(
    flows: Flows, store: CountingStore, unfit: Any, kind: Any, says: str
) -> None:
    """The run fails and names the step. After the code is mended `retry` begins the step again."""
    fit: Any = {int: 5, Strict: {"value": 1}}.get(kind, {})
    results = [unfit, TypeAdapter(kind).validate_python(fit)]

    async def work() -> Any:
        return results.pop(0)

    work.__annotations__["return"] = kind

    @flows.flow
    async def working(run: Run) -> bool:
        return await run.options(retry=Retry(3, first=0)).step("work", work) is not None

    handle = await flows.start(working, id="x")
    with pytest.raises(FlowFailedError, match=rf"The result of the step 'work' cannot be stored: .*{says}"):
        await handle.result(timeout=5)
    assert not (await store.load("x")).cache

    await handle.retry()

    assert await handle.result(timeout=5) is True


async def test_a_result_is_validated_once(flows: Flows) -> None:
    """What it was read as before it was recorded is what the function gets; each asks for an object of its own."""
    validated: list[int] = []

    def count(value: list[int]) -> list[int]:
        validated.append(1)
        return value

    kind = Annotated[list[int], AfterValidator(count)]
    made = [1]

    async def make() -> Any:
        return made

    @flows.flow
    async def making(run: Run) -> list[int]:
        found: list[int] = await run.options(result=kind).step("make", make)
        found.append(2)
        return found

    assert [1, 2] == await flows.run(making)
    assert [1] == made == validated


class Cat(BaseModel):
    name: str
    lives: int = 9


class Dog(BaseModel):
    name: str


def kind_of_pet(pet: Any) -> str:
    name = pet["name"] if isinstance(pet, dict) else pet.name
    return "cat" if name.startswith("c") else "dog"


Pet = Annotated[Annotated[Cat, Tag("cat")] | Annotated[Dog, Tag("dog")], Discriminator(kind_of_pet)]


class Price(BaseModel):
    cents: Annotated[int, PlainSerializer(lambda cents: str(cents), return_type=str)]


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, extra="forbid")

    name: str = Field(alias="Name")


class Strung(BaseModel):
    code: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2, pattern="^[a-z]+$")]


def shown_without_addresses(value: Any) -> str:
    """Return the id of a parameter, which is the same in each process that runs tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Pet, {"name": "dora"}),
        (Pet, Dog(name="dora")),
        (Annotated[float, Field(multiple_of=0.01)], 19.99),
        (Annotated[Decimal, Field(multiple_of=Decimal("0.05"))], 0.15),
        (list[Annotated[float, Field(multiple_of=0.01)] | None], [19.99, None]),
        (Decimal, Decimal("1E-7")),
        (Annotated[Decimal, Field(max_digits=9, decimal_places=8)], Decimal("1E-7")),
        (Choice, {"x_new": 1}),
        (Choice, {"x_old": 1}),
        (Choice, {"a": {"b": 1}}),
        (Choice, Choice(x_old=1)),
        (Deep, Deep(a={"b": "q"})),
        (Deep, {"a": {"b": "q"}, "name": 5}),
        (Written, Written(name="q")),
        (Read, Read(n="q")),
        (ByName, {"name": "q"}),
        (ByName, {"Name": "q"}),
        (ByName, ByName(name="q")),
        (Price, Price(cents=5)),
        (Price, {"cents": 5}),
        (Doubled, Doubled(a=1)),
        (OfText, OfText(j="[1]")),
        (Annotated[str, Field(pattern="^[[:alpha:]]+$")], "abc"),
        (Annotated[str, Field(pattern=r"^[\w--\d]+$")], "abc"),
        (Annotated[str, Field(pattern=r"\b{start}abc")], "abc"),
        (Strung, {"code": " ab "}),
        (set[int], [1, 1]),
        (Annotated[set[int], Field(min_length=1, max_length=1)], [1, 1]),
    ],
    ids=shown_without_addresses,
)
@pytest.mark.filterwarnings("error")
def test_an_answer_that_its_type_takes_fits_the_schema(kind: Any, answer: Any) -> None:
    """The schema is stored, and whoever answers need not know the type: it must not be stricter than the type is."""
    values = Values()
    form = values.dump(answer, Any, "the answer")

    check_payload(form, answer, values.schema(kind), id="x", step="ask")
    read = values.read(form, kind)

    assert answer == read or isinstance(answer, dict | list | str | float)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Pet, {"name": 5}),
        (Annotated[int, Field(multiple_of=3)], 4),
        (Choice, {}),
        (Choice, {"x_new": "one"}),
        (ByName, {"other": "q"}),
        (Price, {"cents": []}),
        (Doubled, {"a": 1, "b": 2}),
        (Annotated[str, Field(pattern="^[a-z]+$")], "5"),
        (set[int], ["one"]),
    ],
    ids=shown_without_addresses,
)
def test_an_answer_that_does_not_fit_is_still_refused_by_the_schema(kind: Any, answer: Any) -> None:
    """Before it is stored, so that whoever answers hears of it."""
    with pytest.raises(InvalidPayloadError):
        check_payload(answer, answer, Values().schema(kind), id="x", step="ask")


async def test_the_default_of_an_input_is_stored_at_the_start(store: CountingStore) -> None:
    """A replay, a retry and people see what the run was started with, whatever the code has as the default by then."""

    def flows_of(region: str) -> tuple[Flows, Any]:
        flows = Flows(store)

        async def placing(run: Run, region: str = region) -> str:
            await run.interrupt("go")
            return region

        return flows, flows.flow(name="placing")(placing)

    flows, placing = flows_of("europe")
    await flows.start(placing, id="x")
    await blocked(store, "x")
    await flows.close()
    assert "europe" == (await store.load("x")).input

    flows, _ = flows_of("us")
    await flows.resume("x", 1, step="go")

    assert "europe" == await flows.result("x", timeout=10)
    await flows.close()


async def test_a_default_that_can_be_changed_does_not_leak_from_one_drive_to_another(
    flows: Flows, store: CountingStore
) -> None:
    """Each drive has a list of its own, also one of a run that was started without an input by a process elsewhere."""

    @flows.flow(name="tagging")
    async def tagging(run: Run, tags: list[str] = []) -> list[str]:  # noqa: B006  # which is what is tested
        tags.append("new")
        await run.interrupt("go")
        return tags

    state = FlowState.start(name="tagging", flow_id="old")
    assert state.model_extra is not None
    state.model_extra["wakeAt"] = 1
    await store.create("old", state)
    await flows.drive("old")
    assert not (await store.load("old")).has("input")
    await flows.start(tagging, id="new")

    for id in ("old", "new"):
        await flows.resume(id, 1, step="go")
        assert ["new"] == await flows.result(id, timeout=5)


async def test_a_default_that_does_not_fit_its_annotation_is_the_input(flows: Flows, store: CountingStore) -> None:
    """As Python has it. It is not stored, since it could not be read back."""

    @flows.flow
    async def counting(run: Run, count: int = None) -> bool:  # type: ignore[assignment]  # noqa: RUF013  # as above
        return count is None

    assert await flows.run(counting, id="x") is True
    assert not (await store.load("x")).has("input")
