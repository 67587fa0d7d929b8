"""Deleting flow states with their parts."""

from __future__ import annotations

import asyncio
import random

from .._document.parts import COLLECTION as PARTS
from .._document.refusals import conflict
from .._document.root import PAYLOAD, moment_of
from .._document.version import Moment, Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, StructuredQuery, Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import StoreUnavailableError
from .collection import Collection
from .landing import PRECONDITION_CODES, at, found_version
from .reading import load_root

_MASK = ["flowId", f"{PAYLOAD}.parts"]


async def delete(collection: Collection, id: str, *, deadline: Deadline) -> None:
    """Delete what is stored under the id, if anything is."""
    created: Moment | None = None
    delay = 0.0
    while True:
        document = await collection.get(id, deadline, mask=_MASK)
        if document is None or (created is not None and moment_of(document.create_time) > created):
            return  # gone, or gone and there again since our delete was sent
        names = await part_names(collection, id, deadline) if _has_parts(document) else []
        try:
            await _commit(collection, id, names, moment_of(document.update_time), deadline)
        except Ambiguous:
            created = moment_of(document.create_time)
        except Refused as refusal:
            if refusal.code not in PRECONDITION_CODES:
                raise collection.connection.refusal(refusal, flow_id=id) from refusal
        else:
            return
        await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311  # jitter is no secret
        delay = min(delay * 2 + 0.01, 1.0)


async def delete_version(collection: Collection, id: str, base: Version, *, deadline: Deadline) -> None:
    """Delete what is stored under the id if it is that version.

    Raises:
        FlowStateConflictError: It is another, or there is nothing.
        StoreUnavailableError: Firestore could not be reached, or the outcome cannot be known.
    """
    doubt = False
    updated, names = base.updated, base.part_names()
    expected = base.to_text(collection.path_of(id))
    while True:
        try:
            return await _commit(collection, id, names, updated, deadline)
        except Ambiguous:
            doubt = True
        except Refused as refusal:
            if not _may_be_precondition(refusal):
                raise collection.connection.refusal(refusal, flow_id=id) from refusal
        try:
            document = await collection.get(id, deadline)
        except StoreUnavailableError as error:
            error.outcome_unknown = error.outcome_unknown or doubt
            raise
        if document is None or (doubt and moment_of(document.create_time) > base.updated):
            if doubt:
                return None  # gone; or gone and there again since
            raise conflict(id, expected=expected, found=None)
        root = load_root(document)
        if moment_of(document.update_time) != base.updated and (root is None or root.revision != base.revision):
            raise conflict(id, expected=expected, found=found_version(collection, document))
        updated = moment_of(document.update_time)
        names = [name for kept in root.kept() for name in kept.part_names()] if root is not None else []


def _may_be_precondition(refusal: Refused) -> bool:
    # A version later than what is stored is an invalid argument to Firestore.
    return refusal.code in PRECONDITION_CODES or refusal.code == "INVALID_ARGUMENT"


async def delete_version_of(collection: Collection, id: str, document: Document, *, deadline: Deadline) -> None:
    """Delete a document as it was read, with its parts.

    Raises:
        Refused: It was written since.
        Ambiguous: The reply was lost.
    """
    names = await part_names(collection, id, deadline) if _has_parts(document) else []
    await _commit(collection, id, names, moment_of(document.update_time), deadline)


async def part_names(collection: Collection, id: str, deadline: Deadline) -> list[str]:
    """Return the ids of every part below a flow state, named by its root or not."""
    query = StructuredQuery()
    query.from_.add().collection_id = PARTS
    query.select.fields.add().field_path = "__name__"
    documents = await collection.connection.run_query(collection.name(id), query, deadline=deadline)
    return [document.name.rpartition("/")[2] for document in documents]


async def _commit(collection: Collection, id: str, parts: list[str], updated: Moment, deadline: Deadline) -> None:
    root = Write(delete=collection.name(id), current_document=at(updated))
    gone = [Write(delete=collection.part_name(id, part)) for part in parts]
    await collection.connection.commit([root, *gone], deadline=deadline, flow_id=id)


def _has_parts(document: Document) -> bool:
    payload = document.fields[PAYLOAD].map_value.fields if PAYLOAD in document.fields else {}
    return "parts" in payload and payload["parts"].integer_value > 0
