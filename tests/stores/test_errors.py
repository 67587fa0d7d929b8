"""The errors are one tree, carry their fields, and survive pickling."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

from firestore_flowstate import (
    AccessDeniedError,
    BackendError,
    DeadlineError,
    EmulatorError,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    FlowStateQueryResponse,
    FlowStateTooLargeError,
    InvalidContinuationTokenError,
    InvalidFlowIdError,
    InvalidQueryError,
    MemoryFlowStateStore,
    MissingIndexError,
    QuotaError,
    StoreUnavailableError,
    errors,
)
from firestore_flowstate import _error_texts as error_texts

PARENTS: dict[type[Exception], tuple[type[Exception], ...]] = {
    InvalidFlowIdError: (FlowStateError, ValueError),
    InvalidContinuationTokenError: (FlowStateError, ValueError),
    InvalidQueryError: (FlowStateError, ValueError),
    FlowStateNotFoundError: (FlowStateError, LookupError),
    FlowStateExistsError: (FlowStateError,),
    FlowStateConflictError: (FlowStateError,),
    FlowStateEncodeError: (FlowStateError,),
    FlowStateTooLargeError: (FlowStateEncodeError,),
    FlowStateDecodeError: (FlowStateError,),
    FlowStateBatchError: (FlowStateError,),
    BackendError: (FlowStateError,),
    StoreUnavailableError: (BackendError,),
    DeadlineError: (StoreUnavailableError, TimeoutError),
    MissingIndexError: (BackendError,),
    AccessDeniedError: (BackendError,),
    QuotaError: (BackendError,),
    EmulatorError: (FlowStateError,),
    FlowStateError: (Exception,),
}

MADE: list[FlowStateError] = [
    InvalidFlowIdError("message", flow_id="a/b"),
    FlowStateNotFoundError("message", flow_id="id"),
    FlowStateConflictError("message", flow_id="id", expected="one", found=None),
    FlowStateEncodeError("message", flow_id="id", path="input"),
    FlowStateTooLargeError("message", flow_id="id", path='cache["step"]', size=5, limit=4),
    FlowStateDecodeError("message", flow_id="id", response=FlowStateQueryResponse(flow_states=[])),
    FlowStateBatchError("message", errors={"id": FlowStateExistsError("there", flow_id="id")}),
    StoreUnavailableError("message", flow_id="id", outcome_unknown=True),
    DeadlineError("message", outcome_unknown=True),
    MissingIndexError("message", index={"fields": []}),
    EmulatorError("message"),
]


def _public_errors() -> set[type[Exception]]:
    return {value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, FlowStateError)}


def test_the_tree_is_as_documented() -> None:
    """Every error has the parents that callers catch."""
    assert PARENTS == {error: error.__bases__ for error in _public_errors()}


def test_the_docstring_draws_every_error() -> None:
    """The tree at the head of errors.py names each class once, indented below its parent."""
    drawn = re.findall(
        r"(?m)^(\W*)(\w+Error)\b", (errors.__doc__ or "").partition("::")[2].partition("No exception")[0]
    )
    depths = {name: len(indent) // 4 for indent, name in drawn}

    assert {error.__name__ for error in _public_errors()} == set(depths)
    for error in _public_errors() - {FlowStateError}:
        assert depths[error.__name__] == depths[error.__bases__[0].__name__] + 1


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: FlowStateError) -> None:
    """They cross process pools whole: type, message and fields."""
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(error) is type(copied)
        assert str(error) == str(copied)
        assert _fields(error) == _fields(copied)


def _fields(error: FlowStateError) -> dict[str, Any]:
    fields = dict(vars(error))
    if isinstance(error, FlowStateBatchError):
        fields["errors"] = {id: (type(part), part.args, vars(part)) for id, part in error.errors.items()}
    return fields


def test_every_error_is_shown_by_its_message() -> None:
    """str() is the message alone, also if Python's own class would show it quoted."""
    assert {"message"} == {str(error) for error in MADE}


def test_refusals_name_the_state_and_the_way_out() -> None:
    """A refusal says what was refused, for which flow state, and what to do next."""
    for refusal, way_out in (
        (error_texts.conflict("some id", expected="a", found="b"), "modify()"),
        (error_texts.conflict("some id", expected="a", found=None), "modify()"),
        (error_texts.conflict("some id", expected=None, found="b"), "if_version=None"),
        (error_texts.exists("some id"), "save()"),
        (error_texts.not_found("some id"), "create()"),
    ):
        assert "some id" == refusal.flow_id
        assert "'some id'" in str(refusal)
        assert way_out in str(refusal)


@pytest.mark.parametrize("path", [error_texts.in_cache, error_texts.in_events, error_texts.in_extra])
def test_a_path_can_be_printed(path: Callable[[object], str]) -> None:
    """A lone surrogate in the name of a step or key, which no terminal and no log takes, is shown escaped."""
    shown = path("é \ud800")

    assert shown.endswith(r'["é \ud800"]')
    assert shown.encode()


async def test_a_page_of_what_is_due_says_how_to_get_more() -> None:
    """It says to use `after`, since the page has no continuation token."""
    with pytest.raises(InvalidQueryError, match=r"not 301; for more, ask again with the last summary as after$"):
        await MemoryFlowStateStore().due(limit=301)


def test_a_conflict_tells_both_versions() -> None:
    """It has the version that was asked for and the one that is there."""
    conflict = error_texts.conflict("id", expected="a", found="b")

    assert ("a", "b") == (conflict.expected, conflict.found)


def test_naming_says_whose_value_it_was_once() -> None:
    """The path stays, and naming twice changes nothing."""
    error = FlowStateEncodeError('Cannot store cache["step"]: why.', path='cache["step"]')
    named = error_texts.with_flow_id(error_texts.with_flow_id(error, "id"), "another")

    assert ("id", 'cache["step"]') == (named.flow_id, named.path)
    assert "Flow state 'id': Cannot store cache[\"step\"]: why." == str(named)


def test_a_batch_error_shows_the_first_few() -> None:
    """The message can be read however many failed. All are in `errors`."""
    failed: dict[str, FlowStateError] = {f"id-{i}": error_texts.not_found(f"id-{i}") for i in range(50)}
    batch = error_texts.batch("loaded", failed, total=60)

    assert failed == batch.errors
    assert "50 of 60" in str(batch)
    assert "47 more" in str(batch)
