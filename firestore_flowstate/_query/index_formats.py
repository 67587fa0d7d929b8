"""Index configurations as files: for firebase-tools and for Terraform."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from .indexes import Exemption, Index, IndexConfiguration


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
    resources = [*map(_index, configuration.indexes), *map(_exemption, configuration.exemptions)]
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


def _index(index: Index) -> _Resource:
    return _Resource(
        "google_firestore_index",
        _name(index.collection_id, "by", *(field for field, _ in index.fields[:-1])),
        {"collection": index.collection_id, "query_scope": "COLLECTION"},
        "".join(
            f"\n  fields {{\n{_attributes({'field_path': field, 'order': direction}, indent=4)}  }}\n"
            for field, direction in index.fields
        ).removeprefix("\n"),
    )


def _exemption(exemption: Exemption) -> _Resource:
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
    """Return the names, numbered if two fields differ only in what no name of a resource can have."""
    found: list[str] = []
    for name in names:
        number, numbered = 1, name
        while numbered in found:
            number += 1
            numbered = f"{name}_{number}"
        found.append(numbered)
    return found
