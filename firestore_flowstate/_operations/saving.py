"""Writing whole states: create, replace, replace a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from .._collection.collection import Collection
from .._commit.commit import commit_write
from .._commit.pending_write import CommitResult, PendingWrite, part_names_of, parts_of
from .._document.encoded_state import detached
from .._document.head import StatusInputs, own_duration
from .._document.layouts import LAYOUTS
from .._document.stored_document import LayoutName
from .._document.version import Absent, Anything, Exactly, Expectation, Version, Written, revisions_to_remember
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
        written: What the document is filled with.
        status_inputs: What its status follows from.
    """

    pending: PendingWrite
    written: Written
    status_inputs: StatusInputs


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
        layout: The layout to write; None: the one that `layout_to_write` returns.
        expire_at: When it expires; UNSET: as the settings say.
        deadline: When to give up.

    Raises:
        Conflict: Another writer was first.
        FlowStateEncodeError: The state cannot be stored.
    """
    sound = check_state(id, state) if content is None else content
    document = collection.name(id)
    base = expected.version if isinstance(expected, Exactly) else None
    if base is not None and (base.part_refs is None or base.is_hearsay):
        known = Version.of(state, document)
        if known is not None and known == base:  # what the state knows includes the parts, which a text does not
            base = known
        elif base.is_hearsay and base.layout != collection.settings.layout:  # a lie would store it in the clear
            sound = detached(sound)
            base, _ = await confirm(collection, id, base, deadline)
        expected = Exactly(base)
    if layout is None:
        layout = layout_to_write(collection, id, state, expected)
    whole = encode_whole(collection, id, sound, expected=expected, layout=layout, expire_at=expire_at)
    pending = whole.pending
    if base is not None and base.part_refs is not None:
        pending = replace(pending, gone=part_names_of(collection, id, base.part_refs))
    elif base is not None or (pending.parts and isinstance(expected, Anything)):
        pending = await with_stored_parts(collection, pending, deadline)
    try:
        result = await commit_write(collection, pending, deadline.for_bytes(pending.size()))
    except Refused as refusal:
        raise collection.connection.refused_error(refusal, flow_id=id) from refusal
    stamp(state, document, result, whole)


async def with_stored_parts(collection: Collection, pending: PendingWrite, deadline: Deadline) -> PendingWrite:
    """Return the write of a whole state such that it deletes the parts that are stored now under its id.

    It is one read more, beside the writes of a large state.
    """
    document = await collection.get(pending.id, deadline)
    gone = () if document is None else part_names_of(collection, pending.id, document.refs)
    return replace(pending, gone=gone)


def layout_to_write(collection: Collection, id: str, state: FlowState, expected: Expectation) -> LayoutName:
    """Return the layout in which a whole state is written.

    That is the layout of the version that is expected, or else of the document that the state was read from or written
    to. For a new document it is that of the settings, and so it is if the settings require encryption and the document
    has none: then the save encrypts it.
    """
    settings = collection.settings
    if isinstance(expected, Absent):
        return settings.layout
    base = expected.version if isinstance(expected, Exactly) else Version.of(state, collection.name(id))
    if base is None or (settings.require_encryption and not LAYOUTS[base.layout].packs_values):
        return settings.layout
    return base.layout


def check_storable(collection: Collection, id: str, state: FlowState) -> None:
    """Raise what a save would raise if a new document could not hold the state."""
    encode_whole(collection, id, state, expected=Anything(), layout=collection.settings.layout)


def encode_whole(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    expected: Expectation,
    layout: LayoutName,
    expire_at: datetime | Unset | None = UNSET,
) -> WholeWrite:
    """Encode a whole state in a layout; return the write of it."""
    if isinstance(expire_at, Unset):
        expire_at = collection.expire_at(state.status, own_duration(state.model_extra or {}))
    written_as = LAYOUTS[layout]
    collection.mixing.about_to_write(written_as, path=collection.path)
    write = Write()
    write.update.name = collection.name(id)
    context = collection.context(id)
    try:
        written = written_as.write_state(write.update, state, context, expected=expected, expire_at=expire_at)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    pending = PendingWrite(
        id=id,
        write=write.SerializeToString(),
        expected=expected,
        revision=written.revision,
        replaces=True,
        parts=parts_of(collection, id, written.parts) if written.parts else (),
        makes=partial(written_as.has_made, write.update, None),
        expire_at=written.expire_at,
    )
    return WholeWrite(pending=pending, written=written, status_inputs=StatusInputs.of(state))


def stamp(state: FlowState, document: str, result: CommitResult, whole: WholeWrite) -> None:
    """Note on a state that was stored whole the version that it got."""
    version = Version.of_save(
        whole.written, updated=result.updated, status_inputs=whole.status_inputs, root=result.root
    )
    expected = whole.pending.expected
    base = expected.version if isinstance(expected, Exactly) else None
    revisions = (*revisions_to_remember(state, base), version.revision) if version.revision else ()
    version.stamp(state, document, revisions=revisions)
