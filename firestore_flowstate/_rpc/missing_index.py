"""The index that a query lacks, as an entry of firestore.indexes.json, read out of Firestore's refusal.

The refusal ends in a link to the console, whose parameter `create_composite` is a serialized google.firestore.admin.v1
Index in base64. That is not a documented interface: what cannot be read gives None, and the link serves the reader.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

_LINK: Final = re.compile(r"https://\S*[?&]create_composite=([A-Za-z0-9_%+/-]+)")
_NAME: Final = re.compile(r"/collectionGroups/([^/]+)(?:/|$)")
_SCOPES: Final = {1: "COLLECTION", 2: "COLLECTION_GROUP"}
_ORDERS: Final = {1: "ASCENDING", 2: "DESCENDING"}


def index_entry(message: str) -> dict[str, object] | None:
    """Return the entry for the index that the message links to; None if there is no link that can be read."""
    link = _LINK.search(message)
    if link is None:
        return None
    from google.cloud.firestore_admin_v1 import types
    from google.protobuf.message import DecodeError

    try:
        index = types.Index.pb().FromString(_decoded(link[1]))
    except (binascii.Error, DecodeError, ValueError):
        return None
    collection = _NAME.search(index.name)
    fields = [_field(field) for field in index.fields]
    if collection is None or index.query_scope not in _SCOPES or not fields or None in fields:
        return None
    return {
        "collectionGroup": collection[1],
        "queryScope": _SCOPES[index.query_scope],
        "fields": _without_implied_name(fields),
    }


def _decoded(text: str) -> bytes:
    text = text.replace("%3D", "").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _field(field: Any) -> dict[str, str] | None:
    if field.order in _ORDERS:
        return {"fieldPath": field.field_path, "order": _ORDERS[field.order]}
    if field.array_config:
        return {"fieldPath": field.field_path, "arrayConfig": "CONTAINS"}
    return None


def _without_implied_name(fields: list[Any]) -> list[Any]:
    """Return the fields as firebase-tools writes them: it adds the name itself, in the order of the field before."""
    *others, last = fields
    implied = others[-1].get("order", "ASCENDING") if others else None
    return others if last["fieldPath"] == "__name__" and last.get("order") == implied else fields
