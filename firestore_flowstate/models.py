"""The state of a flow, as Genkit's schema has it: snake_case here, camelCase on the wire.

One law holds for all models here: ``model_validate(x).model_dump(by_alias=True)`` gives back x. What is absent stays
absent, null stays null, unknown keys are kept, and falsy values stay what they are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, overload

from pydantic import (
    AliasChoices,
    AliasGenerator,
    AliasPath,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    Strict,
    model_serializer,
)
from pydantic.alias_generators import to_camel

from .unset import UNSET, Unset

T = TypeVar("T")

FlowStatus: TypeAlias = Literal["scheduled", "running", "blocked", "done", "failed"]
Milliseconds: TypeAlias = Annotated[int, Strict()] | Annotated[float, Strict()]
FiniteMilliseconds: TypeAlias = Annotated[int, Strict()] | Annotated[float, Strict(), AllowInfNan(False)]


def _is_true(value: object) -> object:
    if value is not True and value is not None:  # Literal[True] alone takes 1 and 1.0 too, which equal True
        raise ValueError("must be true if it is present")
    return value


class WireModel(BaseModel):
    """A model that tells absent from null, keeps unknown keys, and compares by both.

    Two models are equal if their types, values and unknown keys are, and if the same fields are present:
    ``CacheEntry() != CacheEntry(value=None)``.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="allow",
        validate_assignment=True,
        ser_json_inf_nan="constants",
        ser_json_bytes="base64",
        protected_namespaces=(),
    )

    wire_names: ClassVar[Mapping[str, str]] = {}
    """The wire name of each field by its Python name."""
    wire_fields: ClassVar[Sequence[tuple[str, str, Any]]] = ()
    """The Python name of each field, its wire name, and what the field holds if it is absent; UNSET if it never is."""
    _field_of_wire_name: ClassVar[Mapping[str, str]] = {}
    is_subclass: ClassVar[bool] = False
    """Whether it is an application's own class, which may declare more fields than Genkit's schema has."""
    _defaults_of_genkit: ClassVar[Mapping[str, Any]] = {}
    """The value that an absent field of Genkit's schema has, by its Python name. It has neither required fields nor
    those that an application declares in a subclass."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        aliases = {name: _aliases(cls, name) for name in cls.model_fields}
        cls.wire_names = {name: alias for name, (alias, _, _) in aliases.items()}
        cls._field_of_wire_name = {alias: name for name, alias in cls.wire_names.items() if alias != name}
        genkit: type[BaseModel] = next(base for base in reversed(cls.__mro__) if WireModel in base.__bases__)
        cls.is_subclass = cls is not genkit
        cls._defaults_of_genkit = {
            name: field.default for name, field in genkit.model_fields.items() if not field.is_required()
        }
        absent = cls._defaults_of_genkit
        cls.wire_fields = tuple((name, alias, absent.get(name, UNSET)) for name, alias in cls.wire_names.items())
        _check_aliases(cls, aliases)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._field_of_wire_name:
            # Unknown keys are allowed, so pydantic would keep it as a second field beside the real one.
            raise AttributeError(f"{name} is the wire name: set {type(self).__name__}.{self._field_of_wire_name[name]}")
        unknown = self.__pydantic_extra__
        if not unknown or unknown.keys().isdisjoint(self.wire_names):
            super().__setattr__(name, value)
            return
        # pydantic validates an assignment together with the unknown keys. One that is named as a field is in Python
        # would replace the value of that field.
        called_as_fields = {key: unknown.pop(key) for key in unknown.keys() & self.wire_names.keys()}
        try:
            super().__setattr__(name, value)
        finally:
            self.__pydantic_extra__ = {**(self.__pydantic_extra__ or {}), **called_as_fields}

    def __delattr__(self, name: str) -> None:
        if name in type(self).model_fields:
            if name not in self._defaults_of_genkit:
                raise AttributeError(f"{type(self).__name__}.{name} is required and cannot be deleted")
            self.__dict__[name] = self._defaults_of_genkit[name]
            self.__pydantic_fields_set__.discard(name)
        else:
            super().__delattr__(name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WireModel) or type(self) is not type(other):
            return NotImplemented
        return (
            self.__dict__ == other.__dict__
            and self.model_fields_set == other.model_fields_set
            and (self.model_extra or {}) == (other.model_extra or {})
        )

    __hash__ = None  # type: ignore[assignment]  # mutable, as every pydantic model with __eq__

    @model_serializer(mode="wrap")
    def _dump_what_is_present(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        dumped: dict[str, Any] = dump(self)
        unknown = self.model_extra or {}
        for name, wire_name in self.wire_names.items():
            if not self.has(name):
                for key in (name, wire_name):
                    if key not in unknown:
                        dumped.pop(key, None)
        return dumped

    def has(self, name: str) -> bool:
        """Return whether the field of this Python name is present, be it null.

        A field that an application declares in a subclass is always present, so that its value is stored: the next
        release of the application may have another default.
        """
        if name not in self.__dict__:
            return False
        # In model_fields_set an unknown key counts as the field of that name.
        if name in self.model_fields_set and name not in (self.model_extra or ()):
            return True
        value, absent = self.__dict__[name], self._defaults_of_genkit.get(name, UNSET)
        # Only what is of the default's type is compared: the `==` of others, such as arrays, may fail.
        return value is not absent and (type(value) is not type(absent) or bool(value != absent))


def _aliases(model: type[BaseModel], name: str) -> tuple[str, Any, str]:
    """Return the wire name of a field, what validation reads it by besides its name, and what a dump writes it under.

    Pydantic asks the generator no earlier than it knows the types of all fields, which may be defined later.
    """
    field, generator = model.model_fields[name], model.model_config.get("alias_generator")
    generated: tuple[Any, Any, Any]
    if isinstance(generator, AliasGenerator):
        generated = generator.generate_aliases(name)
    else:
        generated = (name if generator is None else generator(name),) * 3
    alias, read_by, written = generated
    return (
        field.alias or alias or name,
        read_by if field.validation_alias is None else field.validation_alias,
        field.serialization_alias or written or name,
    )


def _check_aliases(model: type[BaseModel], aliases: Mapping[str, tuple[str, Any, str]]) -> None:
    """Raise TypeError if the value of a field would be lost, since it is not read by its wire name, or another is.

    Args:
        model: The class, whose fields may be those of Genkit's schema and an application's own.
        aliases: What `_aliases` returns for each field.
    """
    by_name = model.model_config.get("validate_by_name") or model.model_config.get("populate_by_name")
    keys: dict[str, set[str]] = {}
    for name, (alias, read_by, written) in aliases.items():
        choices = read_by.choices if isinstance(read_by, AliasChoices) else [read_by] if read_by is not None else []
        keys[name] = {choice for choice in choices if isinstance(choice, str)} | ({name} if by_name else set())
        paths = {str(choice.path[0]) for choice in choices if isinstance(choice, AliasPath)}
        if not {alias, written} <= keys[name] or alias in paths:
            raise TypeError(
                f"{model.__name__}.{name} is stored as {alias!r} and dumped as {written!r}, and not read by both, so "
                "that its value would be lost: name it by alias=, without a validation_alias or serialization_alias"
            )
        keys[name] |= paths
    for name, (alias, _, written) in aliases.items():
        for other in aliases.keys() - {name}:
            if clash := {alias, written} & keys[other]:
                raise TypeError(
                    f"{model.__name__}.{name} and {model.__name__}.{other} have one name, {min(clash)!r}, in what is "
                    "stored, so that the value of one would be lost: give one of them another alias, or another name"
                )


class CacheEntry(WireModel):
    """The cached result of a step.

    Attributes:
        value: The result, any JSON value. Absent if the step returned nothing.
        empty: True if Genkit noted that there is no value; Genkit JS does so for falsy results too.
    """

    value: Any = None
    empty: Annotated[Literal[True] | None, BeforeValidator(_is_true)] = None


class BlockedOnStep(WireModel):
    """The step that a flow waits for.

    Attributes:
        name: The name of the step.
        schema_: The JSON Schema of the event that resumes it, as a JSON string. On the wire: ``schema``.
    """

    name: str
    schema_: str | None = Field(default=None, alias="schema")


class FlowResult(WireModel):
    """How an operation ended.

    Attributes:
        response: What the flow returned, any JSON value.
        error: The message of the error that ended the flow.
        stacktrace: The stack trace of that error, as text.
    """

    response: Any = None
    error: str | None = None
    stacktrace: str | None = None


class Operation(WireModel):
    """The long-running operation that a flow's caller holds.

    Attributes:
        name: The name of the operation; Genkit uses the flow's id.
        metadata: Any JSON value of the service.
        done: Whether the flow has ended; absent counts as False.
        result: How it ended, once done. Absent if the flow returned nothing.
        blocked_on_step: The step that the flow waits for.
    """

    name: str
    metadata: Any = None
    done: Annotated[bool, Strict()] = False
    result: SerializeAsAny[FlowResult] | None = None
    blocked_on_step: SerializeAsAny[BlockedOnStep] | None = None


class FlowStateExecution(WireModel):
    """One stretch of running, from a start or resumption to the next block or end.

    Attributes:
        start_time: Milliseconds since the epoch.
        end_time: Milliseconds since the epoch.
        trace_ids: The ids of its traces.
    """

    start_time: Milliseconds | None = None
    end_time: Milliseconds | None = None
    trace_ids: Sequence[str]


class StoredAs(Protocol):
    """What a store knows of the document that a state was read from or written to.

    Attributes:
        version: The version, as text.
        updated_at: When it was written, in UTC.
        expire_at: When it expires, in UTC; None if it does not.
        sorts_keys: Whether maps come back from there with sorted keys, whatever order they had.
    """

    @property
    def version(self) -> str: ...  # noqa: D102  # as above
    @property
    def updated_at(self) -> datetime: ...  # noqa: D102  # as above
    @property
    def expire_at(self) -> datetime | None: ...  # noqa: D102  # as above
    @property
    def sorts_keys(self) -> bool: ...  # noqa: D102  # as above


class FlowState(WireModel):
    """The state of a flow: all that is needed to resume it.

    ::

        state = FlowState.start(name="publish", input={"topic": "rivers"})
        state.cache["outline"] = CacheEntry(value=["source", "mouth"])
        assert state.status == "scheduled"

    Attributes:
        flow_id: The flow's id. Data: the key it is stored under is the id given to the store.
        name: The name of the flow.
        input: What the flow was started with, any JSON value.
        start_time: Milliseconds since the epoch; a whole number if it is one. Lists are ordered by it.
        cache: The result of each step that has run, by the step's name, in the order they were cached.
        events_triggered: The payload of each event that resumed the flow, by the step's name.
        blocked_on_step: The step that the flow waits for, or None.
        operation: The operation that the flow's caller holds.
        trace_context: The trace to go on with. Genkit JS keeps a JSON string here, and fails if it is other text.
        executions: The stretches of running, oldest first.
    """

    flow_id: str
    name: str | None = None
    input: Any = None
    start_time: FiniteMilliseconds
    cache: MutableMapping[str, SerializeAsAny[CacheEntry]]
    events_triggered: MutableMapping[str, Any]
    blocked_on_step: SerializeAsAny[BlockedOnStep] | None
    operation: SerializeAsAny[Operation]
    trace_context: str | None = None
    executions: list[SerializeAsAny[FlowStateExecution]]

    # One attribute for version and times: pydantic makes six calls for each, for every state that is validated.
    _stored_as: StoredAs | None = PrivateAttr(default=None)

    @classmethod
    def start(cls, *, name: str | None = None, input: Any | Unset = UNSET, flow_id: str | None = None) -> FlowState:
        """Return the state of a flow that starts now: nothing cached, not blocked, not done.

        ::

            state = FlowState.start(name="publish", input="rivers")

        Args:
            name: The name of the flow; left out if None.
            input: What the flow starts with; left out if it is not given, and null if it is None.
            flow_id: The id; a random UUID if None.
        """
        id = str(uuid.uuid4()) if flow_id is None else flow_id
        state = cls(
            flow_id=id,
            start_time=time.time_ns() // 1_000_000,
            cache={},
            events_triggered={},
            blocked_on_step=None,
            operation=Operation(name=id, done=False),
            executions=[],
        )
        if name is not None:
            state.name = name
        if not isinstance(input, Unset):
            state.input = input
        return state

    @property
    def status(self) -> FlowStatus:
        """What the flow does now: failed or done once it has ended, else blocked, scheduled or running."""
        result = self.operation.result
        if result is not None and result.error is not None:
            return "failed"
        if self.operation.done:
            return "done"
        if self.blocked_on_step is not None:
            return "blocked"
        return "running" if self.executions else "scheduled"

    @overload
    def cache_value(self, step: str, *, as_: type[T]) -> T: ...
    @overload
    def cache_value(self, step: str, *, as_: Any) -> Any: ...
    def cache_value(self, step: str, *, as_: Any) -> Any:
        """Return the cached result of a step as a type, the same in the run that cached it and after a load.

        But a ``datetime`` without a time zone is in UTC after a load from the native layout, and naive before.

        ::

            plan = state.cache_value("plan", as_=Plan)
            days = state.cache_value("days", as_=list[date])

        Args:
            step: The name of the step.
            as_: A type that pydantic knows: a model, a dataclass, ``datetime``, ``tuple[int, str]``, ``T | None``.

        Raises:
            KeyError: The step is not cached.
            FlowStateDecodeError: The result is not of the type. An empty result is read as None.
        """
        return self._value_as(self.cache[step].value, as_, field="cache", step=step)

    @overload
    def event_value(self, step: str, *, as_: type[T]) -> T: ...
    @overload
    def event_value(self, step: str, *, as_: Any) -> Any: ...
    def event_value(self, step: str, *, as_: Any) -> Any:
        """Return the payload of the event that resumed the flow at a step, as a type.

        ::

            is_approved = state.event_value("approve", as_=bool)

        Args:
            step: The name of the step.
            as_: A type, as for `cache_value`.

        Raises:
            KeyError: No event has resumed the flow at the step.
            FlowStateDecodeError: The payload is not of the type.
        """
        return self._value_as(self.events_triggered[step], as_, field="events_triggered", step=step)

    @overload
    def input_value(self, *, as_: type[T]) -> T: ...
    @overload
    def input_value(self, *, as_: Any) -> Any: ...
    def input_value(self, *, as_: Any) -> Any:
        """Return the input as a type. An absent input is read as None.

        ::

            topic = state.input_value(as_=str)

        Args:
            as_: A type, as for `cache_value`.

        Raises:
            FlowStateDecodeError: The input is not of the type.
        """
        return self._value_as(self.input, as_, field="input")

    def _value_as(self, value: Any, as_: Any, *, field: str, step: str | None = None) -> Any:
        from ._document.json_text import value_as

        return value_as(value, as_, field=field, step=step, flow_id=self.flow_id)

    def _note_stored(self, stored_as: StoredAs) -> None:
        private = self.__pydantic_private__  # set directly, since pydantic makes four calls to set an attribute
        assert private is not None  # noqa: S101  # every model with private attributes has it
        private["_stored_as"] = stored_as

    def _noted(self) -> StoredAs | None:
        return (self.__pydantic_private__ or {}).get("_stored_as")

    def _noted_of(self, document: str) -> StoredAs | None:
        """Return what is noted of a document: the last that the state was stored as, or its origin."""
        noted: StoredAs | None = (self.__pydantic_private__ or {}).get("_stored_as")
        if getattr(noted, "document", None) == document:
            return noted
        origin: StoredAs | None = getattr(noted, "origin", None)
        return origin if getattr(origin, "document", None) == document else None

    def _origin_beside(self, document: str) -> StoredAs | None:
        """Return what is noted of the document that the state was first read from or written to.

        None if it is this one. A note of another document keeps it, so that a state that is stored elsewhere too, such
        as in an archive, can still be written on top of the version that it was loaded as.
        """
        noted = self._noted()
        origin: StoredAs | None = getattr(noted, "origin", None) or noted
        return None if getattr(origin, "document", None) == document else origin

    @property
    def version(self) -> str | None:
        """The stored version that this state was read from or written as, an opaque text; None until it is stored."""
        noted = self._noted()
        return None if noted is None else noted.version

    @property
    def updated_at(self) -> datetime | None:
        """When the state was last written, in UTC; None until it is stored."""
        noted = self._noted()
        return None if noted is None else noted.updated_at

    @property
    def expire_at(self) -> datetime | None:
        """When the state expires, in UTC; None if it does not."""
        noted = self._noted()
        return None if noted is None else noted.expire_at

    @property
    def sorts_keys(self) -> bool:
        """Whether maps come back from the store with sorted keys; False until the state is stored.

        So it is in the native layout, since Firestore's maps have no order. Elsewhere the order is kept.
        """
        noted = self._noted()
        return noted is not None and noted.sorts_keys
