"""Which indexes serve a query, by Firestore's rules: the emulator answers every query without any.

What Firestore makes by itself, and what a definition means:

- Every field has a single-field index in either direction, for queries of one collection, unless an override of the
  field or of a map around it says otherwise. A composite index may have a field that has no index by itself.
  https://firebase.google.com/docs/firestore/query-data/index-overview#single-field_indexes
- Every index ends with the name of the document, in the direction of the field before.
  https://firebase.google.com/docs/firestore/query-data/index-overview#index_definition_and_structure
- A query in the ascending order of names alone needs no index, in a collection group neither.
  https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#partitionqueryrequest, which asks for one

Which serve:

- An index answers equality filters by its first fields, in any order and direction, and inequality and order by the
  rest, field by field in their directions.
  https://cloud.google.com/appengine/articles/indexselection (Alfred Fuller, of the database's makers)
- Several indexes are merged if each answers some of the equality filters, all together answer all of them, and
  the rest of each is the same.
  https://firebase.google.com/docs/firestore/query-data/index-overview#taking_advantage_of_index_merging,
  https://cloud.google.com/datastore/docs/concepts/optimize-indexes, https://stackoverflow.com/a/33117878
- A count uses the index of its query.
  https://firebase.google.com/docs/firestore/query-data/aggregation-queries#limitations
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from firestore_flowstate._rpc.messages import StructuredQuery

Path = tuple[str, ...]
NAME: Path = ("__name__",)

_EQUAL = StructuredQuery.FieldFilter.Operator.EQUAL
_IN = StructuredQuery.FieldFilter.Operator.IN
_DESCENDING = StructuredQuery.Direction.DESCENDING
_DIRECTIONS = {"ASCENDING": 1, "DESCENDING": -1}
_SEGMENT = re.compile(r"`((?:[^`\\]|\\.)*)`|([^.`]+)")


class Needs(NamedTuple):
    """What a query needs of its indexes: the fields it compares for equality, and the order of the rest."""

    collection_id: str
    in_group: bool
    equal: frozenset[Path]
    order: tuple[tuple[Path, int], ...]


def needs(query: Any) -> Needs:
    """Return what a query needs."""
    [source] = query.from_
    equal, unequal = set(), []
    for member in query.where.composite_filter.filters:
        path = path_of(member.field_filter.field.field_path)
        if member.field_filter.op in (_EQUAL, _IN):  # a query for each of the values, in one
            equal.add(path)
        else:
            unequal.append(path)
    order = [(path_of(o.field.field_path), -1 if o.direction == _DESCENDING else 1) for o in query.order_by]
    assert len(set(unequal)) <= 1, "one field with inequality"
    assert not unequal or order[0][0] == unequal[0], "inequality on what the order begins with"
    if not order or order[-1][0] != NAME:
        order.append((NAME, order[-1][1] if order else 1))
    return Needs(source.collection_id, source.all_descendants, frozenset(equal), tuple(order))


def is_served(query: Any, file: Mapping[str, Any]) -> bool:
    """Return whether the indexes of a firestore.indexes.json, with those that Firestore makes, serve the query."""
    asked = needs(query)
    if not asked.equal and asked.order == ((NAME, 1),):
        return True
    if asked.in_group:
        return False  # none of our indexes is one of a collection group
    usable = [
        prefix
        for fields in (*_composites(file, asked.collection_id), *_automatic(file, asked))
        if (prefix := _prefix(fields, asked)) is not None
    ]
    if not asked.equal:
        return frozenset() in usable
    return asked.equal == frozenset().union(*usable)


def path_of(text: str) -> Path:
    """Return the names that a field path is made of."""
    return tuple(re.sub(r"\\(.)", r"\1", quoted) if quoted else plain for quoted, plain in _SEGMENT.findall(text))


def _prefix(fields: Sequence[tuple[Path, int]], asked: Needs) -> frozenset[Path] | None:
    """Return the equality filters that an index answers, or None if it cannot take part."""
    split = len(fields) - len(asked.order)
    if split < 0 or tuple(fields[split:]) != asked.order:
        return None
    prefix = frozenset(path for path, _ in fields[:split])
    return prefix if prefix <= asked.equal else None


def _composites(file: Mapping[str, Any], collection_id: str) -> Iterable[list[tuple[Path, int]]]:
    for index in file["indexes"]:
        if index["collectionGroup"] == collection_id and index["queryScope"] == "COLLECTION":
            fields = [(path_of(field["fieldPath"]), _DIRECTIONS[field["order"]]) for field in index["fields"]]
            yield [*fields, (NAME, fields[-1][1])]


def _automatic(file: Mapping[str, Any], asked: Needs) -> Iterable[list[tuple[Path, int]]]:
    overridden = [
        path_of(override["fieldPath"])
        for override in file["fieldOverrides"]
        if override["collectionGroup"] == asked.collection_id
    ]
    for path in {*asked.equal, *(path for path, _ in asked.order)} - {NAME}:
        if not any(path[: len(over)] == over for over in overridden):
            for direction in (1, -1):
                yield [(path, direction), (NAME, direction)]
