"""The wire form of models: dicts with camelCase keys, as Genkit has them, and typed fields that hold their types.

What could not be loaded is refused before it is stored, so fields are checked again here. Pydantic checks a field when
it is assigned, and neither what is put into a container later nor what `model_copy(update=...)` and `model_construct`
set.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from .._error_texts import NOT_UTF8, in_cache, in_events, in_model, method_fails, with_flow_id
from .._limits import exact, is_utf8
from ..errors import FlowStateEncodeError, shown
from ..models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation, WireModel
from ..unset import Unset

_Model = TypeVar("_Model", bound=WireModel)
_MODELS: Final = (FlowState, CacheEntry, BlockedOnStep, FlowResult, Operation, FlowStateExecution)
_NAME_OF: Final = {alias: name for model in _MODELS for name, alias in model.wire_names.items()}
_INSIDE: Final[Mapping[tuple[type[WireModel], str], type[WireModel]]] = {
    (FlowState, "blockedOnStep"): BlockedOnStep,
    (FlowState, "operation"): Operation,
    (Operation, "result"): FlowResult,
    (Operation, "blockedOnStep"): BlockedOnStep,
}
_TEXT: Final = frozenset({str})
_ALIASES: Final[Mapping[type[WireModel], frozenset[str]]] = {
    model: frozenset(model.wire_names.values()) for model in _MODELS
}


def to_wire(model: WireModel, *, deep: bool = True) -> dict[str, Any]:
    """Return the present fields of a model by their wire names, and its unknown keys.

    Fields that may hold any JSON value have it as it is.

    Args:
        model: The model.
        deep: Whether models in its fields are dicts too; otherwise they are as they are.

    Raises:
        FlowStateEncodeError: An unknown key could not be read back.
    """
    # Read directly for speed: model_extra, model_fields_set and `has` return the same, by a call for each field.
    fields, given = model.__dict__, model.__pydantic_fields_set__
    if model.__pydantic_extra__ or model.is_subclass or len(fields) < len(model.wire_fields):
        present = {alias: fields[name] for name, alias in model.wire_names.items() if model.has(name)}
        present.update(unknown_of(model))
    else:
        present = {}
        for name, alias, absent in model.wire_fields:
            if name in given or (fields[name] is not absent and model.has(name)):
                present[alias] = fields[name]
    if deep:
        for key, value in present.items():
            if isinstance(value, WireModel):
                present[key] = to_wire(value)
    return present


def unknown_of(model: WireModel) -> Mapping[str, Any]:
    """Return the unknown keys with their values.

    Raises:
        FlowStateEncodeError: A key could not be read back, or would be read as a field: it is not a string, has a lone
            surrogate, or is the wire name of a field. `model_copy` can set such keys.
    """
    unknown = model.model_extra or {}
    for key in unknown:
        if type(key) is not str:
            raise not_a("a string", f"unknown key {shown(key)}", key)
        if key in model.wire_names.values():
            name = next(name for name, alias in model.wire_names.items() if alias == key)
            raise FlowStateEncodeError(
                f"Cannot store {key}: it is the wire name of {type(model).__name__}.{name}, set that.", path=name
            )
        if not is_utf8(key):
            raise FlowStateEncodeError(f"Cannot store the unknown key {key!r:.100}: it {NOT_UTF8}.", path=key)
    return unknown


def cache_to_wire(cache: Mapping[str, CacheEntry]) -> dict[str, Any]:
    """Return the entries of a cache by step in wire form."""
    return {step: to_wire(entry) for step, entry in cache.items()}


def executions_to_wire(executions: Iterable[FlowStateExecution]) -> list[dict[str, Any]]:
    """Return the executions in wire form."""
    return list(map(to_wire, executions))


def values_by_path(model: WireModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what a model holds in each field and unknown key, with its path as an application would write it."""
    for name in model.wire_names:
        if model.has(name):
            yield from field_values_by_path(model.__dict__[name], name, f"{path}.{name}".removeprefix("."))
    for key, value in (model.model_extra or {}).items():
        yield in_model(path, key) if path else key, value


def field_values_by_path(value: Any, name: str, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the values in a field of that name, as `values_by_path` does; nothing if it is UNSET."""
    if isinstance(value, Unset):
        return
    if isinstance(value, WireModel):
        yield from values_by_path(value, path)
    elif name == "executions":
        for index, execution in enumerate(value):
            yield from values_by_path(execution, f"executions[{index}]")
    elif name == "cache":
        for step, entry in value.items():
            yield from values_by_path(entry, in_cache(step))
    elif name == "events_triggered":
        for step, payload in value.items():
            yield in_events(step), payload
    else:
        yield path, value


def not_a(what: str, path: str, value: object) -> FlowStateEncodeError:
    """Return the error of a value of a wrong type; `what` is what the place takes, such as "a list of strings"."""
    return FlowStateEncodeError(f"Cannot store {path}: {shown(value)} is not {what}.", path=path)


def check_state(id: str, state: object) -> FlowState:
    """Return the state, as a FlowState whose typed fields hold their types, else raise FlowStateEncodeError."""
    if not isinstance(state, FlowState):
        raise FlowStateEncodeError(
            f"Cannot store the flow state {id!r}: it is of type {type(state).__qualname__}. "
            "FlowState.model_validate() makes a FlowState of a dict in Genkit's form.",
            flow_id=id,
        )
    try:
        return sound_state(state)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__


def sound_state(state: FlowState) -> FlowState:
    """Return the state if it is exactly a FlowState and each typed field holds exactly its type, else one made so.

    Declared fields of subclasses become unknown keys. Enumerations and other subclasses of scalars become what they
    are equal to, and dicts become the models that they describe.

    Raises:
        FlowStateEncodeError: The value of a field cannot be made so; `path` names the field.
    """
    if _is_sound_state(state):
        return state
    wire = _wire_of(state, FlowState, "")
    wire["cache"] = {
        step: _wire_of(entry, CacheEntry, in_cache(step)) for step, entry in by_step(wire.get("cache"), "cache").items()
    }
    wire["eventsTriggered"] = by_step(wire.get("eventsTriggered"), "events_triggered")
    executions = wire.get("executions")
    if not isinstance(executions, (list, tuple)):
        raise not_a("a list of FlowStateExecution", "executions", executions)
    wire["executions"] = [
        _wire_of(execution, FlowStateExecution, f"executions[{i}]") for i, execution in enumerate(executions)
    ]
    sound = _validated(FlowState, wire, "")
    sound.__pydantic_private__ = copy(state.__pydantic_private__)  # the version that it was loaded as, if any
    return sound


def sound(model: type[_Model], value: object, path: str) -> _Model:
    """Return the value if it is exactly of the model and its fields hold exactly their types, else one made so.

    Args:
        model: CacheEntry, Operation, BlockedOnStep or FlowStateExecution.
        value: The value.
        path: Its path in the flow state, for errors.

    Raises:
        FlowStateEncodeError: The value cannot be made so.
    """
    if _IS_SOUND[model](value):
        return value  # type: ignore[return-value]  # it is one then
    return _validated(model, _wire_of(value, model, path), path)


def _validated(model: type[_Model], wire: Mapping[str, Any], path: str) -> _Model:
    try:
        # The keys are wire names. A key that is the Python name of a field is an unknown key, and stays one.
        return model.model_validate(wire, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        member_path = _path_to(path, first["loc"])
        value = "" if first["type"] == "missing" else f", not {shown(first['input'])}"
        raise FlowStateEncodeError(f"Cannot store {member_path}: {first['msg']}{value}", path=member_path) from None


def _wire_of(value: object, model: type[WireModel], path: str) -> dict[str, Any]:
    """Return the wire form of a model, or of a dict that describes one, with exact scalars in its typed fields."""
    if isinstance(value, Mapping):
        try:
            value = model.model_validate(value)
        except (ValidationError, RecursionError):
            raise not_a(f"a {model.__name__}", path, value) from None
        except Exception as error:  # of a mapping of the application's
            raise _failing(value, path, error) from error
    if not isinstance(value, model):
        raise not_a(f"a {model.__name__}", path, value)
    try:
        wire = to_wire(value, deep=False)
    except FlowStateEncodeError as error:
        if path:
            error.path = f"{path}.{error.path}"
            error.args = (f"Cannot store {error.path}: {error}",)
        raise
    for alias in model.wire_names.values():
        if alias not in wire:
            continue
        member, member_path = wire[alias], f"{path}.{_NAME_OF[alias]}".removeprefix(".")
        if (inside := _INSIDE.get((model, alias))) is not None:
            wire[alias] = None if member is None else _wire_of(member, inside, member_path)
        elif alias == "traceIds":
            if not isinstance(member, (list, tuple)):
                raise not_a("a list of strings", member_path, member)
            wire[alias] = list(map(exact, member))
        elif alias in ("startTime", "endTime"):
            wire[alias] = _exact_time(member, member_path)
        elif alias not in ("value", "input", "response", "metadata"):
            wire[alias] = exact(member)
    return wire


def _exact_time(value: Any, path: str) -> Any:
    """Return a number of another type, such as Decimal, as the int or float that it is equal to; others as they are.

    Pydantic takes whatever can be made a float, also strictly, and rounds it.

    Raises:
        FlowStateEncodeError: It is not an int, and no float is equal to it.
    """
    value = exact(value)
    kind = type(value)
    try:
        if kind in (bool, int, float) or not (hasattr(kind, "__float__") or hasattr(kind, "__index__")):
            return value
        if hasattr(kind, "__index__"):
            return operator.index(value)
        number = float(value)
        if number == value or (math.isnan(number) and value != value):
            return number
    except OverflowError:
        pass
    except Exception as error:  # of a method of the application's
        raise _failing(value, path, error) from error
    raise not_a("a number that a float is equal to", path, value)


def sound_cache(cache: object) -> dict[str, CacheEntry]:
    """Return the entries that a mapping holds by the names of steps, each as `sound` returns it."""
    return {
        step: entry if _is_sound_entry(entry) else sound(CacheEntry, entry, in_cache(step))  # paths are for errors
        for step, entry in by_step(cache, "cache").items()
    }


def by_step(mapping: object, name: str) -> dict[str, Any]:
    """Return what a mapping holds by the names of steps, as exact text.

    Args:
        mapping: The mapping.
        name: The field it is of: "cache" or "events_triggered".

    Raises:
        FlowStateEncodeError: It is not such a mapping, or two of its names are the same text.
    """
    if type(mapping) is dict and _are_texts(mapping):
        return dict(mapping)
    if not isinstance(mapping, Mapping):
        raise not_a("a mapping by name of step", name, mapping)
    mapping = taken(mapping, name)
    path_of = in_cache if name == "cache" else in_events
    for step in mapping:
        if not isinstance(step, str):
            raise not_a("the name of a step", path_of(step), step)
    items = [(exact(step), value) for step, value in mapping.items()]
    steps = dict(items)
    if len(steps) < len(items):
        raise FlowStateEncodeError(f"Cannot store {name}: two of its names are the same text.", path=name)
    return steps


def taken(mapping: Mapping[Any, Any], path: str) -> dict[Any, Any]:
    """Return what a mapping holds, or raise FlowStateEncodeError if a method of it fails, with that error as cause."""
    try:
        return {key: mapping[key] for key in mapping}
    except Exception as error:  # of the application's
        raise _failing(mapping, path, error) from error


def _failing(value: object, path: str, error: Exception) -> FlowStateEncodeError:
    return FlowStateEncodeError(f"Cannot store {path}: {method_fails(value, error)}.", path=path)


def _path_to(path: str, loc: tuple[int | str, ...]) -> str:
    """Return the path of an error of pydantic's in the notation of this package's errors, below `path`."""
    rest = list(loc)
    if not path and len(rest) > 1 and rest[0] in ("cache", "eventsTriggered"):
        path = (in_cache if rest[0] == "cache" else in_events)(rest[1])
        del rest[:2]
    for part in rest:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in _NAME_OF:  # others name the members of unions
            path += f".{_NAME_OF[part]}"
    return path.removeprefix(".")


def _is_sound_state(state: FlowState) -> bool:
    if type(state) is not FlowState:
        return False
    fields = state.__dict__
    cache, events, executions = fields.get("cache"), fields.get("events_triggered"), fields.get("executions")
    return (
        type(fields.get("flow_id")) is str
        and _is_text(fields.get("name", 0))
        and _is_text(fields.get("trace_context", 0))
        and _is_finite(fields.get("start_time"))
        and type(cache) is dict
        and _are_texts(cache)
        and all(map(_is_sound_entry, cache.values()))
        and type(events) is dict
        and _are_texts(events)
        and ((blocked := fields.get("blocked_on_step", 0)) is None or _is_sound_blocked(blocked))
        and _is_sound_operation(fields.get("operation"))
        and type(executions) is list
        and all(map(_is_sound_execution, executions))
        and _is_sound_model(state)
        and state.__pydantic_fields_set__ <= fields.keys()
    )


def _is_sound_entry(entry: object) -> bool:
    if type(entry) is not CacheEntry:
        return False
    empty = entry.__dict__.get("empty", 0)
    return (empty is None or empty is True) and (not entry.__pydantic_extra__ or _is_sound_model(entry))


def _is_sound_blocked(blocked: object) -> bool:
    if type(blocked) is not BlockedOnStep:
        return False
    fields = blocked.__dict__
    return type(fields.get("name")) is str and _is_text(fields.get("schema_", 0)) and _is_sound_model(blocked)


def _is_sound_operation(operation: object) -> bool:
    if type(operation) is not Operation:
        return False
    fields = operation.__dict__
    return (
        type(fields.get("name")) is str
        and type(fields.get("done")) is bool
        and ((result := fields.get("result", 0)) is None or _is_sound_result(result))
        and ((blocked := fields.get("blocked_on_step", 0)) is None or _is_sound_blocked(blocked))
        and _is_sound_model(operation)
    )


def _is_sound_result(result: object) -> bool:
    if type(result) is not FlowResult:
        return False
    fields = result.__dict__
    return _is_text(fields.get("error", 0)) and _is_text(fields.get("stacktrace", 0)) and _is_sound_model(result)


def _is_sound_execution(execution: object) -> bool:
    if type(execution) is not FlowStateExecution:
        return False
    fields = execution.__dict__
    return (
        _is_moment(fields.get("start_time", ""))
        and _is_moment(fields.get("end_time", ""))
        and type(trace_ids := fields.get("trace_ids")) is list
        and _are_texts(trace_ids)
        and _is_sound_model(execution)
    )


def _is_sound_model(model: WireModel) -> bool:
    unknown = model.__pydantic_extra__
    return not unknown or (
        all(type(key) is str and key.isascii() for key in unknown) and not unknown.keys() & _ALIASES[type(model)]
    )


def _are_texts(values: Iterable[object]) -> bool:
    return set(map(type, values)) <= _TEXT  # faster than all() over a generator, for the few members that most have


def _is_text(value: object) -> bool:
    return value is None or type(value) is str


def _is_moment(value: object) -> bool:
    return value is None or type(value) is int or type(value) is float


def _is_finite(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


_IS_SOUND: Final[Mapping[type[WireModel], Callable[[object], bool]]] = {
    CacheEntry: _is_sound_entry,
    Operation: _is_sound_operation,
    BlockedOnStep: _is_sound_blocked,
    FlowStateExecution: _is_sound_execution,
}
