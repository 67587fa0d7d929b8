"""Looking at what is stored, as it is stored: for people and for tools.

``flowstate show`` and ``flowstate delete`` are built on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ._document.ids import check_flow_id
from .firestore import FirestoreFlowStateStore

__all__ = ["StoredDocument", "absent_ids", "ids_beginning_with", "stored_document"]


@dataclass(frozen=True, kw_only=True)
class StoredDocument:
    """The document of a flow state, whether anybody can read it or not, and whether it has expired or not.

    Attributes:
        document: It, as Firestore's REST interface has documents: name, createTime, updateTime, and fields by type.
        layout: "serialized" or "native".
        size_bytes: Its size by Firestore's rules for storage, which a limit of 1,048,576 holds for.
        parts: How many other documents it refers to.
        part_bytes: The bytes of what is kept in them.
    """

    document: Mapping[str, Any]
    layout: Literal["serialized", "native"]
    size_bytes: int
    parts: int
    part_bytes: int


async def stored_document(
    store: FirestoreFlowStateStore, id: str, *, timeout: float | None = None
) -> StoredDocument | None:
    """Return the document that is stored under the id, or None. One read.

    Raises:
        InvalidFlowIdError: The id cannot name a document.
        BackendError: Firestore cannot be reached, or refuses.
    """
    check_flow_id(id)
    deadline = store._deadline(timeout)
    collection = await store._ready(deadline)
    from ._document.root import is_serialized
    from ._operations.inspecting import sizes_of
    from ._rpc.rest_form import rest_form

    document = await collection.get(id, deadline)
    if document is None:
        return None
    sizes = sizes_of(collection, document)
    return StoredDocument(
        document=rest_form(document),
        layout="serialized" if is_serialized(document) else "native",
        size_bytes=sizes.document,
        parts=sizes.parts,
        part_bytes=sizes.part_bytes,
    )


async def ids_beginning_with(
    store: FirestoreFlowStateStore, prefix: str, *, limit: int = 10, timeout: float | None = None
) -> Sequence[str]:
    """Return the first ids that begin so, in the order of ids; expired states are passed over. A read each.

    Raises:
        InvalidFlowIdError: No id can begin so.
        BackendError: Firestore cannot be reached, or refuses.
    """
    check_flow_id(prefix)
    deadline = store._deadline(timeout)
    collection = await store._ready(deadline)
    from ._operations.inspecting import ids_beginning_with

    return await ids_beginning_with(collection, prefix, limit, deadline)


async def absent_ids(
    store: FirestoreFlowStateStore, ids: Iterable[str], *, timeout: float | None = None
) -> Sequence[str]:
    """Return those of the ids under which nothing is stored, in their order. A read each.

    Ids that cannot name a document are passed over. An expired state is there until it is deleted.

    Raises:
        BackendError: Firestore cannot be reached, or refuses.
    """
    deadline = store._deadline(timeout)
    collection = await store._ready(deadline)
    from ._operations.inspecting import absent

    return await absent(collection, ids, deadline)
