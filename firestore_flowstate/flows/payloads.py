"""Checking answers by the JSON Schema that is stored with the interrupt.

So any process can check them, also one without the code of the flow.
"""

from __future__ import annotations

import json
from typing import Any, Final

from firestore_flowstate import FlowStateError

from .errors import InvalidPayloadError
from .values import exact_json

_LONGEST: Final = 100
"""How many characters of a value an error has."""


def check_payload(payload: Any, schema: str | None, *, id: str, step: str) -> None:
    """Refuse an answer that does not fit the schema.

    Args:
        payload: The answer in its JSON form.
        schema: The JSON Schema, as text; None: any answer fits.
        id: The id of the run.
        step: The key of the interrupt.

    Raises:
        InvalidPayloadError: The answer does not fit, or the stored schema is not one.
        FlowStateError: The extra ``flows`` is not installed.
    """
    if schema is None:
        return
    try:
        import jsonschema
        import referencing
    except ImportError as error:
        raise FlowStateError(
            "Answers are checked by the package jsonschema: pip install 'firestore-flowstate[flows]'", flow_id=id
        ) from error
    try:
        form = json.loads(schema)
        kind = jsonschema.validators.validator_for(form, default=jsonschema.Draft202012Validator)
        # With an empty registry nothing is fetched, whatever a stored schema refers to: it is input.
        problem = jsonschema.exceptions.best_match(kind(form, registry=referencing.Registry()).iter_errors(payload))
    except (ValueError, referencing.exceptions.Unresolvable, jsonschema.exceptions.SchemaError) as error:
        raise InvalidPayloadError(
            f"The schema that the run {id!r} stores for {step!r} cannot be used: {error}", flow_id=id, step=step
        ) from error
    if problem is not None:
        place = "".join(f"{part}: " for part in ["/".join(map(str, problem.absolute_path))] if part)
        raise InvalidPayloadError(
            f"The answer to {step!r} of the run {id!r} does not fit: {place}{_reason(problem)}", flow_id=id, step=step
        )


def _reason(problem: Any) -> str:
    """Return why a value does not fit, with the value as JSON, in which answers are given, and not as Python has it."""
    value = repr(problem.instance)
    reason: str = problem.message
    if not reason.startswith(value):
        return reason
    text = exact_json(problem.instance).decode()
    return f"{text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'}{reason.removeprefix(value)}"
