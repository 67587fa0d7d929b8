"""Loading flow states: the root, then its parts, all as of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .._collection.collection import Collection, expire_after_in, expires_at, is_live
from .._document.log import MAX_IDS
from .._document.moment import moment_of
from .._document.native import owns_expiry, read_native
from .._document.parts import PartRef, part_ids, resolve
from .._document.root import Root, is_serialized, read_root
from .._document.serialized import read_state
from .._document.status_inputs import StatusInputs
from .._document.version import Version
from .._gc_pause import gc_paused
from .._rpc.deadline import Deadline
from .._rpc.gather_or_cancel import gather_or_cancel
from .._rpc.messages import Document, Timestamp
from ..errors import FlowStateDecodeError
from ..models import FlowState

_DECODED_AT_ONCE = 32  # documents between two chances for the garbage collector
_PARTS_AT_ONCE = 64  # the parts of one read: at most 64 MB arrive before they are joined


async def load(collection: Collection, id: str, deadline: Deadline) -> FlowState | None:
    """Return the state stored under the id, or None where there is none or it has expired."""
    document = await collection.get(id, deadline)
    if document is None or not is_live(document):
        return None
    return await state_of(collection, document, deadline)


async def load_live_document(collection: Collection, id: str, deadline: Deadline) -> Document | None:
    """Return the root document stored under the id, or None where there is none or it has expired."""
    document = await collection.get(id, deadline)
    return document if document is not None and is_live(document) else None


def load_root(document: Document) -> Root | None:
    """Return the root of a serialized document; None where it is native or damaged."""
    try:
        return read_root(document) if is_serialized(document) else None
    except FlowStateDecodeError:
        return None


async def state_of(
    collection: Collection, document: Document, deadline: Deadline, *, read_time: Timestamp | None = None
) -> FlowState | None:
    """Return the flow state of a root document, whichever its layout; None where it was deleted since, parts first.

    Args:
        collection: Where.
        document: The root document.
        deadline: When to give up.
        read_time: The time that the root was read as of, for its parts; None: now.

    Raises:
        FlowStateDecodeError: It cannot be read; names the id.
    """
    id = collection.id_of(document)
    try:
        if not is_serialized(document):
            return read_native_document(collection, document)
        root = read_root(document)
        resolved = await fetch(collection, id, root.refs, deadline, read_time=read_time)
        if resolved is None:
            # The root was replaced between the two reads, and its parts went with it.
            return await _state_again(collection, id, deadline)
        return decode(collection, id, document, root, resolved)
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error


def state_of_whole(collection: Collection, document: Document) -> FlowState | None:
    """Return the flow state of a root document that has everything inside, or None where it refers to parts."""
    id = collection.id_of(document)
    try:
        if not is_serialized(document):
            return read_native_document(collection, document)
        root = read_root(document)
        return None if root.refs else decode(collection, id, document, root, {})
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error


def states_of_whole(
    collection: Collection, documents: Sequence[Document]
) -> list[FlowState | FlowStateDecodeError | None]:
    """Return for each root document what `state_of_whole` returns or raises."""
    found: list[FlowState | FlowStateDecodeError | None] = []
    for first in range(0, len(documents), _DECODED_AT_ONCE):
        with gc_paused():
            for document in documents[first : first + _DECODED_AT_ONCE]:
                try:
                    found.append(state_of_whole(collection, document))
                except FlowStateDecodeError as error:
                    found.append(error)
    return found


def check_readable(collection: Collection, document: Document) -> None:
    """Raise FlowStateDecodeError if the document is not to be read at all; for those of whom only the head is read."""
    if is_serialized(document):
        return
    collection.mixing.met_native = True
    try:
        collection.payloads.check_native()
    except FlowStateDecodeError as error:
        raise unreadable(error, collection.id_of(document)) from error


async def states_of(
    collection: Collection, documents: Sequence[Document], deadline: Deadline, *, read_time: Timestamp | None
) -> list[FlowState | FlowStateDecodeError | None]:
    """Return the state of each document, or why it cannot be read; None where it was deleted since, parts first."""
    found = states_of_whole(collection, documents)
    in_parts = [index for index, state in enumerate(found) if state is None]

    async def read(index: int) -> None:
        try:
            found[index] = await state_of(collection, documents[index], deadline, read_time=read_time)
        except FlowStateDecodeError as error:
            found[index] = error

    await gather_or_cancel(read(index) for index in in_parts)
    return found


def unreadable(error: FlowStateDecodeError, id: str) -> FlowStateDecodeError:
    """Return a decode error that names the flow state."""
    if error.flow_id is not None:
        return error
    return FlowStateDecodeError(f"The flow state {id!r} cannot be read: {error}.", flow_id=id)


def read_native_document(collection: Collection, document: Document) -> FlowState:
    """Return the flow state of a native document.

    Raises:
        FlowStateDecodeError: It does not match Genkit's schema, or encryption is required.
    """
    collection.payloads.check_native()
    collection.mixing.met_native = True
    state = read_native(document, flow_id=collection.id_of(document), reference_of=collection.reference_of)
    return native_version_of(document, state).stamp(state, collection.path_of(collection.id_of(document)))


def decode(collection: Collection, id: str, document: Document, root: Root, resolved: Mapping[str, bytes]) -> FlowState:
    """Return the flow state of a serialized root and the bytes of its references."""
    state = read_state(root, resolved, collection.context(id), flow_id=id, native=collection.reference_of)
    state._history = tuple(root.ids[-MAX_IDS:])
    return version_of(document, root, StatusInputs.of(state)).stamp(state, collection.path_of(id))


def native_version_of(document: Document, state: FlowState) -> Version:
    """Return the version of a native document; it has no revision."""
    expire_at = expires_at(document.fields)
    return Version(
        updated=moment_of(document.update_time),
        revision="",
        layout="native",
        status_inputs=StatusInputs.of(state),
        expires=None if expire_at is None else expire_at.timestamp(),
        owns_expiry=owns_expiry(document.fields),
        expire_after=expire_after_in(document.fields),
    )


def version_of(document: Document, root: Root, status_inputs: StatusInputs) -> Version:
    """Return the version of a serialized root document."""
    expire_at = expires_at(document.fields)
    return Version(
        updated=root.updated,
        revision=root.revision,
        layout="serialized",
        status_inputs=status_inputs,
        weight=root.weight,
        part_count=root.part_count,
        part_refs=root.refs,
        created=root.created,
        expires=None if expire_at is None else expire_at.timestamp(),
        has_extra="extra" in root.values,
        expire_after=expire_after_in(document.fields),
    )


async def fetch(
    collection: Collection, id: str, refs: Sequence[PartRef], deadline: Deadline, *, read_time: Timestamp | None = None
) -> dict[str, bytes] | None:
    """Return the bytes of each reference by its name, or None where a part is missing."""
    if not refs:
        return {}
    names = part_ids(refs)
    batches = [names[i : i + _PARTS_AT_ONCE] for i in range(0, len(names), _PARTS_AT_ONCE)]
    longer = deadline.plus(max(0.0, sum({ref.name: ref.bytes for ref in refs}.values()) / 2**20 - 1))
    parts: dict[str, Document] = {}
    for found in await gather_or_cancel(
        _batch(collection, id, batch, longer, read_time=read_time) for batch in batches
    ):
        parts.update(found)
    return resolve(refs, parts)


async def _batch(
    collection: Collection, id: str, parts: Iterable[str], deadline: Deadline, *, read_time: Timestamp | None
) -> dict[str, Document]:
    names = [collection.part_name(id, part) for part in parts]
    found = await collection.connection.batch_get(names, deadline=deadline, flow_id=id, read_time=read_time)
    return {name.rpartition("/")[2]: document for name, document in found.items()}


async def _state_again(collection: Collection, id: str, deadline: Deadline) -> FlowState | None:
    document = await collection.get(id, deadline)
    if document is None:
        return None
    if not is_serialized(document):
        return read_native_document(collection, document)
    root = read_root(document)
    at = Timestamp(seconds=root.updated.seconds, nanos=root.updated.nanos)
    # At the root's own time its parts were there, whatever has happened since.
    resolved = await fetch(collection, id, root.refs, deadline, read_time=at)
    if resolved is None:
        raise FlowStateDecodeError("parts that it refers to are missing")
    return decode(collection, id, document, root, resolved)
