"""Writing whole states: create, replace, replace a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from .._collection.collection import Collection
from .._commit.commit import commit_write
from .._commit.pending_write import CommitResult, PendingWrite, part_names_of, parts_of
from .._document.head import StatusInputs, expire_after_in, own_duration, owns_expiry
from .._document.native import is_written, write_native_document
from .._document.payload import NATIVE_IN_THE_CLEAR
from .._document.serialized import revisions_to_remember, write_state
from .._document.stored_document import LayoutName, StoredDocument
from .._document.stored_values import Written
from .._document.version import Absent, Anything, Exactly, Expectation, Version
from .._document.wire import check_state
from .._error_texts import with_flow_id
from .._rpc.deadline import Deadline
from .._rpc.messages import Write
from .._rpc.outcome import Refused
from ..errors import FlowStateEncodeError
from ..models import FlowState
from ..unset import UNSET, Unset
from .reading import confirm


@dataclass(frozen=True, kw_only=True)
class WholeWrite:
    """The write of a whole state, and what its document tells of the version that it makes.

    Attributes:
        pending: The write.
        written: What the document is filled with; None: it is native.
        status_inputs: What its status follows from.
        owns_expiry: Whether ``expireAt`` of a native document is an unknown key of the state.
        expire_after: The flow's own duration until it expires, in milliseconds; None if it has none.
    """

    pending: PendingWrite
    written: Written | None
    status_inputs: StatusInputs
    owns_expiry: bool
    expire_after: int | float | None


async def save(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    content: FlowState | None = None,
    expected: Expectation,
    layout: LayoutName | None = None,
    expire_at: datetime | Unset | None = UNSET,
    deadline: Deadline,
) -> None:
    """Store the whole state, and note on it the version that it got.

    Args:
        collection: The collection.
        id: The key.
        state: The state. It gets the version.
        content: A copy of the state from the time of the call, which is what is stored; None: `state` is.
        expected: What the write expects to be stored.
        layout: The layout to write; None: the layout of the version that is expected or of the document that the state
            was read from, and for a new document that of the settings.
        expire_at: When it expires; UNSET: as the settings say.
        deadline: When to give up.

    Raises:
        Conflict: Another writer was first.
        FlowStateEncodeError: The state cannot be stored.
    """
    sound = check_state(id, state) if content is None else content
    path = collection.path_of(id)
    base = expected.version if isinstance(expected, Exactly) else None
    if base is not None and (base.part_refs is None or base.is_hearsay):
        known = Version.of(state, path)
        if known is not None and known == base:  # what the state knows includes the parts, which a text does not
            base = known
        elif base.is_hearsay and base.layout != collection.settings.layout:  # a lie would store it in the clear
            base, _ = await confirm(collection, id, base, deadline)
        expected = Exactly(base)
    if layout is None and not isinstance(expected, Absent):
        layout = layout_of(collection, id, state, base)
    whole = encode_whole(collection, id, sound, expected=expected, layout=layout, expire_at=expire_at)
    pending = whole.pending
    if base is not None and base.part_refs is not None:
        pending = replace(pending, gone=part_names_of(collection, id, base.part_refs))
    elif base is not None or (pending.parts and isinstance(expected, Anything)):
        # One read more, beside the writes of a large state: so the parts of what is replaced are deleted with it.
        pending = replace(pending, gone=await _stored_parts(collection, id, deadline))
    try:
        result = await commit_write(collection, pending, deadline)
    except Refused as refusal:
        raise collection.connection.refused_error(refusal, flow_id=id) from refusal
    stamp(state, path, result, whole)


def layout_of(collection: Collection, id: str, state: FlowState, base: Version | None = None) -> LayoutName | None:
    """Return the layout of the base, or of the document that the state was read from or written to.

    None: there is no such document, or it is native and the settings require encryption, so that a save encrypts it.
    """
    if base is None:
        base = Version.of(state, collection.path_of(id))
    if base is None or (base.layout == "native" and collection.settings.require_encryption):
        return None
    return base.layout


def encode_whole(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    expected: Expectation,
    layout: LayoutName | None = None,
    expire_at: datetime | Unset | None = UNSET,
) -> WholeWrite:
    """Encode a whole state; return the write of it."""
    if isinstance(expire_at, Unset):
        expire_at = collection.expire_at(state.status, own_duration(state.model_extra or {}))
    if (layout or collection.settings.layout) == "native":
        return _native_write(collection, id, state, expected=expected, expire_at=expire_at)
    return _serialized_write(collection, id, state, expected=expected, expire_at=expire_at)


def stamp(state: FlowState, path: str, result: CommitResult, whole: WholeWrite) -> None:
    """Note on a state that was stored whole the version that it got."""
    pending, written = whole.pending, whole.written
    version = Version.of_save(
        written,
        updated=result.updated,
        status_inputs=whole.status_inputs,
        expire_at=pending.expire_at,
        owns_expiry=whole.owns_expiry,
        expire_after=whole.expire_after,
        root=result.root,
    )
    base = pending.expected.version if isinstance(pending.expected, Exactly) else None
    revisions = () if written is None else (*revisions_to_remember(state, base), written.revision)
    version.stamp(state, path, revisions=revisions)


def _serialized_write(
    collection: Collection, id: str, state: FlowState, *, expected: Expectation, expire_at: datetime | None
) -> WholeWrite:
    """Return the write of a whole state in the serialized layout."""
    collection.mixing.about_to_serialize(path=collection.path)
    write = Write()
    write.update.name = collection.name(id)
    try:
        written = write_state(write.update, state, collection.context(id), expected=expected, expire_at=expire_at)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    pending = PendingWrite(
        id=id,
        write=write.SerializeToString(),
        expected=expected,
        revision=written.revision,
        replaces=True,
        parts=parts_of(collection, id, written.parts),
        expire_at=expire_at,
    )
    return WholeWrite(
        pending=pending,
        written=written,
        status_inputs=StatusInputs.of(state),
        owns_expiry=False,
        expire_after=expire_after_in(write.update.fields),
    )


def _native_write(
    collection: Collection, id: str, state: FlowState, *, expected: Expectation, expire_at: datetime | None
) -> WholeWrite:
    """Return the write of a whole state in the native layout."""
    write = Write()
    write.update.name = collection.name(id)
    try:
        check_may_be_plain(collection)
        expire_at = write_native_document(write.update, state, collection.path_of(id), expire_at)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__

    def makes(stored: StoredDocument, base: StoredDocument | None) -> bool:
        return is_written(stored, write.update)

    pending = PendingWrite(
        id=id,
        write=write.SerializeToString(),
        expected=expected,
        revision="",
        replaces=True,
        makes=makes,
        expire_at=expire_at,
    )
    return WholeWrite(
        pending=pending,
        written=None,
        status_inputs=StatusInputs.of(state),
        owns_expiry=owns_expiry(write.update.fields),
        expire_after=expire_after_in(write.update.fields),
    )


def check_may_be_plain(collection: Collection) -> None:
    """Raise FlowStateEncodeError if the settings require encryption, which native documents do not have."""
    if collection.payloads.require_encryption:
        raise FlowStateEncodeError(f"Nothing was written: {NATIVE_IN_THE_CLEAR}.")


async def _stored_parts(collection: Collection, id: str, deadline: Deadline) -> tuple[str, ...]:
    document = await collection.get(id, deadline)
    return () if document is None else part_names_of(collection, id, document.refs)
