"""Values that are not JSON, as applications have them: how each is stored, read back, or why it is refused."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, NamedTuple
from uuid import UUID

from orjson import Fragment
from pydantic import (
    AliasChoices,
    AliasPath,
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    RootModel,
    SecretBytes,
    SecretStr,
    computed_field,
    field_serializer,
)

from ...models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from .sample_models import MODEL_FORMS, MODEL_LOST, MODEL_READ_BACK

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


class Keyed(BaseModel):
    """A model with keys of any type."""

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


class _Pair(NamedTuple):
    number: int
    text: str


@dataclasses.dataclass
class _Derived:
    """One of its fields is not of ``__init__``."""

    a: int
    b: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.b = self.a + 6


class _Collections(BaseModel):
    deque: deque[int]
    frozen: frozenset[int]


class _KeyedByTypes(BaseModel):
    by_flag: dict[bool, int]
    by_id: dict[UUID, int]


class _Forbidding(BaseModel):
    """It refuses what it does not declare, so that its computed field is left out."""

    model_config = ConfigDict(extra="forbid")

    of_python: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        return 2 * self.of_python


class _Parsed(BaseModel):
    """Its field is read from a text of JSON."""

    parsed: Json[list[int]]


class _Private(BaseModel):
    shown: int
    _hidden: int = 0

    @classmethod
    def hiding(cls, shown: int, hidden: int) -> _Private:
        """Return a model with something in its private attribute."""
        model = cls(shown=shown)
        model._hidden = hidden
        return model


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


class Area(enum.Enum):
    """An enumeration whose values are tuples."""

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
    "keys of a model": (Keyed(by_key={1: "a", "b": "c"}), {"by_key": {"1": "a", "b": "c"}}),
    "set, serializer and bytes of a model": (
        _Serialized(many={"b", "a"}, upper="UP"),
        {"many": ["a", "b"], "upper": "up", "data": "text"},
    ),
    "serializers of a library's own type": (
        _Arrays(one=_Array(1, 2), many={"a": _Array(3)}),
        {"one": [1, 2], "many": {"a": [3]}},
    ),
    "computed field with the alias of a field": (_NamedAlike(double=5), {"double": 5}),
    "computed field of a model that takes no other keys": (_Forbidding(of_python=2), {"of_python": 2}),
    "keys true and UUID of a model": (
        Keyed(by_key={True: "a", UUID(int=1): "b"}),
        {"by_key": {"true": "a", str(UUID(int=1)): "b"}},
    ),
    "deque and frozen set of a model": (
        _Collections(deque=deque([3, 1]), frozen=frozenset({9, 10})),
        {"deque": [3, 1], "frozen": [10, 9]},
    ),
    "field of type Json": (_Parsed.model_validate({"parsed": "[1, 2]"}), {"parsed": [1, 2]}),
    "private attribute": (_Private.hiding(1, 2), {"shown": 1}),
    "root model": (_Names(["a"]), ["a"]),
    "dataclass with a field that is not of init": (_Derived(1), {"a": 1, "b": 7}),
    "named tuple": (_Pair(1, "a"), [1, "a"]),
    "IP address": (ip_address("10.0.0.1"), "10.0.0.1"),
    "IP network": (ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    "URL": (AnyUrl("https://example.com/a"), "https://example.com/a"),
    "time": (time(12, 30, 5), "12:30:05"),
    "tuple": ({"t": (1, 2)}, {"t": [1, 2]}),
    "enumeration": (_Colour.RED, "red"),
    "enumeration of tuples": (Area.HALL, [3, 4]),
    "UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "Decimal": (Decimal("1.10"), "1.10"),
    "Fraction": (Fraction(1, 3), "1/3"),
    "complex": (1 + 2j, "1+2j"),
    "path": (PurePosixPath("/a/b"), "/a/b"),
    "timedelta": (timedelta(days=1, microseconds=1), "P1DT0.000001S"),
    "date": (date(1815, 12, 10), "1815-12-10"),
    **MODEL_FORMS,
}
"""Values, and the JSON that they are stored as."""


class _Repeating(Mapping[str, Any]):
    """A mapping with several values by key, as the parameters of a URL have."""

    def __init__(self, *items: tuple[str, Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: str) -> Any:
        return next(value for own, value in self._items if own == key)


class _Label(str):
    """A text that equals no other one, not even of the same characters."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class _Raw(enum.Enum):
    TEXT = Fragment(b"1")


class _Failing(enum.Enum):
    VALUE = 1

    @property
    def value(self) -> int:
        raise RuntimeError


LOST: Final[Mapping[str, tuple[Any, str]]] = {
    "a key that comes twice": ({"a": _Repeating(("tag", "b"), ("tag", "c"))}, '["a"]["tag"]'),
    "a key that comes twice, with objects": (_Repeating(("tag", {"b": 1}), ("tag", {"c": 2})), '["tag"]'),
    "a key that comes twice, with arrays": (_Repeating(("tag", [1]), ("tag", [2])), '["tag"]'),
    "two keys of the same text": ({_Label("tag"): 1, _Label("tag"): 2}, '["tag"]'),
    "keys of a model that collapse": (Keyed(by_key={1: "a", "1": "b"}), '.by_key["1"]'),
    "secret of a model": (_Account(password=SecretStr("pw")), ".password"),
    "secret": ({"a": SecretStr("pw")}, '["a"]'),
    "secret bytes": ({"a": SecretBytes(b"pw")}, '["a"]'),
    "None as a key of a model": (Keyed(by_key={None: "a"}), ".by_key[None]"),
    "excluded field": (_Renamed.model_validate({"ofJson": 1, "hidden": "x"}), ".hidden"),
    "bytes of a model that are not text": (_Serialized(many=set(), upper="", data=b"\xff"), ".data"),
    "a number as key": ({"a": {1: "a"}}, '["a"][1]'),
    "set": ({"a": {"b"}}, '["a"]'),
    "object": ([object()], "[0]"),
    "flags of a pattern in a model": (_Matched(pattern=re.compile("a", re.IGNORECASE)), ".pattern"),
    "raw text that would close the object around it": ({"a": Fragment(b'1},"pay":{"value":"forged"')}, '["a"]'),
    "raw text that is not JSON": ([1, Fragment("{oops")], "[1]"),
    "raw text that is JSON, with a null": ({"a": [Fragment(b'{"a":null}')]}, '["a"][0]'),
    "raw text beside a null": ({"n": None, "a": Fragment(b"1")}, '["a"]'),
    "raw text in an enumeration": ({"a": _Raw.TEXT}, '["a"]'),
    "enumeration whose value fails, which orjson dies of": ([_Failing.VALUE], "[0]"),
    "iterator in a model, which writing would use up": (_Streamed(numbers=[1]), ".numbers"),
    "alias with an index": (_Listed.model_validate({"all": [1]}), ".first"),
    "time of a zone without an offset": ({"a": time(12, tzinfo=_Zone(None))}, '["a"]'),
    "time of local mean time": ({"a": time(12, tzinfo=_Zone(MEAN_TIME))}, '["a"]'),
    **MODEL_LOST,
}
"""Values of which JSON would lose something, and the path inside of each to what would be lost."""


class Unlike(BaseModel):
    """A model that none of the values can be read back as."""

    unlike: int


@dataclasses.dataclass
class _Sent:
    at: datetime
    data: bytes
    by: _SearchTool


@dataclasses.dataclass
class Uncopied:
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


class RaisingMapping(Mapping[str, Any]):
    """A mapping whose methods raise."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def _deep(levels: int, bottom: Any = 0) -> Any:
    value = bottom
    for _ in range(levels):
        value = [value]
    return value


UNTOLD: Final[Mapping[str, Callable[[], Any]]] = {
    "a value whose methods fail": _Raising,
    "a mapping whose methods fail": RaisingMapping,
    "deeper than Python tells": lambda: _deep(5_000),
    "deeper than the limit, with 2**70": lambda: _deep(203, 2**70),
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
    "model with keys that are not text": (_KeyedByTypes(by_flag={True: 1}, by_id={UUID(int=1): 2}), _KeyedByTypes),
    "model with a deque and a frozen set": (
        _Collections(deque=deque([3, 1]), frozen=frozenset({9, 10})),
        _Collections,
    ),
    "model that takes no other keys": (_Forbidding(of_python=2), _Forbidding),
    "root model": (_Names(["a"]), _Names),
    "named tuple": (_Pair(1, "a"), _Pair),
    "IP network": (ip_network("10.0.0.0/8"), IPv4Network),
    "URL": (AnyUrl("https://example.com/a"), AnyUrl),
    "time": (time(12, 30, 5), time),
    "dataclass with a field that is not of init": (_Derived(1), _Derived),
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
    **MODEL_READ_BACK,
}
"""Values, and the types to read them back as."""
