"""Moving flow states to another layout or collection, live: each by compare-and-swap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from .._collection.collection import Collection, MixedLayoutsWarning
from .._commit.conflict import Conflict
from .._document.layouts import LAYOUTS
from .._document.stored_document import EXPIRY_ALONE, StoredDocument
from .._document.version import Absent, Exactly, Version
from .._rpc.concurrency import for_each
from ..errors import BackendError, FlowStateError, StoreUnavailableError
from ..models import FlowState
from ..reports import MigrateReport
from .reading import load, scan, state_of
from .saving import check_storable, save

_AT_ONCE: Final = 8  # states
_TRIES: Final = 100  # of one state, while others write it


async def migrate(
    source: Collection, destination: Collection, *, dry_run: bool, progress: Callable[[int], None] | None
) -> MigrateReport:
    """Bring every live flow state of the source to the destination, in the destination's layout.

    If both are the same collection, documents that are in the destination's layout and shard already are left alone.
    If not, a state that the destination has in a later version stays as it is there. Another call does what is left.
    """
    # No warning of mixed layouts: a migration ends a mixture, or its caller wants one.
    source, destination = (replace(one, mixing=MixedLayoutsWarning()) for one in (source, destination))
    in_place = source.documents == destination.documents and source.path == destination.path
    migrated = unchanged = seen = 0
    failed: dict[str, FlowStateError] = {}

    async def one(document: StoredDocument) -> None:
        nonlocal migrated, unchanged, seen
        id = document.id
        try:
            if in_place:
                moved = await _convert(source, destination, id, document, dry_run=dry_run)
            else:
                moved = await _copy(source, destination, id, document, dry_run=dry_run)
        except StoreUnavailableError:
            raise
        except FlowStateError as error:
            failed[id] = error
        else:
            migrated, unchanged = migrated + moved, unchanged + (not moved)
        seen += 1
        if progress is not None:
            progress(seen)

    async for page in scan(source):
        await for_each(filter(StoredDocument.is_live, page), one, at_once=_AT_ONCE)
    return MigrateReport(migrated=migrated, unchanged=unchanged, failed=failed)


async def _convert(
    source: Collection, destination: Collection, id: str, document: StoredDocument | None, *, dry_run: bool
) -> bool:
    """Rewrite a document in the destination's layout and shard; return whether that was needed.

    The source reads it, since it has the keys and codecs of what is stored. The destination need not have them.
    """
    for _ in range(_TRIES):
        if document is None or not document.is_live() or _is_as_wanted(destination, document):
            return False
        state = await state_of(source, document, source.deadline(None))
        if state is None:
            return False
        if dry_run:
            check_storable(destination, id, state)
            return True
        try:
            await _save(destination, id, state, base=_version(destination, id, state), expires_like=state)
        except Conflict as conflicting:
            document = conflicting.document  # as it is now, so that the next try needs no read
        else:
            return True
    raise _too_busy(id)


async def _copy(
    source: Collection, destination: Collection, id: str, document: StoredDocument, *, dry_run: bool
) -> bool:
    """Write a state to another collection; return whether that was needed.

    After each write the source is looked at again: what was written there meanwhile is older than the copy, so that no
    later call would copy it.
    """
    state = await state_of(source, document, source.deadline(None))
    ours: FlowState | None = None  # the copy that was written last
    copied = False
    for _ in range(_TRIES):
        if state is None:
            return copied
        there = ours or await load(destination, id, destination.deadline(None))
        if ours is None and there is not None and _is_later(there, state):
            return copied
        if dry_run:
            check_storable(destination, id, state)
            return True
        copy = state.model_copy(deep=True)
        base = None if there is None else _version(destination, id, there)
        try:
            await _save(destination, id, copy, base=base, expires_like=state)
        except Conflict:
            ours = None
            continue
        ours, copied = copy, True
        if not await _is_written_since(source, id, state):
            return True
        state = await load(source, id, source.deadline(None))
    raise _too_busy(id)


async def _is_written_since(source: Collection, id: str, state: FlowState) -> bool:
    """Return whether the document of a state is another one than the state was read from; False if it is gone."""
    document = await source.get(id, source.deadline(None), mask=EXPIRY_ALONE)
    version = _version(source, id, state)
    return document is not None and version is not None and document.updated != version.updated


async def _save(
    destination: Collection, id: str, state: FlowState, *, base: Version | None, expires_like: FlowState
) -> None:
    await save(
        destination,
        id,
        state,
        expected=Absent() if base is None else Exactly(base),
        layout=destination.settings.layout,
        expire_at=expires_like.expire_at,
        deadline=destination.deadline(None),
    )


def _is_as_wanted(destination: Collection, document: StoredDocument) -> bool:
    if document.layout != destination.settings.layout:
        return False
    return not LAYOUTS[document.layout].has_head or document.shard == destination.shard_of(document.id)


def _is_later(there: FlowState, state: FlowState) -> bool:
    """Return whether the destination's state was written after the source's was: by another run, or by a live flow."""
    return there.updated_at is not None and state.updated_at is not None and there.updated_at >= state.updated_at


def _version(collection: Collection, id: str, state: FlowState) -> Version | None:
    return Version.of(state, collection.name(id))


def _too_busy(id: str) -> BackendError:
    return BackendError(
        f"The flow state {id!r} was written {_TRIES} times while it was migrated: migrate it again when it is quieter.",
        flow_id=id,
    )
