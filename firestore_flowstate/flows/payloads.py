"""Checking answers by the JSON Schema that is stored with the interrupt.

So any process can check them, also one without the code of the flow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

from firestore_flowstate import FlowStateError

from .errors import InvalidPayloadError
from .json_round_trip import exact_json

_LONGEST: Final = 100
"""How many characters of a value an error has."""
_OF_OTHERS: Final = re.compile(r"\[[^\]]*\[|&&|--|~~|\\[bB]\{|\\[<>]")
"""What Python reads otherwise than Rust does: sets inside of sets, such as ``[[:alpha:]]``, and bounds of words."""
_AS_MODELS_HAVE_THEM: Final = "binary"
"""The format that pydantic gives bytes in a JSON Schema if their form is not base64: UTF-8, or hexadecimal."""


def check_payload(payload: Any, given: Any, schema: str | None, *, id: str, step: str) -> None:
    """Refuse an answer that does not fit the schema.

    A pattern that Python cannot compile or reads otherwise, as one of JavaScript or of pydantic's own syntax, is passed
    over: the type of the flow checks the answer when the run reads it, and the interrupt raises InvalidPayloadError if
    it does not fit.

    Args:
        payload: The answer in its JSON form.
        given: The answer as it was given. Bytes in its plain containers have base64 as their JSON form, so they fit
            no model that has its bytes in another form: they would be read as other bytes.
        schema: The JSON Schema, as text; None: any answer fits.
        id: The id of the run.
        step: The key of the interrupt.

    Raises:
        InvalidPayloadError: The answer does not fit, or the stored schema is not one, or refers to itself without end.
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
        draft = jsonschema.validators.validator_for(form, default=jsonschema.Draft202012Validator)
        kind = _passing_over(draft, jsonschema.validators.extend)
        if isinstance(form, dict):  # otherwise a reference to the whole schema is checked by the library's own class
            form.pop("$schema", None)
        # With an empty registry nothing is fetched, whatever a stored schema refers to: it is input.
        formats = jsonschema.FormatChecker(formats=())
        formats.checks(_AS_MODELS_HAVE_THEM)(lambda value: not isinstance(value, _Base64Text))
        validator = kind(form, registry=referencing.Registry(), format_checker=formats)
        problem = jsonschema.exceptions.best_match(validator.iter_errors(_marked(payload, given)))
    except Exception as error:  # whatever jsonschema raises for what is not a schema: it was stored, so it is input
        raise InvalidPayloadError(
            f"The schema that the run {id!r} stores for {step!r} cannot be used: {error}", flow_id=id, step=step
        ) from error
    if problem is not None:
        path = "".join(f"{part}: " for part in ["/".join(map(str, problem.absolute_path))] if part)
        raise InvalidPayloadError(
            f"The answer to {step!r} of the run {id!r} does not fit: {path}{_reason(problem)}", flow_id=id, step=step
        )


@cache  # to make the class takes a millisecond
def _passing_over(kind: Any, extend: Callable[..., Any]) -> Any:
    """Return the class of validators, made to pass over patterns that Python cannot compile or reads otherwise."""
    rules = kind.VALIDATORS

    def pattern(validator: Any, text: Any, instance: Any, schema: Any) -> Any:
        return rules["pattern"](validator, text, instance, schema) if _compiles(text) else ()

    def properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Any:
        known = {text: inside for text, inside in patterns.items() if _compiles(text)}
        return rules["patternProperties"](validator, known, instance, schema)

    def others(name: str) -> Any:
        """Return the rule for properties that no pattern matches; which these are is not known without all patterns."""

        def other(validator: Any, inside: Any, instance: Any, schema: Any) -> Any:
            is_known = all(map(_compiles, schema.get("patternProperties", ())))
            return rules[name](validator, inside, instance, schema) if is_known else ()

        return other

    ours = {"pattern": pattern, "patternProperties": properties}
    ours.update((name, others(name)) for name in ("additionalProperties", "unevaluatedProperties"))
    return extend(kind, {name: rule for name, rule in ours.items() if name in rules})


def _compiles(pattern: str) -> bool:
    """Return whether Python reads the pattern as pydantic's own syntax, that of Rust, and ECMA's do."""
    if _OF_OTHERS.search(pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


class _Base64Text(str):
    """The form of bytes that were given in a plain container, or alone."""

    __slots__ = ()


def _marked(form: Any, given: Any) -> Any:
    """Return the JSON form with the texts that stand for bytes of plain containers known as such."""
    if isinstance(given, (bytes, bytearray, memoryview)):
        return _Base64Text(form)
    if isinstance(given, Mapping) and isinstance(form, dict) and len(given) == len(form):
        return {key: _marked(inside, one) for (key, inside), one in zip(form.items(), given.values(), strict=True)}
    if isinstance(given, Sequence) and isinstance(form, list) and len(given) == len(form):
        return list(map(_marked, form, given))
    return form


def _reason(problem: Any) -> str:
    """Return why a value does not fit, with the value as JSON, in which answers are given, and not as Python has it."""
    if problem.validator == "format":
        return (
            "bytes in a plain container are stored in base64, and the model reads another form: give the model, or "
            "set its ser_json_bytes and val_json_bytes to 'base64'"
        )
    value = repr(problem.instance)
    reason: str = problem.message
    if not reason.startswith(value):
        return reason
    text = exact_json(problem.instance).decode()
    return f"{text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…'}{reason.removeprefix(value)}"
