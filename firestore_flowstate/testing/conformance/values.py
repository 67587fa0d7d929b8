"""Values that are not JSON: each is stored whole, in the JSON form of docs/values.md, or refused with its path."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Final
from uuid import UUID

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
)

from ...errors import FlowStateBatchError, FlowStateDecodeError, FlowStateEncodeError
from ...models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .states import started, with_everywhere
from .suite import Suite

MEAN_TIME: Final = timedelta(minutes=9, seconds=21)  # the offset of Paris until 1911


class _Tool(BaseModel):
    name: str


class _SearchTool(_Tool):
    top_k: int


class _Plan(BaseModel):
    first: _Tool
    rest: list[_Tool] = []


@dataclasses.dataclass
class _PlainPlan:
    first: _Tool


class _Renamed(BaseModel):
    model_config = ConfigDict(extra="allow")

    of_python: int = Field(alias="ofJson")
    hidden: str | None = Field(default=None, exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        return 2 * self.of_python


class _Computed(BaseModel):
    of_python: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        return 2 * self.of_python


class _Keyed(BaseModel):
    by_key: dict[Any, str]


class _Serialized(BaseModel):
    many: set[str]
    upper: str
    data: bytes = b"text"

    @field_serializer("upper")
    def _lower(self, value: str) -> str:
        return value.lower()


class _Array:
    """A value of a library's own type, as of arrays and tables, which its field knows how to write and to read."""

    def __init__(self, *members: int) -> None:
        self.members = members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Array) and self.members == other.members

    __hash__ = None  # type: ignore[assignment]  # it is never a key

    def listed(self) -> list[int]:
        """Return its members."""
        return list(self.members)


_Written = Annotated[
    _Array,
    BeforeValidator(lambda value: _Array(*value) if isinstance(value, list) else value),
    PlainSerializer(_Array.listed),
]


class _Arrays(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    one: _Written
    many: dict[str, _Written]


class _NamedAlike(BaseModel):
    """A field is read by the name that a computed field has."""

    of_python: int = Field(alias="double")

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        return 2 * self.of_python


class _Matched(BaseModel):
    pattern: re.Pattern[str]


class _Streamed(BaseModel):
    numbers: Iterable[int]


class _Account(BaseModel):
    password: SecretStr


class _Names(RootModel[list[str]]):
    pass


class _Deep(BaseModel):
    at: int = Field(default=0, validation_alias=AliasPath("place", "at"))
    of: int = Field(default=0, validation_alias=AliasChoices(AliasPath("place", "of"), AliasPath("of", 0)))


class _Listed(BaseModel):
    first: int = Field(default=0, validation_alias=AliasPath("all", 0))


class _Zone(tzinfo):
    """A time zone that has no offset for any date."""

    def __init__(self, offset: timedelta | None) -> None:
        self.offset = offset

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return self.offset

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None


class _Colour(enum.Enum):
    RED = "red"


class _Area(enum.Enum):
    HALL = (3, 4)
    YARD = (5, 6)


FORMS: Final[Mapping[str, tuple[Any, Any]]] = {
    "model of a subclass in a model": (
        _Plan(first=_SearchTool(name="s", top_k=7), rest=[_SearchTool(name="t", top_k=8)]),
        {"first": {"name": "s", "top_k": 7}, "rest": [{"name": "t", "top_k": 8}]},
    ),
    "model of a subclass in a dataclass": (
        _PlainPlan(first=_SearchTool(name="s", top_k=7)),
        {"first": {"name": "s", "top_k": 7}},
    ),
    "alias, unknown key": (_Renamed.model_validate({"ofJson": 2, "more": [1]}), {"ofJson": 2, "more": [1]}),
    "aliases that are paths": (
        _Deep.model_validate({"place": {"at": 1, "of": 2}}),
        {"place": {"at": 1, "of": 2}},
    ),
    "computed field": (_Computed(of_python=2), {"of_python": 2, "double": 4}),
    "keys of a model": (_Keyed(by_key={1: "a", "b": "c"}), {"by_key": {"1": "a", "b": "c"}}),
    "set, serializer and bytes of a model": (
        _Serialized(many={"b", "a"}, upper="UP"),
        {"many": ["a", "b"], "upper": "up", "data": "text"},
    ),
    "serializers of a library's own type": (
        _Arrays(one=_Array(1, 2), many={"a": _Array(3)}),
        {"one": [1, 2], "many": {"a": [3]}},
    ),
    "computed field with the alias of a field": (_NamedAlike(double=5), {"double": 5}),
    "root model": (_Names(["a"]), ["a"]),
    "tuple": ({"t": (1, 2)}, {"t": [1, 2]}),
    "enumeration": (_Colour.RED, "red"),
    "enumeration of tuples": (_Area.HALL, [3, 4]),
    "UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "Decimal": (Decimal("1.10"), "1.10"),
    "Fraction": (Fraction(1, 3), "1/3"),
    "complex": (1 + 2j, "1+2j"),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "timedelta": (timedelta(days=1, microseconds=1), "P1DT0.000001S"),
    "date": (date(1815, 12, 10), "1815-12-10"),
}
"""Values, and the JSON that they are stored as."""

LOST: Final[Mapping[str, tuple[Any, str]]] = {
    "keys of a model that collapse": (_Keyed(by_key={1: "a", "1": "b"}), '.by_key["1"]'),
    "secret of a model": (_Account(password=SecretStr("pw")), ".password"),
    "secret": ({"a": SecretStr("pw")}, '["a"]'),
    "excluded field": (_Renamed.model_validate({"ofJson": 1, "hidden": "x"}), ".hidden"),
    "bytes of a model that are not text": (_Serialized(many=set(), upper="", data=b"\xff"), ".data"),
    "a number as key": ({"a": {1: "a"}}, '["a"][1]'),
    "set": ({"a": {"b"}}, '["a"]'),
    "object": ([object()], "[0]"),
    "flags of a pattern in a model": (_Matched(pattern=re.compile("a", re.IGNORECASE)), ".pattern"),
    "iterator in a model, which writing would use up": (_Streamed(numbers=[1]), ".numbers"),
    "alias with an index": (_Listed.model_validate({"all": [1]}), ".first"),
    "time of a zone without an offset": ({"a": time(12, tzinfo=_Zone(None))}, '["a"]'),
    "time of local mean time": ({"a": time(12, tzinfo=_Zone(MEAN_TIME))}, '["a"]'),
}
"""Values of which JSON would lose something, and the path inside of each to what would be lost."""


class _Unlike(BaseModel):
    unlike: int


@dataclasses.dataclass
class _Sent:
    at: datetime
    data: bytes
    by: _SearchTool


@dataclasses.dataclass
class _Uncopied:
    """A value that Python does not copy, as one with a lock or a connection in it."""

    within: dict[str, Any]

    def __deepcopy__(self, memo: object) -> None:
        raise TypeError


class _Raising:
    """A value whose methods raise, also those that an error text would call."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class _RaisingMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


UNTOLD: Final[Mapping[str, Callable[[], Any]]] = {
    "a value whose methods fail": _Raising,
    "a mapping whose methods fail": _RaisingMapping,
    "deeper than Python tells": lambda: _deep(5_000),
    "an integer of more digits than Python tells": lambda: 10**5_000,
    "a set": lambda: {1},
}
"""Values that cannot be stored, and of which no text can be made for an error."""


def _put_entry(state: FlowState, value: Any) -> None:
    state.cache["step"] = CacheEntry(value=value)


def _put_event(state: FlowState, value: Any) -> None:
    state.events_triggered["step"] = value


def _put_operation(state: FlowState, **fields: Any) -> None:
    state.operation = Operation.model_validate({"name": "op", **fields})


PUT: Final[Mapping[str, Callable[[FlowState, Any], None]]] = {
    "input": lambda state, value: setattr(state, "input", value),
    'cache["step"].value': _put_entry,
    'events_triggered["step"]': _put_event,
    "operation.metadata": lambda state, value: _put_operation(state, metadata=value),
    "operation.result.response": lambda state, value: _put_operation(state, result={"response": value}),
    "operation.more": lambda state, value: _put_operation(state, more=value),
    'operation["one more"]': lambda state, value: _put_operation(state, **{"one more": value}),
    "operation.blocked_on_step.more": lambda state, value: _put_operation(
        state, blockedOnStep={"name": "wait", "more": value}
    ),
    "blocked_on_step.more": lambda state, value: setattr(
        state, "blocked_on_step", BlockedOnStep.model_validate({"name": "wait", "more": value})
    ),
    "executions[0].more": lambda state, value: setattr(
        state, "executions", [FlowStateExecution.model_validate({"traceIds": [], "more": value})]
    ),
    "unknown": lambda state, value: setattr(state, "unknown", value),
}
"""How to put a value into each place of a state, by its path."""


READ_BACK: Final[Mapping[str, tuple[Any, Any]]] = {
    "model": (_Plan(first=_Tool(name="s")), _Plan),
    "model with an alias": (_Renamed.model_validate({"ofJson": 2, "more": [1]}), _Renamed),
    "model with paths as aliases": (_Deep.model_validate({"place": {"at": 1, "of": 2}}), _Deep),
    "model with a computed field": (_Computed(of_python=2), _Computed),
    "model with a computed field of the same name": (_NamedAlike(double=5), _NamedAlike),
    "model with a library's own type": (_Arrays(one=_Array(1, 2), many={"a": _Array(3)}), _Arrays),
    "model with a serializer, a set and bytes": (_Serialized(many={"b", "a"}, upper="up"), _Serialized),
    "dataclass": (
        _Sent(datetime(2024, 5, 1, 12, 30, 0, 5, timezone.utc), b"\xff\x00", _SearchTool(name="s", top_k=7)),
        _Sent,
    ),
    "datetime": (datetime(2024, 5, 1, 12, tzinfo=timezone.utc), datetime),
    "tuple": ((1, "a", None), tuple[int, str, None]),
    "models in a dict": ({"a": _SearchTool(name="s", top_k=7)}, dict[str, _SearchTool]),
    "enumeration": (_Colour.RED, _Colour),
    "UUID": (UUID(int=1), UUID),
    "Decimal": (Decimal("1.10"), Decimal),
    "Fraction": (Fraction(1, 3), Fraction),
    "complex": (1 + 2j, complex),
    "complex of negative zeros": (complex(-0.0, -0.0), complex),
    "path": (PurePosixPath("/a/b"), PurePosixPath),
    "timedelta": (timedelta(days=-1, microseconds=1), timedelta),
    "date": (date(1815, 12, 10), date),
    "datetime of local mean time": (datetime(1880, 1, 1, tzinfo=timezone(MEAN_TIME)), datetime),
    "first datetime, of local mean time": (datetime(1, 1, 2, tzinfo=timezone(MEAN_TIME)), datetime),
    "infinite Decimal": (Decimal("-Infinity"), Decimal),
    "bytes": (b"\xff\xfe\x00", bytes),
    "text": ("text 🙂", str),
    "infinity": ([float("inf"), 1.0], list[float]),
}
"""Values, and the types to read them back as."""


class ValueTests(Suite):
    """Models, enumerations, times, UUIDs and the like in place of JSON values."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("value", "form"), FORMS.values(), ids=FORMS)
    async def test_is_stored_as_its_json_form(self, store: VersionedFlowStateStore, value: Any, form: Any) -> None:
        """In each field that takes any value, and by each method that writes."""
        state = started()
        state.input, state.events_triggered["event"] = value, value
        state.unknown = value
        state.operation.metadata = value
        state.cache["step"] = CacheEntry(value=value)
        await store.save("id", state)
        await store.update("id", cache={"updated": CacheEntry(value=value)}, events_triggered={"updated": value})
        async with store.edit("id") as edited:
            edited.cache["edited"] = CacheEntry(value=value)
        loaded = await store.load("id")

        assert loaded is not None
        for found in (
            loaded.input,
            (loaded.model_extra or {})["unknown"],
            loaded.operation.metadata,
            *(loaded.cache[step].value for step in ("step", "updated", "edited")),
            *loaded.events_triggered.values(),
        ):
            assert exactly(form) == exactly(found)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("value", "path"), LOST.values(), ids=LOST)
    async def test_is_refused_if_json_would_lose_of_it(
        self, store: VersionedFlowStateStore, value: Any, path: str
    ) -> None:
        """The path leads to the value that would be lost, and nothing is written."""
        before = with_everywhere(1)
        await store.save("id", before)
        state = with_everywhere(1)
        state.input = value
        with pytest.raises(FlowStateEncodeError) as saved:
            await store.save("id", state)
        with pytest.raises(FlowStateEncodeError) as updated:
            await store.update("id", events_triggered={"event": value})

        assert path in (saved.value.path or "").replace("'", '"')
        assert path in (updated.value.path or "").replace("'", '"')
        assert exactly(before) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("path", PUT)
    @pytest.mark.parametrize("value", UNTOLD.values(), ids=UNTOLD)
    async def test_a_refusal_names_the_place_whatever_is_there(
        self, store: VersionedFlowStateStore, value: Callable[[], Any], path: str
    ) -> None:
        """The path is as the application's code would write it, though no text of the value can be made."""
        put, bad = PUT[path], value()
        await store.save("id", started())
        state = started()
        put(state, bad)
        parts: dict[str, Any] = {
            name: getattr(state, name)
            for name in ("cache", "events_triggered", "operation", "blocked_on_step", "executions")
            if getattr(state, name) != getattr(started(), name)
        } or {"extra": {"unknown": bad}}

        async def edit() -> None:
            async with store.edit("id") as edited:
                put(edited, bad)

        for call, found in (
            (store.save("id", state), path),
            (store.create("new", state), path),
            (edit(), path),
            (store.modify("id", lambda stored: put(stored, bad)), path),
            (store.update("id", **parts), 'extra["unknown"]' if path in ("unknown", "input") else path),
        ):
            with pytest.raises(FlowStateEncodeError) as refusal:
                await call
            in_it = "" if value is not _RaisingMapping else '["a"]'
            assert (found, "id") == (
                (refusal.value.path or "").partition("[0][0]")[0].removesuffix(in_it),
                "id" if refusal.value.flow_id in ("id", "new") else None,
            )
        with pytest.raises(FlowStateBatchError) as many:
            await store.save_many({"id": state})
        assert isinstance(many.value.errors["id"], FlowStateEncodeError)

        assert exactly(started()) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("value", "as_"), READ_BACK.values(), ids=READ_BACK)
    async def test_a_run_in_memory_equals_a_run_after_a_load(
        self, store: VersionedFlowStateStore, value: Any, as_: Any
    ) -> None:
        """``cache_value(as_=Type)`` returns the same for the object that was put in as for what is loaded."""
        state = started()
        state.input, state.events_triggered["event"] = value, value
        state.cache["step"] = CacheEntry(value=value)
        await store.save("id", state)
        loaded = await store.load("id")
        assert loaded is not None

        for at_hand in (state, loaded):
            assert value == at_hand.cache_value("step", as_=as_)
            assert value == at_hand.event_value("event", as_=as_)
            assert value == at_hand.input_value(as_=as_)
            assert type(value) is type(at_hand.cache_value("step", as_=as_))
        with pytest.raises(FlowStateDecodeError, match="step"):
            loaded.cache_value("step", as_=_Unlike)
        with pytest.raises(KeyError):
            loaded.cache_value("another step", as_=as_)

    @pytest.mark.asyncio
    async def test_an_enumeration_of_other_values_is_read_back_by_its_value(
        self, store: VersionedFlowStateStore
    ) -> None:
        """The type itself is found by JSON's own values alone, in the run that put it in as after a load."""
        state = started()
        state.cache["step"] = CacheEntry(value=_Area.YARD)
        await store.save("id", state)
        loaded = await store.load("id")
        assert loaded is not None

        for at_hand in (state, loaded):
            assert _Area.YARD is _Area(at_hand.cache_value("step", as_=tuple[int, int]))
            with pytest.raises(FlowStateDecodeError, match="_Area"):
                at_hand.cache_value("step", as_=_Area)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", ["save", "create", "save_many", "update"])
    @pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
    async def test_what_is_stored_is_what_was_there_at_the_call(
        self, store: VersionedFlowStateStore, write: str, first: bool
    ) -> None:
        """A change that is made while the call waits is not stored, also in the first call of a store."""
        state, value, entry = with_everywhere({"list": [1]}), _Keyed(by_key={"a": "b"}), CacheEntry(value={"list": [1]})
        state.cache["model"] = CacheEntry(value=value)
        within: dict[str, Any] = {"list": [1]}
        uncopied = [MappingProxyType(within), _Uncopied(within)]  # Python cannot copy it
        state.events_triggered["uncopied"] = uncopied
        if not first:
            await store.save("another", state)
        if write == "update":
            await store.save("id", started())
            writing = store.update("id", cache={"step": entry}, events_triggered={"event": entry.value, "un": uncopied})
        elif write == "save_many":
            writing = store.save_many({"id": state})  # type: ignore[assignment]  # awaited alone
        else:
            writing = (store.save if write == "save" else store.create)("id", state)  # type: ignore[assignment]  # likewise
        task = asyncio.ensure_future(writing)
        await asyncio.sleep(0)  # the call has begun
        value.by_key["a"] = "changed"
        for found in (state.input, state.cache["step"].value, state.operation.metadata, entry.value):
            found["list"].append("changed")
        within["list"].append("changed")
        state.cache["later"] = CacheEntry()
        entry.value = "changed"
        await task
        loaded = await store.load("id")

        assert loaded is not None
        assert "changed" not in str(loaded.model_dump())
        assert "later" not in loaded.cache
