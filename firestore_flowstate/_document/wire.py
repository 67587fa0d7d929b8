"""Between models and their wire form: dicts with camelCase keys, as Genkit has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from ..errors import FlowStateDecodeError, FlowStateEncodeError
from ..models import CacheEntry, FlowState, FlowStateExecution, WireModel
from .paths import in_cache

Model = TypeVar("Model", bound=WireModel)


def to_wire(model: WireModel) -> dict[str, Any]:
    """Return the present fields and unknown keys; of models inside it likewise, "any" values as they are.

    Raises:
        FlowStateEncodeError: An unknown key could not be read back.
    """
    fields = model.__dict__
    if model.__pydantic_extra__:  # what model_extra and model_fields_set return, by a call each
        present = {alias: fields[name] for name, alias in model.wire_names.items() if model.has(name)}
        present.update(unknown_of(model))
    else:
        given = model.__pydantic_fields_set__
        present = {alias: fields[name] for name, alias in model.wire_names.items() if name in given}
    for key, value in present.items():
        if isinstance(value, WireModel):
            present[key] = to_wire(value)
    return present


def unknown_of(model: WireModel) -> Mapping[str, Any]:
    """Return the unknown keys with their values.

    Raises:
        FlowStateEncodeError: A key has a lone surrogate: `model_copy` takes it, and validation would not read it back.
    """
    unknown = model.model_extra or {}
    for key in unknown:
        try:
            key.encode()
        except UnicodeEncodeError:  # the message names the key
            raise FlowStateEncodeError(
                f"Cannot store the unknown key {key!r:.100}: a lone surrogate.", path=key
            ) from None
    return unknown


def state_to_wire(state: FlowState) -> dict[str, Any]:
    """Return the whole flow state in wire form.

    Raises:
        FlowStateEncodeError: An item that was put into one of its containers is not what belongs there.
    """
    wire = to_wire(state)
    wire["cache"] = {step: to_wire(entry_of(entry, step)) for step, entry in state.cache.items()}
    wire["executions"] = executions_to_wire(state.executions)
    return wire


def executions_to_wire(executions: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the executions in wire form, or raise FlowStateEncodeError where one is none."""
    return [to_wire(execution_of(execution, f"executions[{i}]")) for i, execution in enumerate(executions)]


def state_from_wire(wire: Mapping[str, Any], *, flow_id: str) -> FlowState:
    """Return the flow state of a wire form that was stored under the id.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema; says where.
    """
    if (place := _wrong_member(wire)) is not None:
        raise _unreadable(flow_id, f"{place}: not of the type that belongs there")
    try:
        # Names of fields are wire names here; a Python name among them is an unknown key, to be kept.
        return FlowState.model_validate(wire, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise _unreadable(flow_id, f"{place:.200}: {first['msg']}{more}") from error


def entry_of(value: Any, step: str) -> CacheEntry:
    """Return the cache entry of a step: the value itself where it is one, else what its wire form says.

    Raises:
        FlowStateEncodeError: It is neither.
    """
    return value if isinstance(value, CacheEntry) else _model_of(CacheEntry, value, in_cache(step))


def execution_of(value: Any, path: str) -> FlowStateExecution:
    """Return an execution: the value itself where it is one, else what its wire form says.

    Raises:
        FlowStateEncodeError: It is neither, or has a trace id that is no string.
    """
    execution = _model_of(FlowStateExecution, value, path)
    for index, trace_id in enumerate(execution.trace_ids):
        if not isinstance(trace_id, str):
            raise not_a("a string", f"{path}.trace_ids[{index}]", trace_id)
    return execution


def not_a(what: str, path: str, value: object) -> FlowStateEncodeError:
    """Return the error of a value that is of another type than its place takes."""
    return FlowStateEncodeError(f"Cannot store {path}: {value!r:.100} is not {what}.", path=path)


def _wrong_member(wire: Mapping[str, Any]) -> str | None:
    """Return the place of the first member of a list or map that is of a wrong type.

    Validation gathers an error for each, of hundreds of times the bytes that such a member takes in a document.
    """
    cache, executions = wire.get("cache"), wire.get("executions")
    if isinstance(cache, dict):
        for step, entry in cache.items():
            if not isinstance(entry, dict):
                return f"cache.{step:.100}"
    if isinstance(executions, list):
        for index, execution in enumerate(executions):
            if not isinstance(execution, dict):
                return f"executions.{index}"
            trace_ids = execution.get("traceIds")
            if isinstance(trace_ids, list) and not all(isinstance(trace_id, str) for trace_id in trace_ids):
                return f"executions.{index}.traceIds"
    return None


def _unreadable(flow_id: str, why: str) -> FlowStateDecodeError:
    return FlowStateDecodeError(f"The flow state {flow_id!r} cannot be read: {why}", flow_id=flow_id)


def _model_of(model: type[Model], value: Any, path: str) -> Model:
    # Containers are checked when they are set as a whole, and nobody sees what is put into them later.
    if isinstance(value, model):
        return value
    try:
        return model.model_validate(value)
    except ValidationError:
        raise not_a(f"a {model.__name__}", path, value) from None
