"""Looking at what is stored, as it is stored: for people and for tools.

``flowstate show`` and ``flowstate delete`` are built on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from . import _operations
from ._limits import check_flow_id
from .firestore import FirestoreFlowStateStore

__all__ = ["InspectedDocument", "absent_ids", "ids_beginning_with", "inspect_document"]


@dataclass(frozen=True, kw_only=True)
class InspectedDocument:
    """The document of a flow state, even if it has expired or cannot be read as a flow state.

    Attributes:
        document: The document as Firestore's REST interface has it: name, createTime, updateTime, and fields by type.
        layout: "serialized" or "native".
        size_bytes: The size of the document in bytes, by Firestore's rules for storage. Firestore's limit is 1,048,576.
        parts: How many other documents it refers to.
        part_bytes: How many bytes are kept in these.
    """

    document: Mapping[str, Any]
    layout: Literal["serialized", "native"]
    size_bytes: int
    parts: int
    part_bytes: int


async def inspect_document(
    store: FirestoreFlowStateStore, id: str, *, timeout: float | None = None
) -> InspectedDocument | None:
    """Return the document that is stored under the id, or None. It costs one read.

    ::

        document = await inspect_document(store, "order-17")

    Args:
        store: The store.
        id: The key.
        timeout: Seconds, retries included; None: those of the settings.

    Raises:
        InvalidFlowIdError: The id cannot name a document.
        BackendError: Firestore cannot be reached, or refuses.
    """
    check_flow_id(id)
    collection, deadline = await store._begin(timeout)
    document = await collection.get(id, deadline)
    if document is None:
        return None
    form = _operations.examining.form_of(collection, document)
    return InspectedDocument(
        document=form.rest,
        layout=form.layout,
        size_bytes=form.size,
        parts=form.parts,
        part_bytes=form.part_bytes,
    )


async def ids_beginning_with(
    store: FirestoreFlowStateStore, prefix: str, *, limit: int = 10, timeout: float | None = None
) -> Sequence[str]:
    """Return the first ids with this prefix, in the order of ids, without those of expired states.

    Each document that it looks at costs a read, expired ones too.

    ::

        ids = await ids_beginning_with(store, "order-")

    Args:
        store: The store.
        prefix: The beginning of the ids.
        limit: How many ids at most.
        timeout: Seconds, retries included; None: those of the settings.

    Raises:
        InvalidFlowIdError: No id can begin so.
        BackendError: Firestore cannot be reached, or refuses.
    """
    check_flow_id(prefix)
    collection, deadline = await store._begin(timeout)
    return await _operations.examining.ids_beginning_with(collection, prefix, limit, deadline)


async def absent_ids(
    store: FirestoreFlowStateStore, ids: Iterable[str], *, timeout: float | None = None
) -> Sequence[str]:
    """Return those of the ids under which nothing is stored, in their order. Each id costs a read.

    Ids that cannot name a document are left out. A state that has expired counts as stored until it is deleted.

    ::

        missing = await absent_ids(store, ["order-17", "order-18"])

    Args:
        store: The store.
        ids: The keys, any number.
        timeout: Seconds, retries included; None: those of the settings.

    Raises:
        BackendError: Firestore cannot be reached, or refuses.
    """
    collection, deadline = await store._begin(timeout)
    return await _operations.examining.absent(collection, ids, deadline)
