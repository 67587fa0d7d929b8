"""Loading flow states, the root and then its parts as of one moment; their heads, for updates; and all there are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from .._collection.collection import Collection
from .._document.head import StatusInputs
from .._document.layouts import LAYOUTS
from .._document.stored_document import UPDATE_BASE, StoredDocument
from .._document.stored_values import PARTS, PartRef, part_ids, resolve
from .._document.version import Version
from .._error_texts import unreadable
from .._gc_pause import gc_paused
from .._rpc.concurrency import gather_or_cancel
from .._rpc.deadline import Deadline
from .._rpc.messages import Cursor, Document, Int32Value, StructuredQuery, Timestamp
from ..copies import COLLECTED
from ..errors import BackendError, FlowStateDecodeError, QuotaError, StoreUnavailableError
from ..models import FlowState

_DECODED_AT_ONCE = 32  # documents that are decoded while the garbage collector is paused
_PARTS_AT_ONCE = 64  # parts of one read: at most 64 MB arrive by it


PAGE: Final = 100  # documents
# The first of all ids, and a name that ends with NUL: Google's clients bound their recursive deletes by the same.
_FIRST_ID: Final = "__id-9223372036854775808__"
_END: Final = "\0"


async def load(collection: Collection, id: str, deadline: Deadline) -> FlowState | None:
    """Return the state stored under the id, or None if there is none or it has expired."""
    document = await collection.get(id, deadline)
    return None if document is None or not document.is_live() else await state_of(collection, document, deadline)


async def state_of(
    collection: Collection,
    document: StoredDocument,
    deadline: Deadline,
    *,
    kept: dict[str, bytes] | None = None,
) -> FlowState | None:
    """Return the flow state of a root document, as of the moment at which the document was read.

    If it has parts and was replaced meanwhile, and the moment is too long ago for Firestore to tell them, the result is
    the flow state of the present; None if it was deleted.

    Args:
        collection: The collection.
        document: The root document.
        deadline: When to give up.
        kept: The bytes of its references by their names, as an earlier call has left them here: these are not read
            again. It gets those of all references now.

    Raises:
        FlowStateDecodeError: It cannot be read; the error names the id.
    """
    try:
        refs = document.read_refs()
        known = {ref.name: kept[ref.name] for ref in refs if ref.name in kept} if kept else {}
        missing = [ref for ref in refs if ref.name not in known]
        resolved = await _fetch_as_of(document.read_as_of, collection, document.id, missing, deadline)
        if resolved is None:
            # The root was replaced between the two reads, and its parts went with it, or the first was long ago. As of
            # the update_time of the root all its parts were there.
            resolved = await _fetch_as_of(_updated(document), collection, document.id, missing, deadline)
        if resolved is None:
            return await _state_again(collection, document.id, deadline)
        resolved |= known
        if kept is not None:
            kept.clear()
            kept.update(resolved)
        return decode(collection, document, resolved)
    except FlowStateDecodeError as error:
        raise unreadable(error, document.id) from error.__cause__


def state_of_whole(collection: Collection, document: StoredDocument) -> FlowState | None:
    """Return the flow state of a root document without parts, or None if it refers to parts.

    Raises:
        FlowStateDecodeError: It cannot be read; the error names the id.
    """
    try:
        return None if document.read_refs() else decode(collection, document, {})
    except FlowStateDecodeError as error:
        raise unreadable(error, document.id) from error.__cause__


def states_of_whole(
    collection: Collection, documents: Sequence[StoredDocument]
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


def check_readable(collection: Collection, document: StoredDocument) -> None:
    """Raise FlowStateDecodeError if the settings forbid to read a document of its layout. Its values are not needed."""
    layout = LAYOUTS[document.layout]
    collection.mixing.met_genkits |= layout.is_genkits
    try:
        layout.check_readable(collection.payloads)
    except FlowStateDecodeError as error:
        raise unreadable(error, document.id) from error.__cause__


async def states_of(
    collection: Collection, documents: Sequence[StoredDocument], deadline: Deadline
) -> list[FlowState | FlowStateDecodeError | None]:
    """Return the state of each document, or the error of one that cannot be read; None if one was deleted meanwhile."""
    found = states_of_whole(collection, documents)
    in_parts = [index for index, state in enumerate(found) if state is None]

    async def read(index: int) -> None:
        try:
            found[index] = await state_of(collection, documents[index], deadline)
        except FlowStateDecodeError as error:
            found[index] = error

    await gather_or_cancel(read(index) for index in in_parts)
    return found


def decode(collection: Collection, document: StoredDocument, resolved: Mapping[str, bytes]) -> FlowState:
    """Return the flow state of a whole document, with its version noted on it.

    Args:
        collection: The collection.
        document: The document.
        resolved: The bytes of each of its references by their names.

    Raises:
        FlowStateDecodeError: It cannot be read; the text says why.
    """
    context, layout = collection.context(document.id), LAYOUTS[document.layout]
    layout.check_readable(collection.payloads)
    collection.mixing.met_genkits |= layout.is_genkits
    state = layout.read_state(document, resolved, context, collection.reference_of)
    version = Version.of_document(document, StatusInputs.of(state))
    version.stamp(state, collection.name(document.id), revisions=document.revisions)
    if (copies := COLLECTED.get()) is not None:
        copies.note(state, partial(decode, collection, document, resolved))
    return state


async def fetch(
    collection: Collection, id: str, refs: Sequence[PartRef], deadline: Deadline, *, read_time: Timestamp | None = None
) -> dict[str, bytes] | None:
    """Return the bytes of each reference by its name, or None if a part is missing."""
    if not refs:
        return {}
    names = part_ids(refs)
    batches = [names[i : i + _PARTS_AT_ONCE] for i in range(0, len(names), _PARTS_AT_ONCE)]
    longer = deadline.for_bytes(sum({ref.name: ref.bytes for ref in refs}.values()))
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
    while document is not None:
        refs = document.read_refs()
        resolved = await _fetch_as_of(_updated(document), collection, id, refs, deadline)
        if resolved is None:
            # Some are lost, or Firestore does not tell any more what was there. Then they are still there.
            resolved = await fetch(collection, id, refs, deadline)
        if resolved is not None:
            return decode(collection, document, resolved)
        latest = await collection.get(id, deadline)
        if latest is not None and latest.updated == document.updated:
            raise FlowStateDecodeError("parts that it refers to are missing")
        document = latest
    return None


def _updated(document: StoredDocument) -> Timestamp:
    return Timestamp(seconds=document.updated.seconds, nanos=document.updated.nanos)


async def _fetch_as_of(
    read_time: Timestamp | None, collection: Collection, id: str, refs: Sequence[PartRef], deadline: Deadline
) -> dict[str, bytes] | None:
    """Return what `fetch` does, or None too if Firestore refuses the time, which may be more than an hour ago."""
    try:
        return await fetch(collection, id, refs, deadline, read_time=read_time)
    except (StoreUnavailableError, QuotaError):
        raise
    except BackendError:
        if read_time is None:
            raise
        return None


class UpdateBase(NamedTuple):
    """What an update goes on top of: a version, and the references that it may replace.

    Attributes:
        version: The version. It has no revision if the log was not read.
        replaceable: The references in the place of values outside the log.
    """

    version: Version
    replaceable: Sequence[PartRef]


async def read_base(collection: Collection, id: str, deadline: Deadline) -> UpdateBase | None:
    """Return what an update goes on top of; None if there is no state, or it has expired."""
    document = await collection.get(id, deadline, mask=UPDATE_BASE)
    if document is None or not document.is_live():
        return None
    try:
        document.check_layout()
        return UpdateBase(_version(collection, document), document.replaceable())
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error.__cause__


async def confirm(collection: Collection, id: str, base: Version, deadline: Deadline) -> UpdateBase:
    """Return a version that was read from a text, as the document has it.

    If another version is stored, the result has no parts: a write on top of it will not be stored.
    """
    found = await read_base(collection, id, deadline)
    if found is not None and found.version.updated == base.updated:
        return found._replace(version=found.version.with_revision_of(base))
    version = await confirm_whole(collection, id, base, deadline)  # maintenance may have changed the update_time
    return UpdateBase(version, version.part_refs or ())


async def confirm_whole(collection: Collection, id: str, base: Version, deadline: Deadline) -> Version:
    """Return a version as the document has it, with all its references to parts.

    It reads the whole document, since no mask can select the references out of the log. If another version is stored,
    the result has no parts: a write on top of it will not be stored.
    """
    document = await collection.get(id, deadline)
    if document is None or document.root is None or not base.is_of(document):
        return base.without_parts()
    try:
        return _version(collection, document)
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error.__cause__


def _version(collection: Collection, document: StoredDocument) -> Version:
    return Version.of_document(document, document.status_inputs(collection.context(document.id)))


async def scan(
    collection: Collection, *, fields: Sequence[str] | None = None, page: int = PAGE
) -> AsyncIterator[list[StoredDocument]]:
    """Yield the root documents of the collection, page by page. Each page is read within the store's timeout."""
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    async for documents, read_time in _pages(collection, query, fields, page):
        yield [StoredDocument(document, read_time) for document in documents]


async def scan_parts(collection: Collection) -> AsyncIterator[list[Document]]:
    """Yield all parts of the collection's flow states by name, without their data.

    The query is of a collection group, which spans all collections of the database. It is bounded by names to this
    collection, so that the parts of others are neither read nor billed.
    """
    prefix = f"{collection.documents}/{collection.path}/"
    async for documents, _ in _pages(collection, _all_parts(collection), ["__name__"], 300):
        # Parts of a collection below a flow state are left out: they belong to another store.
        yield [d for d in documents if d.name.startswith(prefix) and d.name.count("/", len(prefix)) == 2]


async def count_parts(collection: Collection) -> int:
    """Return how many parts the collection's flow states have, or more, if there are collections below them.

    The server counts them, for a read for each 1,000.
    """
    query = _all_parts(collection)
    query.order_by.add().field.field_path = "__name__"
    count, _ = await collection.connection.count(collection.parent, query, deadline=collection.deadline(None))
    return count


def _all_parts(collection: Collection) -> StructuredQuery:
    query = StructuredQuery()
    source = query.from_.add()
    source.collection_id = PARTS
    source.all_descendants = True
    query.start_at.values.add().reference_value = f"{collection.documents}/{collection.path}/{_FIRST_ID}"
    query.start_at.before = True
    query.end_at.values.add().reference_value = f"{collection.documents}/{collection.path}{_END}/{_FIRST_ID}"
    query.end_at.before = True
    return query


async def _pages(
    collection: Collection, query: StructuredQuery, fields: Sequence[str] | None, page: int
) -> AsyncIterator[tuple[list[Document], Timestamp | None]]:
    query.order_by.add().field.field_path = "__name__"
    query.limit.CopyFrom(Int32Value(value=page))
    for path in fields or ():
        query.select.fields.add().field_path = path
    while True:
        deadline = collection.deadline(None)
        documents, read_time = await collection.connection.run_query_at(collection.parent, query, deadline=deadline)
        yield documents, read_time
        if len(documents) < page:
            return
        cursor = Cursor(before=False)
        cursor.values.add().reference_value = documents[-1].name
        query.start_at.CopyFrom(cursor)
