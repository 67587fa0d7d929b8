"""The rule check that the tests of indexes rest on gives the answers of Firestore's own documentation."""

from __future__ import annotations

from typing import Any

import pytest

from firestore_flowstate._rpc.messages import StructuredQuery
from tests.query.index_rules import is_served, path_of

# https://firebase.google.com/docs/firestore/query-data/index-overview#taking_advantage_of_index_merging
RESTAURANTS = ["category", "city", "editors_pick"]
EQUAL, LESS = StructuredQuery.FieldFilter.Operator.EQUAL, StructuredQuery.FieldFilter.Operator.LESS_THAN
DESCENDING, ASCENDING = StructuredQuery.Direction.DESCENDING, StructuredQuery.Direction.ASCENDING


def asking(*equal: str, less: str | None = None, order: str | None = None, direction: Any = ASCENDING) -> Any:
    query = StructuredQuery()
    query.from_.add().collection_id = "restaurants"
    for path, op in (*((path, EQUAL) for path in equal), *(((less, LESS),) if less else ())):
        field_filter = query.where.composite_filter.filters.add().field_filter
        field_filter.field.field_path = path
        field_filter.op = op
    if order is not None:
        by = query.order_by.add()
        by.field.field_path = order
        by.direction = direction
    return query


def declaring(*indexes: tuple[str, ...], exempt: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return a file. A minus before a field is for descending."""
    return {
        "indexes": [
            {
                "collectionGroup": "restaurants",
                "queryScope": "COLLECTION",
                "fields": [
                    {"fieldPath": f.lstrip("-"), "order": "DESCENDING" if f[0] == "-" else "ASCENDING"} for f in index
                ],
            }
            for index in indexes
        ],
        "fieldOverrides": [{"collectionGroup": "restaurants", "fieldPath": f, "indexes": []} for f in exempt],
    }


MERGING = declaring(*((key, "star_rating") for key in RESTAURANTS))


@pytest.mark.parametrize(
    ("query", "file"),
    [
        (asking("city"), declaring()),
        (asking("city", "category"), declaring()),
        (asking(order="population", direction=DESCENDING), declaring()),
        (asking(less="population", order="population"), declaring()),
        (asking("state", order="population"), declaring(("state", "population"))),
        (asking("state", order="population"), declaring(("-state", "population"))),
        (asking("state", less="population", order="population"), declaring(("state", "population"))),
        (asking("category", "city", order="star_rating"), MERGING),
        (asking(*RESTAURANTS, order="star_rating"), MERGING),
        (asking("a", "b", "c", order="d"), declaring(("a", "b", "d"), ("c", "d"))),
        (asking("a", "b", "c", order="d"), declaring(("b", "a", "d"), ("b", "c", "d"))),
        (asking("state", order="population"), declaring(("state", "population"), exempt=("state", "population"))),
    ],
)
def test_serves(query: Any, file: dict[str, Any]) -> None:
    """Single-field indexes serve, and so do one composite index or a merge of some that end alike."""
    assert is_served(query, file)


@pytest.mark.parametrize(
    ("query", "file"),
    [
        (asking("state", order="population"), declaring()),
        (asking("state", less="population", order="population"), declaring()),
        (asking("state", order="population", direction=DESCENDING), declaring(("state", "population"))),
        (asking("state", order="population"), declaring(("population", "state"))),
        (asking("state", "country", order="population"), declaring(("state", "population"))),
        (asking("state", order="population"), declaring(("state", "country", "population"))),
        (asking("category", "city", order="star_rating"), declaring(("category", "star_rating"), ("city", "price"))),
        (
            asking("category", "city", order="star_rating"),
            declaring(("category", "star_rating"), ("city", "-star_rating")),
        ),
        (asking("city"), declaring(exempt=("city",))),
        (asking("address.city"), declaring(exempt=("address",))),
        (asking(order="population"), declaring(exempt=("population",))),
        (asking(order="__name__", direction=DESCENDING), declaring()),
    ],
)
def test_does_not_serve(query: Any, file: dict[str, Any]) -> None:
    """An index does not serve if its order differs, it lacks a filter, or a field too many stands before the order."""
    assert not is_served(query, file)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b", ("a", "b")),
        ("`a.b`", ("a.b",)),
        ("`a`.b", ("a", "b")),
        (r"`\``", ("`",)),
        (r"`\\`", ("\\",)),
    ],
)
def test_field_paths_are_read_as_firestore_reads_them(text: str, path: tuple[str, ...]) -> None:
    """Quotes hold what would separate."""
    assert path == path_of(text)
