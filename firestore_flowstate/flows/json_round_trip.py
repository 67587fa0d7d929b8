"""Values on their way through JSON, so that they are the same on the first call as on every replay."""

from __future__ import annotations

import dataclasses
import inspect
import json
import marshal
import math
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import repeat
from typing import Any, Final

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import PydanticSerializationError, from_json, to_json
from typing_extensions import TypeAliasType

from firestore_flowstate import FlowStateEncodeError
from firestore_flowstate._limits import is_utf8
from firestore_flowstate.errors import shown

from .annotations import own_class, plain_function, return_type
from .losses import NOTHING, Inside, Losses, LossesOfModels, check_shown, is_plain, losses_of, stored_form
from .schemas import json_schema

_SCALARS: Final = (str, int, float, bool, type(None))
_PLAIN_ONLY: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
_REPLACED: Final = "\ufffd".encode()
_BYTES: Final = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
ANYTHING: Final = (Any, inspect.Parameter.empty, object)


class Values:
    """Turns values into their JSON form, and reads that as annotated types; keeps pydantic's adapters of the types."""

    def __init__(self) -> None:
        self._adapters: dict[Any, TypeAdapter[Any]] = {}  # by what `_in_order` returns
        self._last: dict[Any, tuple[Any, TypeAdapter[Any]]] = {}  # by type: that object which was asked for last
        self._losses: weakref.WeakKeyDictionary[TypeAdapter[Any], Losses] = weakref.WeakKeyDictionary()
        self._models = LossesOfModels()
        self._returns: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def dump(self, value: Any, kind: Any, what: str) -> Any:
        """Return the JSON form of the value as its type writes it, by alias, in containers of its own.

        Args:
            value: The value.
            kind: The type that it is annotated as; one of `ANYTHING`: it has no annotation.
            what: Whose value it is, for the error, such as ``the result of the step 'draft'``.

        Raises:
            FlowStateEncodeError: The value has no JSON form, or one that hides or leaves out what is inside of it.
        """
        if type(value) in _SCALARS and kind in ANYTHING:
            return value
        try:
            return self._copied(value, what) if kind in ANYTHING else self._typed(value, kind, what)
        except FlowStateEncodeError:
            raise
        except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
            raise FlowStateEncodeError(
                f"Cannot store {what}: {error}. Give what has a JSON form, such as a pydantic model, a dataclass or "
                "plain containers.",
                path=what,
            ) from error

    def read(self, form: Any, kind: Any) -> Any:
        """Return the value of a JSON form, validated as the type, in containers of its own.

        Raises:
            ValidationError: The form does not fit the type.
        """
        if kind in ANYTHING:
            return form if type(form) in _SCALARS else parsed_json(plain_json(form) or exact_json(form))
        adapter = self.adapter(kind)
        try:
            return adapter.validate_json(plain_json(form) or exact_json(form))
        except ValidationError as error:
            if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] != "json_invalid":
                raise
            return self._read_as_python(form, kind, error)

    def adapter(self, kind: Any) -> TypeAdapter[Any]:
        """Return pydantic's adapter of the type.

        Raises:
            TypeError: Pydantic can make no values of the type.
        """
        try:
            last = self._last.get(kind)
        except TypeError:  # not hashable, such as an Annotated with a list
            return _adapter(kind)
        if last is not None and last[0] is kind:  # as nearly always; a union equals that of another order too
            return last[1]
        key = _in_order(kind)
        known = self._adapters.get(key)
        if known is None:
            known = self._adapters[key] = _adapter(kind)
        self._last[kind] = kind, known
        return known

    def check_type(self, kind: Any, what: str) -> None:
        """Refuse what pydantic can make no values of.

        Args:
            kind: What should be a type.
            what: The name of the argument that was given it, for the error.

        Raises:
            TypeError: What is given is not a type, or not one that pydantic can read.
        """
        if kind in ANYTHING:
            return
        try:
            self.adapter(kind)
        except TypeError as error:
            raise TypeError(f"{what}: {error}") from error.__cause__

    def schema(self, kind: Any) -> str:
        """Return the JSON Schema of the type, as text.

        Raises:
            TypeError: The type has no JSON Schema.
        """
        try:
            return json.dumps(json_schema(self.adapter(kind)))
        except PydanticUserError as error:
            raise TypeError(f"{shown(kind)} has no JSON Schema, which says what an answer may be") from error

    def returned_by(self, function: Callable[..., Any]) -> Any:
        """Return the type that the function, or what is awaited of it, is annotated to return.

        `Any`: there is no annotation.

        Raises:
            TypeError: The annotation names what cannot be found when the function runs.
        """
        plain = plain_function(function)
        if isinstance(plain, type):
            return plain
        try:
            known = self._returns.get(plain, ANYTHING)
        except TypeError:  # cannot be referenced weakly
            return own_class(return_type(function), function)
        if known is not ANYTHING:
            return known
        found = return_type(function)
        known = own_class(found, function)
        if known is found:  # otherwise it is that of this object, or of its class
            with suppress(TypeError):
                self._returns[plain] = known
        return known

    def _copied(self, value: Any, what: str) -> Any:
        """Return the JSON form of the value, in containers of its own."""
        text = plain_json(value)
        if text is not None:
            return orjson.loads(text)
        found = NOTHING if is_plain(value) else self._look(value, what)
        if found.losses.is_renamed:
            with suppress(FlowStateEncodeError):  # such as a set: without a type to read it, pydantic's form will do
                return stored_form(value, what)
        is_one_way = found.losses.is_one_way
        form = self._exact(exact_json(value, round_trip=is_one_way), value, Any, round_trip=is_one_way)
        check_shown(form, found.secrets)
        return form

    def _typed(self, value: Any, kind: Any, what: str) -> Any:
        """Return the JSON form of the value as its type writes it."""
        adapter = self.adapter(kind)
        losses, secrets = self._losses_of(adapter), NOTHING.secrets
        if losses.hides and not is_plain(value):
            found = self._look(value, what)
            losses, secrets = losses | found.losses, found.secrets
        if losses.is_renamed:
            return stored_form(value, what)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a value of another type than the annotated one: to read it is an error
            text = _typed_json(adapter, value, round_trip=losses.is_one_way)
            form = self._exact(text, value, kind, round_trip=losses.is_one_way)
        check_shown(form, secrets)
        return form

    def _look(self, value: Any, what: str) -> Inside:
        """Look through the value.

        Raises:
            FlowStateEncodeError: It has something inside that would be lost.
            ValueError: A method of what is inside fails.
        """
        try:
            return self._models.look(value, what)
        except FlowStateEncodeError:
            raise
        except Exception as error:  # whatever a mapping or a default of the application raises
            raise ValueError(f"a method of what is inside fails by {type(error).__name__}") from error

    def _read_as_python(self, form: Any, kind: Any, error: ValidationError) -> Any:
        """Return the value of a JSON form that has lone surrogates, which pydantic reads in values of Python alone.

        Raises:
            ValidationError: The form does not fit the type, or is one of JSON alone, as that of bytes.
        """
        value = self.adapter(kind).validate_python(form)
        try:
            is_whole = is_same(form, self._typed(value, kind, "it"))
        except (FlowStateEncodeError, PydanticSerializationError, ValueError, TypeError):
            is_whole = False
        if not is_whole:
            raise error
        return value

    def _losses_of(self, adapter: TypeAdapter[Any]) -> Losses:
        known = self._losses.get(adapter)
        if known is None:
            known = self._losses[adapter] = losses_of(adapter.core_schema)
        return known

    def _exact(self, text: bytes, value: Any, kind: Any, *, round_trip: bool = False) -> Any:
        """Return the value of the text, with NaN and infinities in the places in which pydantic wrote null for them."""
        form = parsed_json(text)
        if text.rfind(b"null") < 0:
            return form
        adapter = self.adapter(kind)
        in_json = adapter.dump_python(value, by_alias=True, mode="json", round_trip=round_trip)
        try:
            dumped = adapter.dump_python(value, by_alias=True, round_trip=round_trip)
        except TypeError:  # a set of models, since the dicts that it would hold cannot be hashed
            return _checked(_with_non_finite(form, in_json, in_json), value)
        return _with_non_finite(form, dumped, in_json)


def _typed_json(adapter: TypeAdapter[Any], value: Any, *, round_trip: bool) -> bytes:
    """Return the JSON text of the value as its type writes it, with lone surrogates if it is of plain values.

    Pydantic refuses them in values, and has U+FFFD for them in keys.
    """
    try:
        text = adapter.dump_json(value, by_alias=True, round_trip=round_trip)
        if text.find(_REPLACED) < 0:
            return text
    except PydanticSerializationError as error:
        if "UnicodeEncodeError" not in str(error):
            raise
        text = b""
    dumped = adapter.dump_python(value, by_alias=True, round_trip=round_trip)
    return exact_json(dumped) if not text or _has_surrogates(dumped) else text


def _has_surrogates(value: Any) -> bool:
    if isinstance(value, str):
        return not is_utf8(value)
    if isinstance(value, Mapping):
        return any(map(_has_surrogates, (*value, *value.values())))
    return isinstance(value, Collection) and not isinstance(value, bytes) and any(map(_has_surrogates, value))


def _in_order(kind: Any) -> Any:
    """Return what is equal for equal types whose unions have the same order.

    ``A | B`` equals ``B | A``, and reads a value that fits both as another type.
    """
    inside = getattr(kind, "__args__", ())
    return (kind, *map(_in_order, inside)) if isinstance(inside, tuple) and inside else kind


def _made_adapter(kind: Any) -> TypeAdapter[Any]:
    """Return pydantic's adapter, which has bytes as base64, as the store does, but for a model's own."""
    if getattr(kind, "__module__", None) == "freezegun.api":
        # A test has frozen the clock, and the annotation names what stands for `datetime` or `date` meanwhile.
        with suppress(PydanticSchemaGenerationError):
            return TypeAdapter(kind, config=_BYTES)
        kind = kind.__mro__[1]  # pydantic from 2.14 on knows the real class alone
    try:
        return TypeAdapter(kind, config=_BYTES)
    except PydanticUserError as error:
        if error.code != "type-adapter-config-unused":
            raise
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_pydantic_dataclass(kind)):
        return TypeAdapter(kind)  # it has a configuration of its own
    plain: Any = TypeAliasType("Value", kind)  # a plain dataclass, for which pydantic takes no configuration
    return TypeAdapter(plain, config=_BYTES)


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        adapter = _made_adapter(kind)
        is_complete = adapter.pydantic_complete or adapter.rebuild(raise_errors=False)  # later if its model defers that
        if not isinstance(kind, str) and is_complete:
            return adapter
        reason = None  # a text, or a type that names one which is not defined
    except Exception as error:  # noqa: BLE001  # whatever a class of the application raises that says how it is read
        reason = error
    raise TypeError(
        f"{shown(kind)} is not a type that a value can be read as: give a model, a dataclass, or such as list[str]"
    ) from reason


def _with_non_finite(form: Any, dumped: Any, in_json: Any) -> Any:
    """Return a JSON form with the non-finite numbers of the Python dump of the same value, whose order it has.

    Args:
        form: The JSON form, which has null for such a number.
        dumped: The Python dump.
        in_json: The Python dump of the JSON form, which alone has the members of sets in the order of that. It has None
            for such numbers whose type pydantic does not know from the annotation.

    Raises:
        ValueError: A set has such a number.
    """
    if form is None:
        return dumped if isinstance(dumped, float) and not math.isfinite(dumped) else None
    if isinstance(dumped, AbstractSet):
        return _checked(_with_non_finite(form, in_json, in_json), dumped)
    if isinstance(form, dict) and isinstance(dumped, Mapping) and len(form) == len(dumped):
        inside_json = in_json.values() if isinstance(in_json, Mapping) else ()
        for (key, inside), one, other in zip(form.items(), dumped.values(), _all(inside_json, form), strict=True):
            form[key] = _with_non_finite(inside, one, other)
    elif isinstance(form, list) and isinstance(dumped, Collection) and len(form) == len(dumped):
        form[:] = map(_with_non_finite, form, dumped, _all(in_json if isinstance(in_json, list) else (), form))
    return form


def _checked(form: Any, value: Any) -> Any:
    """Return the JSON form if it has as many non-finite numbers as the value, or a dump of it in any order.

    Raises:
        ValueError: It has not.
    """
    if _count_non_finite(form) != _count_non_finite(value):
        raise ValueError("a set has NaN or an infinity in a place that is not annotated as a float: use a list")
    return form


def _count_non_finite(value: Any) -> int:
    if isinstance(value, BaseModel):
        value = [*vars(value).values(), *(value.model_extra or {}).values()]
    elif dataclasses.is_dataclass(value):
        value = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        value = value.values()
    elif isinstance(value, str | bytes) or not isinstance(value, Collection):
        return isinstance(value, float) and not math.isfinite(value)
    return sum(map(_count_non_finite, value))


def _all(values: Collection[Any], form: Collection[Any]) -> Iterable[Any]:
    """Return a value for each member of the form: those that are given, if they are as many, else None."""
    return values if len(values) == len(form) else repeat(None, len(form))


def plain_json(value: Any) -> bytes | None:
    """Return the JSON text of a plain value, by orjson, in a third of the time that pydantic takes.

    None: the value has other types than plain ones, or there is a null in the text, which may have been NaN or an
    infinity. orjson reads such a text back exactly, since it refuses integers of more than 64 bits. It would copy the
    text of an ``orjson.Fragment``, be it JSON or not, so marshal, which knows plain types alone, has to take the value.
    """
    try:
        marshal.dumps(value, 4)  # thrown away, and never loaded; from version 3 on a cycle ends
        text = orjson.dumps(value, option=_PLAIN_ONLY)
    except (ValueError, TypeError):  # marshal's and orjson's
        return None
    return text if text.rfind(b"null") < 0 else None


def exact_json(value: Any, *, round_trip: bool = False) -> bytes:
    """Return the JSON text of any value that has a JSON form. The text of JSON values is exact, NaN and all.

    Args:
        value: The value.
        round_trip: Whether its models write what they read alone, in pydantic's words a round trip.
    """
    try:
        return to_json(value, by_alias=True, bytes_mode="base64", inf_nan_mode="constants", round_trip=round_trip)
    except PydanticSerializationError:
        try:  # texts with lone surrogates, which the store holds and pydantic refuses
            return json.dumps(value, separators=(",", ":")).encode()
        except (TypeError, ValueError):
            pass
        raise


def parsed_json(text: bytes) -> Any:
    """Return the value of a text that `plain_json` or `exact_json` wrote."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values are the same, one of which may have been read from a store.

    Native maps have no order, and NaN is the same as NaN, though they are not equal.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == other) or (one != one and other != other)  # so NaN is known


def fit_error(error: ValidationError) -> str:
    """Return in one line why a value does not fit its type; the value itself is not in it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
