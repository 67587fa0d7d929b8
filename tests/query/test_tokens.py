"""Continuation tokens keep the exact place in the order, and are refused if they belong to another query."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestore_flowstate import FlowStateQuery, InvalidContinuationTokenError, MemoryFlowStateStore
from firestore_flowstate._query.token import Position, _check, from_token, scope_of, to_token
from firestore_flowstate.testing import exactly, flow_ids
from firestore_flowstate.testing.conformance.paging import fill
from firestore_flowstate.testing.conformance.states import started
from firestore_flowstate.testing.strategies import start_times

SCOPE = scope_of("flows", FlowStateQuery())


@given(start_times(), flow_ids())
def test_token_gives_back_the_place(start_time: float, id: str) -> None:
    """It has the type and value of the start, and every character of the id."""
    position = from_token(to_token(Position(start_time, id), SCOPE), SCOPE)

    assert exactly([start_time, id]) == exactly([position.start_time, position.id])


@given(start_times(), flow_ids())
def test_token_is_safe_in_a_url(start_time: float, id: str) -> None:
    """A token needs no escaping."""
    token = to_token(Position(start_time, id), SCOPE)

    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()


@given(st.text(max_size=80) | st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_anything_else_is_refused(text: str) -> None:
    """Garbage never asks for a page, and never fails otherwise."""
    with pytest.raises(InvalidContinuationTokenError):
        from_token(text, SCOPE)


@given(st.data())
def test_each_changed_character_is_noticed(data: st.DataObject) -> None:
    """A token is used as it was given or not at all."""
    token = to_token(Position(1_700_000_000_000, "some id"), SCOPE)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCXYZabcxyz0189-_=+/ é").filter(lambda letter: letter != token[place]))
    with pytest.raises(InvalidContinuationTokenError):
        from_token(token[:place] + other + token[place + 1 :], SCOPE)


@given(st.data())
def test_each_cut_is_noticed(data: st.DataObject) -> None:
    """A token that lost its end is refused."""
    token = to_token(Position(1_700_000_000_000.5, "🙂" * 100), SCOPE)
    with pytest.raises(InvalidContinuationTokenError):
        from_token(token[: data.draw(st.integers(0, len(token) - 1))], SCOPE)


def _forged(*fields: Any) -> str:
    body = json.dumps(fields, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")


def test_a_newer_version_says_so() -> None:
    """A token of a later version of the package is not garbage, and the message says what to do."""
    with pytest.raises(InvalidContinuationTokenError, match=r"version 2.*upgrade"):
        from_token(_forged(2, SCOPE, 1, "id"), SCOPE)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (1,),
        (1, SCOPE),
        (1, SCOPE, 1),
        (1, SCOPE, 1, "id", "more"),
        (1, SCOPE, None, "id"),
        (1, SCOPE, "1", "id"),
        (1, SCOPE, True, "id"),
        (1, SCOPE, float("nan"), "id"),
        (1, SCOPE, float("inf"), "id"),
        (1, SCOPE, 2**64, "id"),
        (1, SCOPE, [1], "id"),
        (1, SCOPE, 1, 5),
        (1, SCOPE, 1, None),
        (1, SCOPE, 1, ""),
        (1, SCOPE, 1, "a/b"),
        (1, 5, 1, "id"),
        (True, SCOPE, 1, "id"),
        ("1", SCOPE, 1, "id"),
    ],
    ids=repr,
)
def test_forged_fields_are_refused(fields: tuple[Any, ...]) -> None:
    """Whoever can compute the check still gets no further than a real token does."""
    with pytest.raises(InvalidContinuationTokenError):
        from_token(_forged(*fields), SCOPE)


@pytest.mark.parametrize("body", ["5", '"text"', "{}", "null", "[", "[[1]]"])
def test_forged_bodies_are_refused(body: str) -> None:
    """A body need not be a list."""
    raw = body.encode()
    with pytest.raises(InvalidContinuationTokenError):
        from_token(base64.urlsafe_b64encode(_check(raw) + raw).decode().rstrip("="), SCOPE)


MOMENT = datetime(2024, 5, 1, tzinfo=timezone.utc)
DIFFERENT = (
    FlowStateQuery(),
    FlowStateQuery(name="a"),
    FlowStateQuery(name="b"),
    FlowStateQuery(status="done"),
    FlowStateQuery(status=("done", "failed")),
    FlowStateQuery(status=("done", "running")),
    FlowStateQuery(blocked_on="a"),
    FlowStateQuery(started_after=1),
    FlowStateQuery(started_before=1),
    FlowStateQuery(where={"a": "1"}),
    FlowStateQuery(where={"a": 1}),
    FlowStateQuery(where={"a": True}),
    FlowStateQuery(where={"b": 1}),
    FlowStateQuery(where={"a": 1, "b": 1}),
)


def test_scopes_differ_by_filters_and_collection() -> None:
    """Two queries that ask for different states have different scopes."""
    scopes = [scope_of(name, query) for query in DIFFERENT for name in ("flows", "runs")]

    assert len(scopes) == len(set(scopes))


def test_scopes_ignore_what_does_not_filter() -> None:
    """Limit, token and what to do about errors may change between pages, and the order of `where` is none."""
    query = FlowStateQuery(name="a", status=("done", "failed"), where={"a": 1, "b": "2"}, started_after=MOMENT)
    same = FlowStateQuery(
        limit=5,
        continuation_token="any",
        name="a",
        status=["failed", "done", "done"],
        where={"b": "2", "a": 1},
        started_after=int(MOMENT.timestamp()) * 1000,
        on_error="skip",
    )

    assert scope_of("flows", query) == scope_of("flows", same)


async def test_tokens_of_another_store_are_refused() -> None:
    """The message says what the token is not for."""
    store, other = MemoryFlowStateStore(), MemoryFlowStateStore()
    await fill(store, [("a", 1), ("b", 2)])
    await other.save("a", started())
    token = (await store.list(FlowStateQuery(limit=1))).continuation_token
    with pytest.raises(InvalidContinuationTokenError, match="another collection or other filters"):
        await other.list(FlowStateQuery(limit=1, continuation_token=token))
