"""Looking at documents by their ids, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._collection.collection import Collection, is_live
from .._document.ids import check_flow_id
from .._document.parts import part_count
from .._document.root import is_serialized
from .._document.sizes import document_size
from .._document.version import Layout
from .._rpc.deadline import Deadline
from .._rpc.messages import Cursor, Document, Int32Value, StructuredQuery
from .._rpc.rest_form import rest_form
from ..errors import InvalidFlowIdError
from .reading import load_root

_AT_ONCE = 300  # documents of one read


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """A document as it is stored: in the form of REST, with its size by Firestore's rules and those of its parts."""

    rest: Mapping[str, Any]
    layout: Layout
    size: int
    parts: int
    part_bytes: int


def form_of(collection: Collection, document: Document) -> StoredForm:
    """Return the form of a document, whether anybody can read it as a flow state or not."""
    root = load_root(document)
    refs = () if root is None else root.refs
    path = collection.path_of(collection.id_of(document))
    return StoredForm(
        rest=rest_form(document),
        layout="serialized" if is_serialized(document) else "native",
        size=document_size(path, document.fields),
        parts=part_count(refs),
        part_bytes=sum(ref.bytes for ref in refs),
    )


async def ids_beginning_with(collection: Collection, prefix: str, limit: int, deadline: Deadline) -> list[str]:
    """Return the first ids of live documents that begin so, in the order of ids."""
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    query.order_by.add().field.field_path = "__name__"
    query.select.fields.add().field_path = "expireAt"
    found: list[str] = []
    begin = Cursor(before=True)
    begin.values.add().reference_value = collection.name(prefix)
    query.start_at.CopyFrom(begin)
    query.limit.CopyFrom(Int32Value(value=limit))
    while len(found) < limit:
        documents = await collection.connection.run_query(collection.parent, query, deadline=deadline)
        for document in documents:
            if not collection.id_of(document).startswith(prefix):
                return found
            if is_live(document):
                found.append(collection.id_of(document))
        if len(documents) < limit:
            break
        query.start_at.before = False
        query.start_at.values[0].reference_value = documents[-1].name
    return found[:limit]


async def absent(collection: Collection, ids: Iterable[str], deadline: Deadline) -> list[str]:
    """Return the ids under which nothing is stored; expired states are there until they are deleted."""
    names = {collection.name(id): id for id in dict.fromkeys(ids) if _is_id(id)}
    asked = list(names)
    for start in range(0, len(asked), _AT_ONCE):
        batch = asked[start : start + _AT_ONCE]
        for name in await collection.connection.batch_get(batch, deadline=deadline, mask=["flowId"]):
            del names[name]
    return list(names.values())


def _is_id(id: str) -> bool:
    try:
        check_flow_id(id)
    except InvalidFlowIdError:
        return False
    return True
