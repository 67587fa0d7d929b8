"""Between models and their wire form: dicts with camelCase keys, as Genkit has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from .._limits import utf8_bytes
from ..errors import FlowStateDecodeError, FlowStateEncodeError
from ..models import FlowState, FlowStateExecution, WireModel


def to_wire(model: WireModel, *, deep: bool = True) -> dict[str, Any]:
    """Return the present fields and unknown keys; of models inside it likewise, if `deep`; "any" values as they are.

    Raises:
        FlowStateEncodeError: An unknown key could not be read back.
    """
    fields = model.__dict__
    # What model_extra and model_fields_set return, by a call each.
    if model.__pydantic_extra__ or model.is_subclass or not model.__pydantic_fields_set__ <= fields.keys():
        present = {alias: fields[name] for name, alias in model.wire_names.items() if model.has(name)}
        present.update(unknown_of(model))
    else:
        given = model.__pydantic_fields_set__
        present = {alias: fields[name] for name, alias in model.wire_names.items() if name in given}
    if deep:
        for key, value in present.items():
            if isinstance(value, WireModel):
                present[key] = to_wire(value)
    return present


def unknown_of(model: WireModel) -> Mapping[str, Any]:
    """Return the unknown keys with their values.

    Raises:
        FlowStateEncodeError: `model_copy` takes keys that validation would not read back, or would read as a field: no
            string, with a lone surrogate, or the wire name of a field.
    """
    unknown = model.model_extra or {}
    for key in unknown:
        if type(key) is not str:
            raise not_a("a string", f"unknown key {key!r:.100}", key)
        if key in model.wire_names.values():
            name = next(name for name, alias in model.wire_names.items() if alias == key)
            raise FlowStateEncodeError(
                f"Cannot store {key}: it is the wire name of {type(model).__name__}.{name}, set that.", path=name
            )
        if utf8_bytes(key) is None:
            raise FlowStateEncodeError(f"Cannot store the unknown key {key!r:.100}: a lone surrogate.", path=key)
    return unknown


def executions_to_wire(executions: Iterable[FlowStateExecution]) -> list[dict[str, Any]]:
    """Return the executions in wire form."""
    return list(map(to_wire, executions))


def state_from_wire(wire: Mapping[str, Any], *, flow_id: str) -> FlowState:
    """Return the flow state of a wire form that was stored under the id.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema; says where.
    """
    if (path := _wrong_member(wire)) is not None:
        raise _unreadable(flow_id, f"{path}: not of the type that belongs there")
    try:
        # Names of fields are wire names here; a Python name among them is an unknown key, to be kept.
        return FlowState.model_validate(wire, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = ".".join(map(str, first["loc"])) or "the document"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise _unreadable(flow_id, f"{path:.200}: {first['msg']}{more}") from error


def not_a(what: str, path: str, value: object) -> FlowStateEncodeError:
    """Return the error of a value that is of another type than its place takes."""
    return FlowStateEncodeError(f"Cannot store {path}: {value!r:.100} is not {what}.", path=path)


def _wrong_member(wire: Mapping[str, Any]) -> str | None:
    """Return the path of the first member of a list or map that is of a wrong type.

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
