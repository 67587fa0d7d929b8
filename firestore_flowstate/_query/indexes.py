"""The indexes that the queries of a store need, and the fields that need none.

Firestore serves equality filters in the order of startTime by an index that has the filtered field before startTime,
and several filters by a merge of such indexes, since all of them end alike. So one composite index a filter is enough
for every combination. What is due is asked in the order of wakeAt, for which the automatic index serves. Over several
shards each index starts with the shard, and nothing else may index startTime and wakeAt: that is what lifts the limit
of 500 writes a second.

Sources: https://firebase.google.com/docs/firestore/query-data/index-overview#taking_advantage_of_index_merging and
https://firebase.google.com/docs/firestore/solutions/shard-timestamp
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .._document.head import EXPIRY, WAKE_AT
from .._document.parts import COLLECTION as PARTS
from .._document.parts import DATA
from .._document.root import PAYLOAD
from .._limits import field_path
from ..query import FlowStateQuery

Direction = Literal["ASCENDING", "DESCENDING"]

_FILTERED: Final = ("status", "name", "blockedOnStep.name")
_FILTERED_NATIVE: Final = "operation.done"  # what tells of the status of a native document
_EXEMPT: Final = (PAYLOAD, "summary", "shard")
_EXEMPT_NATIVE: Final = (
    "input",
    "cache",
    "eventsTriggered",
    "executions",
    "traceContext",
    "blockedOnStep.schema",
    "operation.metadata",  # not the whole operation: a query of one's own may ask for operation.done alone
    "operation.result",
)


@dataclass(frozen=True)
class Index:
    """A composite index on one collection at a time.

    Attributes:
        collection_id: The last name of the collections' paths.
        fields: Field paths with the direction of each; the name of the document follows by itself.
    """

    collection_id: str
    fields: tuple[tuple[str, Direction], ...]


@dataclass(frozen=True)
class Exemption:
    """A field without the single-field indexes that Firestore makes by itself.

    Attributes:
        collection_id: The last name of the collections' paths.
        field: The field path. What is inside a map is exempt with it.
        ttl: Whether documents are to be deleted at the time that the field has.
    """

    collection_id: str
    field: str
    ttl: bool = False


@dataclass(frozen=True)
class IndexConfiguration:
    """Composite indexes, and fields without index."""

    indexes: Sequence[Index]
    exemptions: Sequence[Exemption]


def index_configuration(
    collection: str, *, shards: int = 1, where: Iterable[str] = (), unsharded_too: bool = False
) -> IndexConfiguration:
    """Return the configuration that the queries of a store need.

    Args:
        collection: The path of the collection.
        shards: The number of shards; only whether it is more than 1 counts.
        where: The unknown keys that queries filter by.
        unsharded_too: Keep the indexes of one shard beside those of several, for as long as stores of both
            settings run.

    Raises:
        InvalidQueryError: `where` has a key that no query can filter by.
    """
    collection_id = collection.rpartition("/")[2]
    unsharded = shards == 1 or unsharded_too
    keys = [field_path(key) for key in FlowStateQuery(where=dict.fromkeys(where, 0)).where]
    indexes = []
    if unsharded:
        indexes += [_index(collection_id, key) for key in (*_FILTERED, _FILTERED_NATIVE, *keys)]
    if shards > 1:
        indexes.append(_index(collection_id, "shard"))
        indexes.append(Index(collection_id, (("shard", "ASCENDING"), (WAKE_AT, "ASCENDING"))))
        indexes += [_index(collection_id, "shard", key) for key in (*_FILTERED, *keys)]
    exempt = [*_EXEMPT, *(() if unsharded else ("startTime", WAKE_AT)), *_EXEMPT_NATIVE]
    return IndexConfiguration(
        indexes,
        [
            *(Exemption(collection_id, field) for field in exempt),
            Exemption(collection_id, EXPIRY, ttl=True),
            Exemption(PARTS, DATA),
            Exemption(PARTS, EXPIRY, ttl=True),
        ],
    )


def _index(collection_id: str, *equal: str) -> Index:
    return Index(collection_id, (*((field, "ASCENDING") for field in equal), ("startTime", "DESCENDING")))
