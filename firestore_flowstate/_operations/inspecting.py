"""Looking at documents by their ids, whatever is in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._collection.collection import Collection
from .._document.stored_document import EXISTENCE, EXPIRY_ALONE, LayoutName, StoredDocument
from .._document.stored_values import part_count
from .._limits import check_flow_id
from .._rpc.deadline import Deadline
from .._rpc.messages import Cursor, Int32Value, StructuredQuery
from .._rpc.rest_form import rest_form
from ..errors import InvalidFlowIdError

_AT_ONCE = 300  # documents of one read


@dataclass(frozen=True, kw_only=True)
class StoredForm:
    """A document as it is stored: in the form of REST, with its size by Firestore's rules and those of its parts."""

    rest: Mapping[str, Any]
    layout: LayoutName
    size: int
    parts: int
    part_bytes: int


def form_of(collection: Collection, document: StoredDocument) -> StoredForm:
    """Return the form of a document, whether anybody can read it as a flow state or not."""
    return StoredForm(
        rest=rest_form(document.message),
        layout=document.layout,
        size=document.size(collection.path_of(document.id)),
        parts=part_count(document.refs),
        part_bytes=sum(ref.bytes for ref in document.refs),
    )


async def ids_beginning_with(collection: Collection, prefix: str, limit: int, deadline: Deadline) -> list[str]:
    """Return the first ids of live documents that begin so, in the order of ids."""
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    query.order_by.add().field.field_path = "__name__"
    for path in EXPIRY_ALONE:
        query.select.fields.add().field_path = path
    found: list[str] = []
    begin = Cursor(before=True)
    begin.values.add().reference_value = collection.name(prefix)
    query.start_at.CopyFrom(begin)
    query.limit.CopyFrom(Int32Value(value=limit))
    while len(found) < limit:
        documents = await collection.connection.run_query(collection.parent, query, deadline=deadline)
        for document in map(StoredDocument, documents):
            if not document.id.startswith(prefix):
                return found
            if document.is_live():
                found.append(document.id)
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
        for name in await collection.connection.batch_get(batch, deadline=deadline, mask=EXISTENCE):
            del names[name]
    return list(names.values())


def _is_id(id: str) -> bool:
    try:
        check_flow_id(id)
    except InvalidFlowIdError:
        return False
    return True
