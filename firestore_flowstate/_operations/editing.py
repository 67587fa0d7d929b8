"""Reading, changing and writing back the difference."""

from __future__ import annotations

from .._arguments import ChangeFunction, changed
from .._collection.collection import Collection
from .._commit.conflict import Conflict
from .._document.difference import Change, Snapshot
from .._document.layouts import LAYOUTS
from .._document.stored_document import StoredDocument
from .._document.version import Exactly, KnownDocument
from .._error_texts import conflict, not_found, with_flow_id
from .._rpc.deadline import Backoff, Deadline
from ..errors import FlowStateEncodeError, FlowStateNotFoundError
from ..models import FlowState
from .reading import load, state_of
from .saving import save
from .updating import update


class Edit:
    """A state to be changed and written back.

    Args:
        collection: The collection.
        id: The flow state.
        state: The state as it was loaded.
        timeout: Seconds for the write, as for the load before; None: those of the settings.
    """

    def __init__(self, collection: Collection, id: str, state: FlowState, *, timeout: float | None) -> None:
        self.state = state
        self._collection = collection
        self._id = id
        self._base = _known(collection, id, state)
        self._before = _snapshot(self._base, state)
        self._timeout = timeout

    @classmethod
    async def begin(cls, collection: Collection, id: str, *, timeout: float | None) -> Edit:
        """Load the state, or raise FlowStateNotFoundError."""
        state = await load(collection, id, collection.deadline(timeout))
        if state is None:
            raise not_found(id)
        return cls(collection, id, state, timeout=timeout)

    async def write(self) -> None:
        """Write what was changed of the state, or raise FlowStateConflictError if another writer was first."""
        deadline = self._collection.deadline(self._timeout)
        try:
            await write_difference(
                self._collection, self._id, self.state, base=self._base, before=self._before, deadline=deadline
            )
        except Conflict as conflicting:
            if not isinstance(conflicting.error, FlowStateNotFoundError):
                raise conflicting.error from None
            raise conflict(self._id, expected=self._base.version, found=None) from None


async def modify(
    collection: Collection,
    id: str,
    change: ChangeFunction,
    *,
    attempts: int,
    deadline: Deadline,
) -> FlowState:
    """Change the state and write the difference; after a conflict change what is stored then, and so on."""
    async with collection.local_locks.hold(id, deadline):
        return await _modify(collection, id, change, attempts=attempts, deadline=deadline)


async def _modify(
    collection: Collection,
    id: str,
    change: ChangeFunction,
    *,
    attempts: int,
    deadline: Deadline,
) -> FlowState:
    # The pauses begin at about what a write takes and grow: the more conflicts, the more writers there are.
    backoff = Backoff(deadline, first=0.004, longest=0.3)
    state = await load(collection, id, deadline)
    left = attempts
    while True:
        if state is None:
            raise not_found(id)
        base = _known(collection, id, state)
        before = _snapshot(base, state)
        state = await changed(change, state, collection=collection.name(""), id=id)
        try:
            await write_difference(collection, id, state, base=base, before=before, deadline=deadline)
        except Conflict as conflicting:
            left -= 1
            stored = conflicting.document
            if not left:
                raise (conflicting.error if stored is not None and stored.is_live() else not_found(id)) from None
            await backoff.pause()
            state = await _latest(collection, id, stored, deadline, waited=left + 1 < attempts)
        else:
            return state


async def write_difference(
    collection: Collection,
    id: str,
    state: FlowState,
    *,
    base: KnownDocument,
    before: Snapshot,
    deadline: Deadline,
) -> None:
    """Write what was changed of a state. Afterwards the state has the version that was stored.

    Args:
        collection: The collection.
        id: The flow state.
        state: The state as it is now. It may have been stored meanwhile, here or elsewhere.
        base: What it knew of its document when it was loaded.
        before: The snapshot from then.
        deadline: When to give up.
    """
    latest = KnownDocument.of(state, base.document)
    if latest is not None and latest.known != base.known:
        # The block has stored it here itself. What it has changed since, the snapshot does not tell.
        expected = Exactly(latest.known)
        await save(collection, id, state, expected=expected, layout=latest.known.layout, deadline=deadline)
        return
    try:
        difference = before.difference(state)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    if difference is None:
        state._note_stored(base)
        return
    version = base.known
    # A key that is removed from the head appears again if the payload has it too: then the whole state is written.
    if isinstance(difference, Change) and not (difference.unset and version.has_extra):
        version = await update(collection, id, difference, base=version, deadline=deadline)
        revisions = (*base.revisions, version.revision) if version.revision else ()
        version.stamp(state, base.document, revisions=revisions)
    else:
        await save(collection, id, state, expected=Exactly(version), layout=version.layout, deadline=deadline)


def _snapshot(base: KnownDocument, state: FlowState) -> Snapshot:
    """Return a snapshot of the state, in which values differ if the layout of its document stores them differently."""
    return Snapshot(state, LAYOUTS[base.known.layout].encode)


def _known(collection: Collection, id: str, state: FlowState) -> KnownDocument:
    """Return what a state that was just loaded knows of its document."""
    known = KnownDocument.of(state, collection.name(id))
    assert known is not None  # noqa: S101  # it was loaded from here
    return known


async def _latest(
    collection: Collection, id: str, document: StoredDocument | None, deadline: Deadline, *, waited: bool
) -> FlowState | None:
    """Return the state as it is now: the document that the conflict has found, unless a longer pause came after it."""
    if waited or document is None:
        return await load(collection, id, deadline)
    return await state_of(collection, document, deadline) if document.is_live() else None
