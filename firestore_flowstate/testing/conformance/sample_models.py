"""Models whose own declarations say how they are written and read: serializers, aliases, defaults, configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import time  # and no date: freezegun puts a class of its own in its place, which pydantic does not know
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Union

from pydantic import (
    AliasChoices,
    AliasPath,
    Base64Bytes,
    Base64Str,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FieldSerializationInfo,
    PlainSerializer,
    Secret,
    SecretStr,
    WrapSerializer,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
)
from pydantic import dataclasses as pydantic_dataclasses
from typing_extensions import TypeAliasType, TypedDict


class _Animal(BaseModel):
    legs: int = 4


class _Cat(_Animal):
    lives: int = 9


def _unwrapped(value: Any) -> Any:
    return value["wrapped"] if isinstance(value, dict) else value


def _only(value: Any) -> Any:
    return value["only"] if isinstance(value, dict) else value


def _or_infinity(value: Any) -> Any:
    return float("inf") if value is None else value


def _or_null(value: float) -> float | None:
    return None if value == float("inf") else value


def _wrap(value: Any, handler: Callable[[Any], Any]) -> Any:
    return {"wrapped": handler(value)}


class _Wrapped(BaseModel):
    """Its fields have serializers around those of their types, which declare less than their values have."""

    by_annotation: Annotated[_Animal, WrapSerializer(_wrap), BeforeValidator(_unwrapped)]
    by_method: list[_Animal] = []

    @field_serializer("by_method", mode="wrap")
    def _dump(self, value: Any, handler: Callable[[Any], Any], info: FieldSerializationInfo) -> Any:
        return {"wrapped": handler(value), "field": info.field_name}

    @field_validator("by_method", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return _unwrapped(value)


class _Price(BaseModel):
    amount: Decimal


class _Doubled(BaseModel):
    """Its serializer goes on with the Python values that the serializer of the type gives."""

    price: _Price

    @field_serializer("price", mode="wrap")
    def _dump(self, value: Any, handler: Callable[[Any], Any]) -> Any:
        return {"doubled": 2 * handler(value)["amount"]}

    @field_validator("price", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return {"amount": Decimal(value["doubled"]) / 2} if isinstance(value, dict) else value


_Hexadecimal = Annotated[
    int,
    PlainSerializer(lambda number: f"0x{number:x}"),
    BeforeValidator(lambda value: int(value, 16) if isinstance(value, str) else value),
]


class _Inside(BaseModel):
    """The serializers are inside of the types of its fields."""

    perhaps: _Hexadecimal | None = None
    many: dict[str, tuple[_Hexadecimal, ...]] = {}


class _Typed(TypedDict, total=False):
    data: Base64Bytes
    below: list[_Typed]


_Tree = TypeAliasType("_Tree", 'dict[str, "_Tree"] | list[_Tree] | Base64Bytes')


class _Base64(BaseModel):
    data: Base64Bytes
    text: Base64Str
    more: list[Base64Bytes] = []
    typed: _Typed = {}
    tree: _Tree = {}


@dataclasses.dataclass
class _Configured:
    """A dataclass of the standard library with a configuration of its own."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")

    data: bytes


class _Around(BaseModel):
    inside: _Configured


class _Kept(BaseModel):
    """What it excludes from dumps has its default, which a factory makes."""

    history: list[int] = Field(default_factory=list, exclude=True)
    number: Any = Field(default=1, exclude=True)


class _Unchecked(BaseModel):
    """What it excludes from dumps has its default, which pydantic does not make to be of the type of the field."""

    share: float = Field(default=0, exclude=True)


class _Spelled(BaseModel):
    model_config = ConfigDict(alias_generator=str.upper)

    of_python: int = 0

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def double(self) -> int:
        return 2 * self.of_python


class _NamedAsChoice(BaseModel):
    """A computed field has the name by which another field is read."""

    at: int = Field(default=0, validation_alias=AliasChoices(AliasPath("place", "at"), "at"))
    hidden: int = Field(default=0, alias="seen", exclude=True)

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def place(self) -> dict[str, int]:
        return {"at": 7}

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def seen(self) -> int:
        return 7


class _ReadOutOfAnother(BaseModel):
    many: list[int] = []
    first: int = Field(default=0, validation_alias=AliasChoices(AliasPath("many", 0), "first"))


class _Parent(BaseModel):
    number: int

    @model_serializer(mode="wrap")
    def _of_parent(self, handler: Callable[[Any], Any]) -> Any:
        return {**handler(self), "by": "parent"}


class _Child(_Parent):
    @model_serializer(mode="wrap", when_used="json")
    def _of_child(self, handler: Callable[[Any], Any]) -> Any:
        return {**handler(self), "by": "child"}


class _Hiding(BaseModel):
    password: SecretStr

    @model_serializer(mode="wrap", when_used="json")
    def _dump(self, handler: Callable[[Any], Any]) -> Any:
        return handler(self)


class _Hour(Secret[time]):
    """A secret that shows itself in a way of its own."""

    def _display(self) -> str:
        return "**:**"


class _HidingTime(BaseModel):
    at: _Hour

    @model_serializer(mode="wrap", when_used="json")
    def _dump(self, handler: Callable[[Any], Any]) -> Any:
        return handler(self)


class _Measured(BaseModel):
    """Its numbers have serializers, of which those for JSON alone go by pydantic's JSON, which has no infinity."""

    perhaps: Annotated[
        list[float] | None, WrapSerializer(lambda value, handler: handler(value), when_used="unless-none")
    ]
    in_json: Annotated[list[float], WrapSerializer(lambda value, handler: handler(value), when_used="json")] = []


class _Unmeasured(BaseModel):
    """It has null for infinity in JSON, and reads it back."""

    number: float = 1.0

    @field_serializer("number", when_used="json")
    def _dump(self, value: float) -> float | None:
        return None if value == float("inf") else value

    @field_validator("number", mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        return float("inf") if value is None else value


class _Strict(BaseModel):
    """It has null for infinity in JSON, in a field that takes no list in Python, and in one that nobody may set."""

    model_config = ConfigDict(strict=True)

    pair: tuple[time, Annotated[float, BeforeValidator(_or_infinity)]]
    number: Annotated[float, BeforeValidator(_or_infinity)] = Field(default=1.0, frozen=True)

    @field_serializer("pair", when_used="json")
    def _dump_pair(self, value: tuple[time, float]) -> Any:
        return [value[0].isoformat(), _or_null(value[1])]

    @field_serializer("number", when_used="json")
    def _dump(self, value: float) -> float | None:
        return _or_null(value)


class _StrictWhole(BaseModel):
    """It has null for infinity, and a serializer for all of it."""

    model_config = ConfigDict(strict=True)

    at: time
    number: Annotated[float, BeforeValidator(_or_infinity)]

    @model_serializer(mode="wrap", when_used="json")
    def _dump(self, handler: Callable[[Any], Any]) -> Any:
        return handler(self)


@pydantic_dataclasses.dataclass(slots=True)
class _Slots:
    number: int
    hidden: list[int] = Field(default_factory=list, exclude=True)


@dataclasses.dataclass(slots=True)
class _SecretSlot:
    password: SecretStr


class _HidingSlot(BaseModel):
    slot: _SecretSlot

    @model_serializer(mode="wrap", when_used="json")
    def _dump(self, handler: Callable[[Any], Any]) -> Any:
        return handler(self)


class _Members(BaseModel):
    """The members of its set are written as what no set can hold."""

    numbers: set[Annotated[int, PlainSerializer(lambda value: {"only": value}), BeforeValidator(_only)]]


class _Telling(BaseModel):
    password: SecretStr
    stars: str = "***"

    @field_serializer("password", when_used="json")
    def _dump(self, value: SecretStr) -> str:
        return value.get_secret_value()


class _Beside(BaseModel):
    many: list[Union[_Hexadecimal, SecretStr]]  # noqa: UP007  # Python 3.10 does not join an Annotated by |


MODEL_FORMS: Final[Mapping[str, tuple[Any, Any]]] = {
    "serializers around models of subclasses": (
        _Wrapped(by_annotation=_Cat(lives=1), by_method=[_Cat(lives=2)]),
        {
            "by_annotation": {"wrapped": {"legs": 4, "lives": 1}},
            "by_method": {"wrapped": [{"legs": 4, "lives": 2}], "field": "by_method"},
        },
    ),
    "serializers inside of types": (
        _Inside(perhaps=255, many={"a": (1, 2)}),
        {"perhaps": "0xff", "many": {"a": ["0x1", "0x2"]}},
    ),
    "computed field with a generated alias": (_Spelled.model_validate({"OF_PYTHON": 1}), {"OF_PYTHON": 1, "DOUBLE": 2}),
    "serializer of a subclass": (_Child(number=1), {"number": 1, "by": "child"}),
    "secret that its serializer tells, beside asterisks": (
        _Telling(password=SecretStr("pw")),
        {"password": "pw", "stars": "***"},
    ),
}
"""Models, and the JSON that they are stored as."""

MODEL_LOST: Final[Mapping[str, tuple[Any, str]]] = {
    "excluded list": (_Kept(history=[1]), ".history"),
    "excluded value that is only equal to the default": (_Kept(number=True), ".number"),
    "field that would be read out of another": (_ReadOutOfAnother(many=[5]).model_copy(update={"first": 1}), ".first"),
    "secret that its serializer hides": ({"a": _Hiding(password=SecretStr("pw"))}, '["a"]'),
    "secret with a display of its own, hidden": ({"a": _HidingTime(at=_Hour(time(18, 15)))}, '["a"]'),
    "secret in a slot that a serializer hides": ({"a": _HidingSlot(slot=_SecretSlot(SecretStr("pw")))}, '["a"]'),
    "infinity of which a serializer for JSON makes null": (_Measured(perhaps=[], in_json=[float("inf")]), ".in_json"),
    "key that a TypedDict with a serializer inside does not declare": (
        _Base64(data=b"aGk=", text="aGk=").model_copy(update={"typed": {"below": [{"data": b"hi", "other": 1}]}}),
        '.typed["below"][0]["other"]',
    ),
    "secret beside what a serializer writes": (_Beside(many=[1, SecretStr("pw")]), ".many[1]"),
}
"""Models of which JSON would lose something, and the path inside of each to what would be lost."""

MODEL_READ_BACK: Final[Mapping[str, tuple[Any, Any]]] = {
    "model with serializers around those of its types": (_Wrapped(by_annotation=_Animal()), _Wrapped),
    "model with serializers inside of its types": (_Inside(perhaps=255, many={"a": (1, 2)}), _Inside),
    "model with texts in base64": (_Base64(data=b"aGk=", text="aGk=", more=[b"aGk="]), _Base64),
    "model with an alias whose value is a text": (
        _Base64.model_validate({"data": b"aGk=", "text": "aGk=", "tree": {"a": [b"aGk=", {"b": b"aGk="}]}}),
        _Base64,
    ),
    "model with a TypedDict in base64": (
        _Base64.model_validate(
            {
                "data": b"aGk=",
                "text": "aGk=",
                "typed": {"data": b"aGk=", "below": [{"data": b"aGk="}]},
            }
        ),
        _Base64,
    ),
    "model whose serializer goes on with Python values": (
        _Doubled(price=_Price(amount=Decimal("1.5"))),
        _Doubled,
    ),
    "model with a serializer of all but null": (_Measured(perhaps=[float("inf")], in_json=[1.5]), _Measured),
    "model with null for infinity": (_Unmeasured(number=float("inf")), _Unmeasured),
    "strict model with null for infinity": (
        _Strict(pair=(time(18, 15), float("inf")), number=float("inf")),
        _Strict,
    ),
    "strict model with null for infinity, serialized by itself": (
        _StrictWhole(at=time(18, 15), number=float("inf")),
        _StrictWhole,
    ),
    "model with a set whose members are written as objects": (_Members(numbers={1, 2}), _Members),
    "dataclass with slots and an excluded list": (_Slots(1), _Slots),
    "model with an excluded number": (_Unchecked(share=0.0), _Unchecked),
    "model with a field that is the same in another": (_ReadOutOfAnother(many=[5]), _ReadOutOfAnother),
    "dataclass with a configuration": (_Configured(b"\xff"), _Configured),
    "dataclass with a configuration in a model": (_Around(inside=_Configured(b"ab")), _Around),
    "model with an excluded list": (_Kept(), _Kept),
    "model with a computed field named as a choice": (_NamedAsChoice(at=1), _NamedAsChoice),
}
"""Models, and the types to read them back as."""
