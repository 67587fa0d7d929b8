"""The index that a query lacks, as an entry of firestore.indexes.json, from the link in Firestore's refusal."""

from __future__ import annotations


def index_entry(message: str) -> dict[str, object] | None:
    """Return the entry for the index that the message links to; None where there is no link that can be read."""
    return None
