"""Writing whole states: create, replace, replace a version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from .._collection.collection import Collection
from .._commit.commit import commit_write, part_names_of
from .._commit.pending_write import CommitResult, PendingWrite
from .._document.error_texts import check_state, with_flow_id
from .._document.expiry import own_duration
from .._document.log import MAX_IDS
from .._document.native import EXPIRY, owns_expiry, write_native
from .._document.native_values import same_fields
from .._document.parts import PartRef, write_part
from .._document.payload import NATIVE_IN_THE_CLEAR
from .._document.serialized import Written, history, write_expiry, write_state
from .._document.sizes import MAX_DOCUMENT_BYTES, document_size, value_size
from .._document.version import Layout, StatusInputs, Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Write
from .._rpc.outcome import Refused
from ..errors import FlowStateEncodeError, FlowStateTooLargeError
from ..models import FlowState
from ..unset import UNSET, Unset
from .reading import load_root

_NATIVE_LARGEST = ("cache", "eventsTriggered")


async def save(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    content: FlowState | None = None,
    base: Version | None,
    absent: bool,
    layout: Layout | None = None,
    expire_at: datetime | Unset | None = UNSET,
    deadline: Deadline,
) -> None:
    """Store the whole state, and stamp it with the version it got.

    Args:
        collection: Where.
        id: The key.
        state: The state, which gets the version.
        content: What to store of it, as it was at the call; None: what it is now.
        base: The version to replace; None: whatever is there.
        absent: Whether there must be nothing yet.
        layout: The layout to write; None: that of the base or of the document that the state was read from, and for
            a new document as the settings say.
        expire_at: When it expires; UNSET: as the settings say.
        deadline: When to give up.

    Raises:
        Conflict: Another writer was first.
        FlowStateEncodeError: The state cannot be stored.
    """
    sound = check_state(id, state) if content is None else content
    path = collection.path_of(id)
    if base is not None and base.part_refs is None and state.version == base.to_text(path):
        base = Version.of(state, path)  # which knows the parts that a text does not name
    if layout is None and not absent:
        layout = layout_of(collection, id, state, base)
    out, written = outgoing_of(collection, id, sound, base=base, absent=absent, layout=layout, expire_at=expire_at)
    if base is not None and base.part_refs is not None:
        out.gone = part_names_of(collection, id, base.part_refs)
    elif base is not None or (out.parts and not absent):
        # It costs a read anyway to be large: so what is replaced can go with it.
        out.gone = await _parts_of(collection, id, deadline)
    try:
        result = await commit_write(collection, out, base=base, absent=absent, deadline=deadline)
    except Refused as refusal:
        raise collection.connection.refusal(refusal, flow_id=id) from refusal
    stamp(state, path, result, written, status_inputs=StatusInputs.of(sound), base=base, out=out)


def layout_of(collection: Collection, id: str, state: FlowState, base: Version | None = None) -> Layout | None:
    """Return the layout of the document that the state was read from or written to, or of the base.

    None where there is none yet, and for a native one where encryption is required: a whole save encrypts it.
    """
    if base is None and state.version is not None:
        base = Version.from_text(state.version, collection.path_of(id))
    if base is None or (base.layout == "native" and collection.settings.require_encryption):
        return None
    return base.layout


def outgoing_of(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    base: Version | None = None,
    absent: bool = False,
    layout: Layout | None = None,
    expire_at: datetime | Unset | None = UNSET,
) -> tuple[PendingWrite, Written | None]:
    """Return the write of a whole state, and what it was filled with where the layout is ours."""
    if isinstance(expire_at, Unset):
        expire_at = collection.expire_at(state.status, own_duration(state.model_extra or {}))
    if (layout or collection.settings.layout) == "native":
        return outgoing_native(collection, id, state, expire_at), None
    return pending_write(collection, id, state, base=base, absent=absent, expire_at=expire_at)


def stamp(
    state: FlowState,
    path: str,
    result: CommitResult,
    written: Written | None,
    *,
    status_inputs: StatusInputs,
    base: Version | None,
    out: PendingWrite,
) -> None:
    """Give a state that was stored whole its version."""
    version = Version(
        updated=result.updated,
        revision="" if written is None else written.revision,
        layout="native" if written is None else "serialized",
        status_inputs=status_inputs,
        weight=0 if written is None else written.weight if result.root is None else result.root.weight,
        part_count=0 if written is None else len(out.parts) if result.root is None else result.root.part_count,
        part_refs=_refs(written, result),
        created=None if written is None else written.created,
        expires=None if out.expire_at is None else out.expire_at.timestamp(),
        owns_expiry=written is None and EXPIRY in (state.model_extra or {}),
        has_extra=written is not None and written.has_extra,
        expire_after=own_duration(state.model_extra or {}),
    )
    state._history = () if written is None else (*history(state, base), written.revision)[-MAX_IDS:]
    version.stamp(state, path)


def _refs(written: Written | None, result: CommitResult) -> tuple[PartRef, ...]:
    if written is None:
        return ()
    return tuple(ref for ref, _ in written.parts) if result.root is None else result.root.refs


def pending_write(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    base: Version | None,
    absent: bool,
    expire_at: datetime | None,
) -> tuple[PendingWrite, Written]:
    """Return the write of a whole state in the serialized layout."""
    collection.mixing.about_to_serialize(path=collection.path)
    root = Write()
    root.update.name = collection.name(id)
    try:
        written = write_state(root.update, state, collection.context(id), base=base, create=absent, expire_at=expire_at)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    parts = part_writes(collection, id, written.parts)
    out = PendingWrite(id=id, root=root, revision=written.revision, replaces=True, parts=parts, expire_at=expire_at)
    return out, written


def part_writes(collection: Collection, id: str, parts: Sequence[tuple[PartRef, bytes]]) -> list[Write]:
    """Return the writes of the parts that references stand for."""
    writes = []
    for ref, data in parts:
        for index, name in enumerate(ref.part_names()):
            write = Write()
            write.update.name = collection.part_name(id, name)
            write_part(write.update, data, index)
            writes.append(write)
    return writes


def outgoing_native(collection: Collection, id: str, state: FlowState, expire_at: datetime | None) -> PendingWrite:
    """Return the write of a whole state in the native layout."""
    root = Write()
    root.update.name = collection.name(id)
    fields = root.update.fields
    try:
        check_may_be_plain(collection)
        write_native(fields, state)
        if owns_expiry(fields):
            expire_at = None
        write_expiry(fields, expire_at)
        check_native_size(f"{collection.path}/{id}", fields)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__

    def makes(stored: Document, base: Document | None) -> bool:
        return same_fields(stored.fields, fields)

    return PendingWrite(id=id, root=root, revision="", replaces=True, makes=makes, expire_at=expire_at)


def check_may_be_plain(collection: Collection) -> None:
    """Raise FlowStateEncodeError if a native document, of which nothing is encrypted, is not to be written."""
    if collection.payloads.require_encryption:
        raise FlowStateEncodeError(f"Nothing was written: {NATIVE_IN_THE_CLEAR}.")


async def _parts_of(collection: Collection, id: str, deadline: Deadline) -> list[str]:
    document = await collection.get(id, deadline)
    root = None if document is None else load_root(document)
    return [] if root is None else part_names_of(collection, id, root.refs)


def check_native_size(path: str, fields: Any) -> None:
    """Raise FlowStateTooLargeError if fields of a native document are more than one may have."""
    size = document_size(path, fields)
    if size <= MAX_DOCUMENT_BYTES:
        return
    sizes = {name: value_size(value) for name, value in fields.items()}
    for name in set(_NATIVE_LARGEST).intersection(sizes):
        inside = fields[name].map_value.fields
        sizes.update((f"{name}[{key!r}]", value_size(value)) for key, value in inside.items())
        sizes.pop(name)
    largest = max(sizes, key=sizes.__getitem__)
    raise FlowStateTooLargeError(
        f"The flow state takes {size:,} bytes as a native document, more than Firestore's {MAX_DOCUMENT_BYTES:,}; "
        f'the largest value is {largest} with {sizes[largest]:,}. The serialized layout (layout="serialized") '
        "stores states of any size.",
        path=largest,
        size=size,
        limit=MAX_DOCUMENT_BYTES,
    )
