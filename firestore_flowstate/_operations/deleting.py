"""Deleting flow states with their parts."""

from __future__ import annotations

from .._collection.collection import Collection, is_live
from .._commit.backoff import Backoff
from .._commit.commit import PRECONDITION_CODES, found_version, if_updated_at, is_version
from .._commit.history import Forgotten, history_since
from .._document.error_texts import conflict, outcome_unknown
from .._document.parts import COLLECTION as PARTS
from .._document.parts import part_ids
from .._document.root import PAYLOAD, moment_of
from .._document.version import Moment, Version
from .._rpc.clock import monotonic
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, StructuredQuery, Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateConflictError, StoreUnavailableError
from .reading import load_root

_MASK = ["flowId", f"{PAYLOAD}.parts"]


async def delete(
    collection: Collection,
    id: str,
    *,
    deadline: Deadline,
    in_doubt: Moment | None = None,
    lost: Ambiguous | None = None,
) -> None:
    """Delete what is stored under the id, if anything is.

    Args:
        collection: Where.
        id: The flow state.
        deadline: When to give up.
        in_doubt: The create_time of a document whose deletion was sent before, with an unknown outcome.
        lost: How the reply was lost then.

    Raises:
        StoreUnavailableError: Firestore could not be reached, or the outcome cannot be known.
    """
    backoff = Backoff(deadline)
    document: Document | None = None
    refusal: Refused | None = None
    while True:
        try:
            document = await collection.get(id, deadline, mask=_MASK)
            if document is None or (in_doubt is not None and moment_of(document.create_time) > in_doubt):
                return  # gone, or gone and there again since our delete was sent
            names = await part_names(collection, id, deadline) if has_parts(document) else []
            await _commit(collection, id, names, moment_of(document.update_time), deadline)
        except Ambiguous as ambiguous:
            assert document is not None  # noqa: S101  # for mypy: it is what was to be deleted
            in_doubt, lost = moment_of(document.create_time), ambiguous
        except Refused as refused:
            if refused.code not in PRECONDITION_CODES:
                raise collection.connection.refusal(refused, flow_id=id) from refused
            refusal = refused
        except BackendError as error:
            error.__cause__ = error.__cause__ or lost or refusal  # what took the time
            if in_doubt is None:
                raise
            raise outcome_unknown(id, error, lost=lost) from error
        else:
            return
        await backoff.pause()


async def delete_version(collection: Collection, id: str, base: Version, *, deadline: Deadline) -> None:
    """Delete what is stored under the id if it is that version.

    Raises:
        FlowStateConflictError: It is another, or there is nothing.
        StoreUnavailableError: Firestore could not be reached, or the outcome cannot be known.
    """
    began = monotonic()
    doubt, lost, refusal = False, None, None
    if base.has_expired():
        raise _conflict(collection, id, base, await collection.get(id, deadline))
    updated, names = base.updated, await part_names(collection, id, deadline) if base.part_count > 0 else []
    backoff = Backoff(deadline, at_once=1)
    while True:
        try:
            return await _commit(collection, id, names, updated, deadline)
        except Ambiguous as ambiguous:
            doubt, lost = True, ambiguous
        except Refused as refused:
            if not _may_be_precondition(refused):
                raise collection.connection.refusal(refused, flow_id=id) from refused
            refusal = refused
        except StoreUnavailableError as error:
            error.__cause__ = error.__cause__ or lost or refusal
            if not doubt:
                raise
            raise outcome_unknown(id, error, lost=lost) from error
        await backoff.pause()
        try:
            document = await collection.get(id, deadline)
            if document is None or not is_version(document, base):
                if doubt and await _was_deleted(collection, id, base, document, began, deadline):
                    return None
                raise _conflict(collection, id, base, document)
            if not is_live(document):
                raise _conflict(collection, id, base, document)
        except (BackendError, Forgotten) as error:
            error.__cause__ = error.__cause__ or lost or refusal
            if not doubt:
                raise
            raise outcome_unknown(id, error, lost=lost) from error
        if refusal is not None and refusal.code == "INVALID_ARGUMENT" and moment_of(document.update_time) == updated:
            raise collection.connection.refusal(refusal, flow_id=id) from refusal  # its time is no reason
        root = load_root(document)
        updated = moment_of(document.update_time)
        names = [] if root is None else part_ids(root.refs)


def _conflict(collection: Collection, id: str, base: Version, document: Document | None) -> FlowStateConflictError:
    found = None if document is None else found_version(collection, document)
    return conflict(id, expected=base.to_text(collection.path_of(id)), found=found)


async def _was_deleted(
    collection: Collection, id: str, base: Version, document: Document | None, began: float, deadline: Deadline
) -> bool:
    """Return whether the version was deleted, by us or by another, which nothing tells apart."""
    root = None if document is None else load_root(document)
    if root is not None and base.revision in root.ids:
        return False  # it goes on in what is there now
    history = await history_since(collection, id, began, deadline)
    topped = await history.first_on(lambda stored: is_version(stored, base), base.updated, document)
    return topped is not None and topped.top is None


def _may_be_precondition(refusal: Refused) -> bool:
    # A version later than what is stored is an invalid argument to Firestore.
    return refusal.code in PRECONDITION_CODES or refusal.code == "INVALID_ARGUMENT"


async def delete_version_of(collection: Collection, id: str, document: Document, *, deadline: Deadline) -> None:
    """Delete a document as it was read, with its parts.

    Raises:
        Refused: It was written since.
        Ambiguous: The reply was lost.
    """
    names = await part_names(collection, id, deadline) if has_parts(document) else []
    await _commit(collection, id, names, moment_of(document.update_time), deadline)


async def part_names(collection: Collection, id: str, deadline: Deadline) -> list[str]:
    """Return the ids of every part below a flow state, named by its root or not."""
    query = StructuredQuery()
    query.from_.add().collection_id = PARTS
    query.select.fields.add().field_path = "__name__"
    documents = await collection.connection.run_query(collection.name(id), query, deadline=deadline)
    return [document.name.rpartition("/")[2] for document in documents]


async def _commit(collection: Collection, id: str, parts: list[str], updated: Moment, deadline: Deadline) -> None:
    root = Write(delete=collection.name(id), current_document=if_updated_at(updated))
    gone = [Write(delete=collection.part_name(id, part)) for part in parts]
    await collection.connection.commit([root, *gone], deadline=deadline, flow_id=id)


def has_parts(document: Document) -> bool:
    """Return whether the root document says that it has parts."""
    payload = document.fields[PAYLOAD].map_value.fields if PAYLOAD in document.fields else {}
    return "parts" in payload and payload["parts"].integer_value > 0
