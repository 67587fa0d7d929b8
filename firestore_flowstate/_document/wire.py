"""Between models and their wire form: dicts with camelCase keys, as Genkit has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import FlowStateDecodeError
from ..models import CacheEntry, FlowState, WireModel


def to_wire(model: WireModel) -> dict[str, Any]:
    """Return the present fields and unknown keys; of models inside it likewise, "any" values as they are."""
    fields = model.__dict__
    if unknown := model.model_extra:
        present = {alias: fields[name] for name, alias in model.wire_names.items() if model.has(name)}
        present.update(unknown)
    else:
        given = model.model_fields_set
        present = {alias: fields[name] for name, alias in model.wire_names.items() if name in given}
    for key, value in present.items():
        if isinstance(value, WireModel):
            present[key] = to_wire(value)
    return present


def state_to_wire(state: FlowState) -> dict[str, Any]:
    """Return the whole flow state in wire form."""
    wire = to_wire(state)
    wire["cache"] = {step: to_wire(entry) for step, entry in state.cache.items()}
    wire["executions"] = [to_wire(execution) for execution in state.executions]
    return wire


def state_from_wire(wire: Mapping[str, Any], *, flow_id: str) -> FlowState:
    """Return the flow state of a wire form that was stored under the id.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema; says where.
    """
    try:
        # Names of fields are wire names here; a Python name among them is an unknown key, to be kept.
        return FlowState.model_validate(wire, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise FlowStateDecodeError(
            f"The flow state {flow_id!r} cannot be read: {place}: {first['msg']}"
            + (f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""),
            flow_id=flow_id,
        ) from error


def entry_of(value: Any) -> CacheEntry:
    """Return a cache entry: the value itself where it is one, else what its wire form says."""
    return value if isinstance(value, CacheEntry) else CacheEntry.model_validate(value)
