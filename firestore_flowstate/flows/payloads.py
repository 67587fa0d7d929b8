"""Answers against the JSON Schema that the run asks for.

Any process can check them, also one without the code of the flow.
"""

from __future__ import annotations

import json
from typing import Any

from firestore_flowstate import FlowStateError

from .errors import InvalidPayloadError


def check_payload(payload: Any, schema: str | None, *, id: str, step: str) -> None:
    """Raise InvalidPayloadError if the answer does not fit the schema.

    Raises:
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
        # An empty registry: a stored schema is input, and must not have anything fetched.
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
