"""Partial writes: one segment and what else is named, in one write on top of a version."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone

from .._document.difference import Change
from .._document.expiry import has_expired
from .._document.folding import FOLD_WEIGHT
from .._document.log import Ref
from .._document.merging import bytes_of
from .._document.native import EXPIRY, changed_fields, owns_expiry, replaced_fields, write_change
from .._document.native_values import same_fields
from .._document.refusals import naming, not_found, not_removable
from .._document.root import PAYLOAD, check_layout, is_serialized, moment_of
from .._document.serialized import write_expiry
from .._document.updating import Update, pack_update, write_transforms, write_update
from .._document.version import Kept, Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Write
from .._rpc.outcome import Refused
from ..errors import FlowStateDecodeError, FlowStateEncodeError, FlowStateNotFoundError
from ..unset import UNSET, Unset
from .backoff import Backoff
from .collection import Collection, expires_at, is_live
from .expiring import clear_parts_expiry, set_parts_expiry
from .folding import fold
from .landing import Overtaken, land
from .progress import NATIVE_PROGRESS, SERIALIZED_PROGRESS, native_progress, serialized_progress
from .reading import fetch, load_root, unreadable
from .saving import check_may_be_plain, part_writes
from .sending import Landed, Outgoing

_FOLDS = 6  # how often a full root is folded before an update gives up
_EXTRA = f"{PAYLOAD}.extra"
_HEAD = ["expireAt", f"{PAYLOAD}.parts", f"{PAYLOAD}.created", _EXTRA, *SERIALIZED_PROGRESS, *NATIVE_PROGRESS]


async def update(collection: Collection, id: str, change: Change, *, base: Version, deadline: Deadline) -> Version:
    """Write what a change names on top of a version; return the new version.

    Raises:
        Overtaken: Another writer was first.
        FlowStateNotFoundError: The version has expired.
        FlowStateEncodeError: A value cannot be stored.
    """
    if has_expired(base.expire_at(), datetime.now(timezone.utc)):
        raise not_found(id)
    try:
        if base.layout == "native":
            check_may_be_plain(collection)
            return await _update_native(collection, id, change, base=base, deadline=deadline)
        if base.has_extra and change.unset:
            await _check_removable(collection, id, change, deadline)
        packed = pack_update(change, collection.place(id))
    except FlowStateEncodeError as error:
        raise naming(error, id) from error.__cause__
    return await _update_serialized(collection, id, packed, base=base, deadline=deadline)


async def update_latest(collection: Collection, id: str, change: Change, *, deadline: Deadline) -> Version:
    """Write what a change names on top of whatever is stored; return the new version.

    Raises:
        FlowStateNotFoundError: There is nothing.
    """
    async with collection.turns.turn(id, deadline):
        return await _update_latest(collection, id, change, deadline=deadline)


async def _update_latest(collection: Collection, id: str, change: Change, *, deadline: Deadline) -> Version:
    backoff = Backoff(deadline, first=0.005, longest=0.5)
    while True:
        base = await head(collection, id, deadline)
        if base is None:
            raise not_found(id)
        try:
            return await update(collection, id, change, base=base, deadline=deadline)
        except Overtaken as overtaken:
            if isinstance(overtaken.error, FlowStateNotFoundError):
                raise overtaken.error from None
        await backoff.pause()


async def head(collection: Collection, id: str, deadline: Deadline) -> Version | None:
    """Return the version of what is stored, read without steps and values; its revision is not known then."""
    document = await collection.get(id, deadline, mask=_HEAD)
    if document is None or not is_live(document):
        return None
    ours = is_serialized(document)
    expire_at = expires_at(document.fields)
    try:
        check_layout(document)
        progress = serialized_progress(document, collection.place(id)) if ours else native_progress(document)
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error
    base = Version(
        updated=moment_of(document.update_time),
        revision="",
        layout="serialized" if ours else "native",
        created=_created(document) if ours else None,
        progress=progress,
        expires=None if expire_at is None else expire_at.timestamp(),
        owns_expiry=not ours and owns_expiry(document.fields),
        has_extra=ours and "extra" in document.fields[PAYLOAD].map_value.fields,
    )
    if ours and document.fields[PAYLOAD].map_value.fields["parts"].integer_value > 0:
        return replace(base, parts=await _kept(collection, id, base, deadline))
    return base


def _created(document: Document) -> str | None:
    payload = document.fields[PAYLOAD].map_value.fields
    return payload["created"].string_value if "created" in payload else None


async def _check_removable(collection: Collection, id: str, change: Change, deadline: Deadline) -> None:
    """Raise FlowStateEncodeError where a key that is to be removed is in the payload too, and would appear again.

    What is read may be of another version than the write goes on top of: then the write will find out.
    """
    root = load_root(document) if (document := await collection.get(id, deadline)) is not None else None
    if root is None or "extra" not in root.values:
        return
    stored = root.values["extra"]
    resolved = await fetch(collection, id, [stored] if isinstance(stored, Ref) else [], deadline)
    if resolved is None:
        return
    try:
        extra = collection.place(id).unpack(bytes_of(stored, resolved), "extra")
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error
    for key in sorted(change.unset.intersection(extra if isinstance(extra, dict) else ())):
        raise not_removable(id, key)


async def _kept(collection: Collection, id: str, base: Version, deadline: Deadline) -> tuple[Kept, ...]:
    """Return the parts that the root refers to, which no mask can select out of the log."""
    document = await collection.get(id, deadline)
    root = None if document is None else load_root(document)
    return () if root is None or root.updated != base.updated else root.kept()


async def _update_serialized(
    collection: Collection, id: str, packed: Update, *, base: Version, deadline: Deadline
) -> Version:
    expire_at: datetime | Unset | None = UNSET
    if packed.touches_expiry:
        expire_at = collection.expire_at(packed.progress_after(base.progress).status)
    if expire_at is None and base.expires is not None and base.parts:
        await clear_parts_expiry(collection, id, base.part_names(), deadline)
    out = _outgoing(collection, id, packed, base, expire_at)
    for folds in range(_FOLDS + 1):
        try:
            landed = await land(collection, out, base=base, absent=False, deadline=deadline)
            break
        except Refused as refusal:
            if refusal.code != "INVALID_ARGUMENT" or folds == _FOLDS:
                raise collection.connection.refusal(refusal, flow_id=id) from refusal
            # The root is full. Folding changes no revision, so the version at hand stays good.
            await fold(collection, id, deadline, urgent=True)
    version = _version_after(packed, landed, base, expire_at)
    if isinstance(expire_at, datetime) and version.parts:
        await set_parts_expiry(collection, id, version.part_names(), expire_at, deadline)
    if base.weight < FOLD_WEIGHT <= version.weight or version.weight > 2 * FOLD_WEIGHT:
        folded = await fold(collection, id, deadline)
        if folded is not None and folded.revision == version.revision:
            return replace(version, updated=folded.updated, weight=folded.weight, parts=folded.parts)
    return version


def _outgoing(
    collection: Collection, id: str, packed: Update, base: Version, expire_at: datetime | Unset | None
) -> Outgoing:
    root = Write()
    root.update.name = collection.name(id)
    mask = write_update(root.update, packed, collection.place(id), base, expire_at)
    root.update_mask.field_paths.extend(mask)
    root.update_mask.SetInParent()
    write_transforms(root.update_transforms, packed, base)
    parts_expire = None if isinstance(expire_at, Unset) else expire_at
    return Outgoing(
        id=id,
        root=root,
        revision=packed.segment.id,
        replaces=False,
        parts=part_writes(collection, id, packed.parts, parts_expire),
        gone=[collection.part_name(id, name) for name in packed.gone(base)],
    )


def _version_after(packed: Update, landed: Landed, base: Version, expire_at: datetime | Unset | None) -> Version:
    if landed.rebased is not None:
        base = replace(base, weight=landed.rebased.weight, parts=landed.rebased.kept())
    weight, parts = base.weight + packed.segment.weight(), packed.kept(base)
    if len(landed.transforms) > 1:
        weight = landed.transforms[1].integer_value
    elif landed.root is not None:
        weight, parts = landed.root.weight, landed.root.kept()
    if isinstance(expire_at, Unset):
        expires = base.expires
    else:
        expires = None if expire_at is None else expire_at.timestamp()
    return Version(
        updated=landed.updated,
        revision=packed.segment.id,
        layout="serialized",
        progress=packed.progress_after(base.progress),
        weight=weight,
        parts=parts,
        created=base.created,
        expires=expires,
        has_extra=base.has_extra,
    )


async def _update_native(
    collection: Collection, id: str, change: Change, *, base: Version, deadline: Deadline
) -> Version:
    root = Write()
    root.update.name = collection.name(id)
    mask = write_change(root.update, change)
    progress = base.progress.after(change.operation, change.blocked_on_step, change.executions)
    expires = base.expires
    if {"operation", "blockedOnStep", "executions"} & replaced_fields(change).keys() and not base.owns_expiry:
        expire_at = collection.expire_at(progress.status)
        write_expiry(root.update.fields, expire_at)
        mask.append(EXPIRY)
        expires = None if expire_at is None else expire_at.timestamp()
    root.update_mask.field_paths.extend(mask)
    root.update_mask.SetInParent()

    def makes(stored: Document, base: Document | None) -> bool:
        return base is not None and same_fields(stored.fields, changed_fields(base.fields, root.update.fields, mask))

    out = Outgoing(id=id, root=root, revision="", replaces=False, makes=makes)
    try:
        landed = await land(collection, out, base=base, absent=False, deadline=deadline)
    except Refused as refusal:
        raise collection.connection.refusal(refusal, flow_id=id) from refusal
    return replace(base, updated=landed.updated, progress=progress, expires=expires)
