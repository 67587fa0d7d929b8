"""Errors about values that cannot be written as text: the error is the one that belongs there."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import firestore_flowstate
from firestore_flowstate import (
    FlowStateQuery,
    InvalidFlowIdError,
    InvalidQueryError,
    MemoryFlowStateStore,
)
from firestore_flowstate.errors import shown
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.indexes import index_file

PACKAGE = Path(firestore_flowstate.__file__).parent
HUGE = 10**5000


class _Secretive:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"),
        ("a" * 200, "'" + "a" * 99),
        (HUGE, "<int>"),
        (-HUGE, "<int>"),
        ([HUGE], "<list>"),
        (_Secretive(), "<_Secretive>"),
    ],
    ids=["small", "long", "huge", "below", "inside", "secretive"],
)
def test_a_value_is_told_of_in_an_error(value: Any, text: str) -> None:
    """The error has at most 100 characters of it. A value without a text is named by its type."""
    if text in ("<int>", "<list>") and not _has_limit():
        pytest.skip("this Python writes integers of any size")

    assert text == shown(value)


def _cut(path: Path) -> Iterator[str]:
    """Yield the expressions whose representation an f-string makes and then cuts."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r") and node.format_spec is not None:
            yield f"{path.name}:{node.lineno}: {ast.unparse(node.value)}"


def test_flows_tell_of_values_in_one_way() -> None:
    """An f-string that cuts a representation fails if there is none."""
    assert [] == [found for path in (PACKAGE / "flows").rglob("*.py") for found in _cut(path)]


def _has_limit() -> bool:
    try:
        str(HUGE)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("value", [HUGE, -HUGE, _Secretive()], ids=["huge", "below", "secretive"])
@pytest.mark.parametrize(
    ("mistake", "kind", "says"),
    [
        (lambda flows, value: Flows(value), TypeError, "store is a VersionedFlowStateStore"),
        (lambda flows, value: Flows(flows.store, dispatcher=value), TypeError, "dispatcher is a Dispatcher"),
        (lambda flows, value: Flows(flows.store, retry=value), TypeError, "retry is a Retry"),
        (lambda flows, value: Flows(flows.store, version=value), TypeError, "version is a text or None"),
        (lambda flows, value: Flows(flows.store, lease=value), TypeError, "lease is a timedelta"),
        (lambda flows, value: flows.start(value), TypeError, "is not a flow"),
        (lambda flows, value: flows.start("idle", id=value), InvalidFlowIdError, "A flow id is a string"),
        (lambda flows, value: flows.store.load(value), InvalidFlowIdError, "A flow id is a string"),
        (lambda flows, value: FlowStateQuery(limit=value), InvalidQueryError, "limit is a whole number"),
        (lambda flows, value: FlowStateQuery(status=value), InvalidQueryError, "status is one or several of"),
        (lambda flows, value: FlowStateQuery(where={"a": value}), InvalidQueryError, "where['a'] is a string"),
        (
            lambda flows, value: flows.start("idle", expire_after=value),
            TypeError,
            "expire_after is a timedelta above 0",
        ),
        (lambda flows, value: flows.store.load("a", timeout=value), ValueError, "timeout is a finite number"),
        (lambda flows, value: index_file(format=value), ValueError, "format is 'firebase' or 'terraform'"),
    ],
)
async def test_a_mistake_is_named_whatever_the_value_is(
    mistake: Callable[[Flows, Any], Any], kind: type[Exception], says: str, value: Any
) -> None:
    """The error is the same as for a value that can be shown."""
    async with MemoryFlowStateStore() as store:
        flows = Flows(store)

        @flows.flow
        async def idle(run: Run) -> None: ...

        async def make() -> None:
            made = mistake(flows, value)
            if inspect.isawaitable(made):
                await made

        with pytest.raises(kind, match=re.escape(says)):
            await make()
