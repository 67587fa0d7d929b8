"""Partial writes: one segment and what else is named, in one write on top of a version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from .._collection.collection import Collection
from .._commit.commit import commit_write
from .._commit.conflict import Conflict
from .._commit.pending_write import PendingWrite, part_names_of, parts_of
from .._document.compaction import COMPACT_WEIGHT
from .._document.difference import Change
from .._document.head import EXPIRE_AFTER
from .._document.layouts import LAYOUTS
from .._document.root import Root
from .._document.serialized_update import unremovable
from .._document.stored_values import PartRef, part_count, part_ids, too_many_parts
from .._document.update import Update, fields_after
from .._document.version import Exactly, Version
from .._error_texts import not_found, not_removable, unreadable, with_flow_id
from .._rpc.deadline import Backoff, Deadline
from .._rpc.messages import Write
from .._rpc.outcome import Refused
from ..errors import (
    BackendError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateNotFoundError,
    FlowStateTooLargeError,
)
from ..unset import UNSET, Unset
from .reading import confirm, confirm_whole, fetch, read_base
from .repacking import compact

_COMPACTIONS = 6  # how often a full root is compacted before an update gives up


async def update(
    collection: Collection,
    id: str,
    change: Change,
    *,
    base: Version,
    replaceable: Sequence[PartRef] | None = None,
    deadline: Deadline,
) -> Version:
    """Write what a change names on top of a version; return the new version.

    Args:
        collection: The collection.
        id: The flow state.
        change: What to write.
        base: The version.
        replaceable: The references in the place of its values outside the log, if the version does not have all its
            references; None: take those of the version.
        deadline: When to give up.

    Raises:
        Conflict: Another writer was first, or the version has expired.
        FlowStateEncodeError: A value cannot be stored.
        FlowStateTooLargeError: What it writes is more than a document or a request has room for.
    """
    is_foreign = base.layout != collection.settings.layout  # a lie about the layout would spoil the document
    if base.is_hearsay and (is_foreign or change.names_expiry):
        change = change.detached()  # a read may come first, and a second write after the first
    if base.is_hearsay and (is_foreign or _would_expire_as_told(collection, change, base)):
        base, replaceable = await confirm(collection, id, base, deadline)
    try:
        packed = LAYOUTS[base.layout].pack_update(change, collection.context(id))
        if base.has_extra and change.unset:
            await _check_removable(collection, id, change, deadline)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    lacks_parts = _lacks_parts(collection, change, base)
    if replaceable is None and not lacks_parts and _relies_on_parts(packed, base):
        base, replaceable = await confirm(collection, id, base, deadline)
        lacks_parts = _lacks_parts(collection, change, base)
    if lacks_parts:
        base = await confirm_whole(collection, id, base, deadline)  # all its parts are named: their expiry changes too
    version = await _update_packed(collection, id, packed, base=base, replaceable=replaceable, deadline=deadline)
    if base.is_hearsay and change.names_expiry and _has_hidden_parts(packed, base, version):
        return await _expire_with_parts(collection, id, change, version, deadline)
    return version


async def _expire_with_parts(
    collection: Collection, id: str, change: Change, version: Version, deadline: Deadline
) -> Version:
    """Set the expiry once more, of the parts too, since a text hid them from the write that made the version.

    That write is stored, so no failure of this one is told.
    """
    again = Change(
        operation=change.operation,
        blocked_on_step=change.blocked_on_step,
        executions=change.executions,
        expire_after=change.expire_after,
        extra={name: value for name, value in change.extra.items() if name == EXPIRE_AFTER},
    )
    try:
        whole = await confirm_whole(collection, id, version, deadline)
        if not whole.part_refs:
            return version
        # As if it had expired at some time, or else its parts would be passed over: they had no expiry to take away.
        return await update(collection, id, again, base=whole.as_if_it_expired(), deadline=deadline)
    except (Conflict, FlowStateError):
        return version


async def update_latest(collection: Collection, id: str, change: Change, *, deadline: Deadline) -> Version:
    """Write what a change names on top of whatever is stored; return the new version.

    Raises:
        FlowStateNotFoundError: There is no state.
    """
    async with collection.local_locks.hold(id, deadline):
        return await _update_latest(collection, id, change, deadline=deadline)


async def _update_latest(collection: Collection, id: str, change: Change, *, deadline: Deadline) -> Version:
    backoff = Backoff(deadline, first=0.005, longest=0.5)
    while True:
        found = await read_base(collection, id, deadline)
        if found is None:
            raise not_found(id)
        base, replaceable = found
        try:
            return await update(collection, id, change, base=base, replaceable=replaceable, deadline=deadline)
        except Conflict as conflicting:
            if isinstance(conflicting.error, FlowStateNotFoundError):
                raise conflicting.error from None
        await backoff.pause()


async def _check_removable(collection: Collection, id: str, change: Change, deadline: Deadline) -> None:
    """Raise FlowStateEncodeError if a key that is to be removed is in the payload too, and would appear again.

    The document that is read may be of another version than the one to write on: then the write itself will conflict.
    """
    document = await collection.get(id, deadline)
    extra = None if document is None or document.root is None else document.root.extra
    if extra is None:
        return
    resolved = await fetch(collection, id, [extra] if isinstance(extra, PartRef) else [], deadline)
    if resolved is None:
        return
    try:
        keys = unremovable(change, extra, resolved, collection.context(id))
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error.__cause__
    for key in keys:
        raise not_removable(id, key)


def _would_expire_as_told(collection: Collection, change: Change, base: Version) -> bool:
    """Return whether the write would set an expiry that follows from a text: that it has ended, or after how long."""
    if change.names_expiry and base.status_inputs.ended and isinstance(change.operation, Unset):
        return True
    if not change.names_status or base.expire_after is None or EXPIRE_AFTER in change.extra:
        return False
    ends = base.status_inputs.after(change.status_change).ended
    return bool(ends) or collection.settings.expire_when == "always"


def _relies_on_parts(packed: Update, base: Version) -> bool:
    """Return whether the write goes by what a text says of the version, beyond its update_time."""
    if base.part_refs is None and packed.values:
        return True  # it may replace values that are in parts, and then deletes these
    return base.is_hearsay and bool(packed.parts) and base.expires is not None  # its parts expire after it


def _has_hidden_parts(packed: Update, base: Version, version: Version) -> bool:
    """Return whether the root counts more parts, by the reply to the update, than a text said of its version."""
    return base.part_refs == () and version.part_count > part_count(ref for ref, _ in packed.parts)


async def _update_packed(
    collection: Collection,
    id: str,
    packed: Update,
    *,
    base: Version,
    replaceable: Sequence[PartRef] | None,
    deadline: Deadline,
) -> Version:
    expire_at: datetime | Unset | None = UNSET
    if packed.change.names_expiry and not base.owns_expiry:
        own = packed.change.own_duration_after(base.expire_after)
        expire_at = collection.expire_at(packed.status_inputs_after(base.status_inputs).status, own)
    refs = base.part_refs if base.part_refs is not None else replaceable or ()
    await _check_part_count(collection, id, packed, base, refs, deadline)
    pending = _update_write(collection, id, packed, base, expire_at, refs)
    for compactions in range(_COMPACTIONS + 1):
        try:
            result = await commit_write(collection, pending, deadline.for_bytes(pending.size()))
            break
        except Refused as refusal:
            may_be_full = refusal.code == "INVALID_ARGUMENT" and LAYOUTS[base.layout].has_log
            if not may_be_full or compactions == _COMPACTIONS:
                await _check_room(collection, id, pending, refusal, deadline)
                raise collection.connection.refused_error(refusal, flow_id=id) from refusal
            # The root is full. Compaction changes no revision, so the version stays valid.
            await compact(collection, id, deadline, urgent=True)
    version = base.after_update(
        packed,
        updated=result.updated,
        expire_at=expire_at,
        refs=refs,
        transforms=result.transforms,
        rebased=result.rebased,
        root=result.root,
    )
    if base.weight < COMPACT_WEIGHT <= version.weight or version.weight > 2 * COMPACT_WEIGHT:
        return version.after_compaction(await compact(collection, id, deadline))
    return version


async def _check_part_count(
    collection: Collection,
    id: str,
    packed: Update,
    base: Version,
    refs: Sequence[PartRef],
    deadline: Deadline,
) -> None:
    """Raise FlowStateTooLargeError if an update would let the root refer to more parts than it may.

    The root counts its parts, or more. So it is read if the count alone would refuse the update.
    """
    if not packed.parts or packed.parts_after(base.part_count, refs) <= packed.context.most_parts:
        return
    known = base.part_refs if base.part_refs is not None and not base.is_hearsay else None
    if known is None:
        known = (await confirm_whole(collection, id, base, deadline)).part_refs or ()
    _refuse_more_parts(packed, known, id)


def _refuse_more_parts(packed: Update, refs: Sequence[PartRef], id: str) -> None:
    """Raise FlowStateTooLargeError if a root with these references would refer to more parts than it does and may."""
    most, before = packed.context.most_parts, len(part_ids(refs))
    after = packed.parts_after(before, refs)
    if after > max(most, before):
        raise with_flow_id(too_many_parts(after, most=most, path=packed.largest_in_parts), id)


async def _check_room(
    collection: Collection, id: str, pending: PendingWrite, refusal: Refused, deadline: Deadline
) -> None:
    """Raise FlowStateTooLargeError if an update was refused as its document has no room for it beside what is stored.

    Servers have no status of its own for that, and each has another text.
    """
    if refusal.code != "INVALID_ARGUMENT":
        return
    try:
        document = await collection.get(id, deadline)
    except BackendError:  # then the refusal is all that is known
        return
    if document is None:
        return
    after = fields_after(document.fields, Write.FromString(pending.write))
    try:
        LAYOUTS[document.layout].check_size(collection.path_of(id), after)
    except FlowStateTooLargeError as error:
        raise with_flow_id(error, id) from refusal


def _lacks_parts(collection: Collection, change: Change, base: Version) -> bool:
    """Return whether the write sets an expiry, or takes one away, that the parts have too, which are not known."""
    if base.part_refs is not None or not change.names_expiry:
        return False
    own = change.own_duration_after(base.expire_after)
    return base.expires is not None or own is not None or collection.settings.expire_after is not None


def _too_many_names(write: Write, change: Change, *, id: str, limit: int) -> FlowStateTooLargeError:
    """Return the error of a write that no request has room for, of which the layout has found all values small enough.

    So it is the names of what is to be removed that are too many. No document has room for them either.
    """
    size = int(write.ByteSize())
    path = change.most_names
    return FlowStateTooLargeError(
        f"Flow state {id!r}: the write takes {size:,} bytes, most of them for the names in {path}, and a request has "
        f"room for {limit:,}. Remove fewer at a time.",
        flow_id=id,
        path=path,
        size=size,
        limit=limit,
    )


def _update_write(
    collection: Collection,
    id: str,
    packed: Update,
    base: Version,
    expire_at: datetime | Unset | None,
    refs: Sequence[PartRef],
) -> PendingWrite:
    """Return the write of an update on top of a version whose root refers to these parts."""
    layout = LAYOUTS[base.layout]
    write = Write()
    write.update.name = collection.name(id)
    try:
        mask = layout.write_update(write.update, packed, base.status_inputs, expire_at)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    write.update_mask.field_paths.extend(mask)
    write.update_mask.SetInParent()
    if write.ByteSize() > collection.largest_write:
        raise _too_many_names(write, packed.change, id=id, limit=collection.largest_write)
    gone = packed.gone(refs) if refs else []
    packed.write_transforms(write.update_transforms, gone)
    expires = base.expire_at() if isinstance(expire_at, Unset) else expire_at
    stay: tuple[str, ...] = ()
    if packed.change.names_expiry and (expires is not None or base.expires is not None):
        stay = part_names_of(collection, id, [ref for ref in refs if ref not in gone])
    return PendingWrite(
        id=id,
        write=write.SerializeToString(),
        expected=Exactly(base),
        revision=packed.revision,
        replaces=False,
        parts=parts_of(collection, id, packed.parts) if packed.parts else (),
        gone=part_names_of(collection, id, gone) if gone else (),
        stay=stay,
        makes=partial(layout.has_made, write.update, mask),
        expire_at=expires,
        fit=lambda root: _fitting(collection, id, packed, base, expire_at, root),
    )


def _fitting(
    collection: Collection, id: str, packed: Update, base: Version, expire_at: datetime | Unset | None, root: Root
) -> PendingWrite:
    """Return the write of an update for a root that maintenance has packed anew."""
    if packed.parts:
        _refuse_more_parts(packed, root.refs, id)
    return _update_write(collection, id, packed, base, expire_at, root.refs)
