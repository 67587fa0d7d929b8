"""Ids and collection paths, by Firestore's rules for names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firestore_flowstate import InvalidFlowIdError
from firestore_flowstate._limits import check_collection_path, check_flow_id
from firestore_flowstate.testing import flow_ids
from firestore_flowstate.testing.conformance.ids import INVALID, VALID

RULES = {
    "empty": "is empty",
    "slash": "contains a slash",
    "path": "contains a slash",
    "leading slash": "contains a slash",
    "trailing slash": "contains a slash",
    "dot": "'.' or '..'",
    "two dots": "'.' or '..'",
    "four underscores": "matches __.*__",
    "reserved": "matches __.*__",
    "reserved over two lines": "matches __.*__",
    "1,501 bytes": "has 1,501 bytes of UTF-8, more than Firestore's 1,500",
    "1,502 bytes of 751 characters": "has 1,502 bytes of UTF-8, more than Firestore's 1,500",
    "lone surrogate": "contains a lone surrogate",
    "integer": "is a string, not int",
    "none": "is a string, not NoneType",
    "bytes": "is a string, not bytes",
}


@pytest.mark.parametrize("id", VALID, ids=ascii)
def test_valid_ids_are_returned(id: str) -> None:
    """They are returned as they are: nothing is stripped, put into lower case or composed."""
    assert id == check_flow_id(id)


@given(flow_ids())
def test_any_drawn_id_is_valid(id: str) -> None:
    """The strategy and the check, written apart, agree."""
    assert id == check_flow_id(id)


@pytest.mark.parametrize("case", INVALID)
def test_the_broken_rule_is_named(case: str) -> None:
    """The message names the rule, and a long id does not fill the screen."""
    with pytest.raises(InvalidFlowIdError) as refusal:
        check_flow_id(INVALID[case])  # type: ignore[arg-type]  # some are not strings

    assert RULES[case] in str(refusal.value)
    assert len(str(refusal.value)) < 400
    assert refusal.value.flow_id == (INVALID[case] if isinstance(INVALID[case], str) else None)


def test_an_invalid_id_is_a_value_error() -> None:
    """Code that knows nothing of this package can tell that an argument was wrong."""
    with pytest.raises(ValueError):
        check_flow_id("a/b")


@given(st.text())
def test_any_text_is_an_id_or_refused(text: str) -> None:
    """Any other text is refused by the error for ids."""
    try:
        checked = check_flow_id(text)
    except InvalidFlowIdError as error:
        checked = error.flow_id or ""
    assert text == checked


@pytest.mark.parametrize("path", ["flows", "a/b/c", "tenants/acme co/flows", "a.b", "é/🙂/日", " "])
def test_collection_paths(path: str) -> None:
    """A nested collection is a path of an odd number of names."""
    assert path == check_collection_path(path)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "is empty"),
        ("a/b", "odd number of names"),
        ("a/b/c/d", "odd number of names"),
        ("/a", "is empty"),
        ("a/", "is empty"),
        ("a//b", "is empty"),
        ("a/./b", "reserves"),
        ("a/__b__/c", "reserves"),
        ("a/b/" + "x" * 1501, "1,501 bytes"),
    ],
    ids=ascii,
)
def test_wrong_collection_paths_are_refused(path: str, rule: Any) -> None:
    """The message names the name in it that breaks a rule, and the rule."""
    with pytest.raises(ValueError, match=rule):
        check_collection_path(path)
