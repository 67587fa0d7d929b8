"""Checking answers by the JSON Schema that is stored with the interrupt.

So any process can check them, also one without the code of the flow.
"""

from __future__ import annotations

import json
from typing import Any

from firestore_flowstate import FlowStateError

from .errors import InvalidPayloadError


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
        place = "/".join(map(str, problem.absolute_path)) or "the answer"
        raise InvalidPayloadError(
            f"The answer to {step!r} of the run {id!r} does not fit: {place}: {problem.message}", flow_id=id, step=step
        )
