"""The indexes that the queries of a store need, the fields that need none, and both as files.

Firestore serves a list with an equality filter by an index that has the filtered field before startTime. It serves
several filters by a merge of such indexes, since all of them end alike. So one composite index for each filter is
enough for every combination. What is due is asked for in the order of wakeAt, for which the automatic index serves.
With several shards each index starts with the shard, and no other index may have startTime or wakeAt: an index that
begins with either takes at most 500 writes a second.

Sources: https://firebase.google.com/docs/firestore/query-data/index-overview#taking_advantage_of_index_merging and
https://firebase.google.com/docs/firestore/solutions/shard-timestamp
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from .._document.head import EXPIRY, WAKE_AT
from .._document.stored_values import DATA, PARTS
from .._limits import field_path
from .._own_fields import PAYLOAD
from ..query import FlowStateQuery

Direction = Literal["ASCENDING", "DESCENDING"]

_FILTERED: Final = ("status", "name", "blockedOnStep.name")
_FILTERED_NATIVE: Final = "operation.done"  # native documents are filtered by it, as they have no status
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
        fields: Field paths with the direction of each. Firestore adds the name of the document by itself.
    """

    collection_id: str
    fields: tuple[tuple[str, Direction], ...]


@dataclass(frozen=True)
class Exemption:
    """A field without the single-field indexes that Firestore makes by itself.

    Attributes:
        collection_id: The last name of the collections' paths.
        field: The field path. What is inside a map is exempt with it.
        ttl: Whether the field has a TTL policy: Firestore deletes documents after the time in it.
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
        shards: The number of shards. The configuration is the same for all numbers above 1.
        where: The unknown keys that queries filter by.
        unsharded_too: Keep the indexes of one shard beside those of several, for the time in which stores of both
            settings run.

    Raises:
        InvalidQueryError: `where` has a key that no query can filter by.
    """
    collection_id = collection.rpartition("/")[2]
    unsharded = shards == 1 or unsharded_too
    keys = [field_path(key) for key in FlowStateQuery(where=dict.fromkeys(where, 0)).where]
    indexes = []
    if unsharded:
        indexes += [_filtered_by(collection_id, key) for key in (*_FILTERED, _FILTERED_NATIVE, *keys)]
    if shards > 1:
        indexes.append(_filtered_by(collection_id, "shard"))
        indexes.append(Index(collection_id, (("shard", "ASCENDING"), (WAKE_AT, "ASCENDING"))))
        indexes += [_filtered_by(collection_id, "shard", key) for key in (*_FILTERED, *keys)]
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


def _filtered_by(collection_id: str, *equal: str) -> Index:
    return Index(collection_id, (*((field, "ASCENDING") for field in equal), ("startTime", "DESCENDING")))


def to_firebase(configuration: IndexConfiguration) -> str:
    """Return the configuration as firestore.indexes.json.

    Format: https://firebase.google.com/docs/reference/firestore/indexes
    """
    indexes = [
        {
            "collectionGroup": index.collection_id,
            "queryScope": "COLLECTION",
            "fields": [{"fieldPath": field, "order": direction} for field, direction in index.fields],
        }
        for index in configuration.indexes
    ]
    overrides = [
        {
            "collectionGroup": exemption.collection_id,
            "fieldPath": exemption.field,
            **({"ttl": True} if exemption.ttl else {}),
            "indexes": [],
        }
        for exemption in configuration.exemptions
    ]
    return json.dumps({"indexes": indexes, "fieldOverrides": overrides}, indent=2, ensure_ascii=False) + "\n"


def to_terraform(configuration: IndexConfiguration, *, database: str, project: str | None) -> str:
    """Return the configuration as resources of Terraform's google provider, laid out as `terraform fmt` does.

    Format: https://registry.terraform.io/providers/hashicorp/google/latest/docs/resources/firestore_index and
    https://registry.terraform.io/providers/hashicorp/google/latest/docs/resources/firestore_field

    Args:
        configuration: What to write.
        database: The id of the database.
        project: The id of the project; None: the provider's.
    """
    place = {"database": database} if project is None else {"project": project, "database": database}
    resources = [*map(_index_resource, configuration.indexes), *map(_exemption_resource, configuration.exemptions)]
    names = _unique([resource.name for resource in resources])
    return "\n".join(
        f'resource "{resource.kind}" "{name}" {{\n'
        f"{_attributes({**place, **resource.attributes}, indent=2)}\n{resource.blocks}}}\n"
        for resource, name in zip(resources, names, strict=True)
    )


class _Resource(NamedTuple):
    kind: str
    name: str
    attributes: dict[str, str]
    blocks: str


def _index_resource(index: Index) -> _Resource:
    return _Resource(
        "google_firestore_index",
        _name(index.collection_id, "by", *(field for field, _ in index.fields[:-1])),
        {"collection": index.collection_id, "query_scope": "COLLECTION"},
        "".join(
            f"\n  fields {{\n{_attributes({'field_path': field, 'order': direction}, indent=4)}  }}\n"
            for field, direction in index.fields
        ).removeprefix("\n"),
    )


def _exemption_resource(exemption: Exemption) -> _Resource:
    # An empty index_config stands for no index at all, an absent one for the usual ones.
    return _Resource(
        "google_firestore_field",
        _name(exemption.collection_id, exemption.field),
        {"collection": exemption.collection_id, "field": exemption.field},
        "  index_config {}\n" + ("  ttl_config {}\n" if exemption.ttl else ""),
    )


def _attributes(attributes: dict[str, str], *, indent: int) -> str:
    width = max(map(len, attributes))
    return "".join(f"{' ' * indent}{name:{width}} = {_text(text)}\n" for name, text in attributes.items())


def _text(text: str) -> str:
    """Return a string of Terraform's language, in which ``${`` and ``%{`` begin a template."""
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(r"([$%])\{", r"\1\1{", quoted)


def _name(*parts: str) -> str:
    slug = re.sub(r"[^A-Za-z0-9]+", "_", "_".join(parts)).strip("_")
    return slug if slug[:1].isalpha() else f"f_{slug}"


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names, each once: repetitions get a number. Fields may differ in characters that names cannot have."""
    found: list[str] = []
    for name in names:
        number, numbered = 1, name
        while numbered in found:
            number += 1
            numbered = f"{name}_{number}"
        found.append(numbered)
    return found
