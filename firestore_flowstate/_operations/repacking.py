"""Packing anew what is stored, which changes no revision: compaction of a log, and encryption with the current key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .._collection.collection import Collection
from .._commit.commit import Attempts, commit
from .._commit.pending_write import CommitResult, PendingWrite, repacking
from .._document.compaction import (
    CompactedLog,
    compact_log,
    is_current,
    joinable,
    rewrap_root,
    write_compacted,
    write_rewrapped,
)
from .._document.layouts import LAYOUTS
from .._document.root import Root
from .._document.stored_document import StoredDocument
from .._document.version import Compacted
from .._error_texts import unreadable, with_flow_id
from .._rpc.concurrency import for_each
from .._rpc.deadline import Deadline
from .._rpc.outcome import Refused
from ..errors import BackendError, FlowStateDecodeError, FlowStateEncodeError
from ..reports import RewrapReport
from .reading import fetch, scan

_COMPACTION_TRIES = 5  # of an urgent compaction, while others write the state
_PATIENCE = 5.0  # seconds of a writer's time that a compaction may take, after the writer's own write was stored

_AT_ONCE: Final = 4  # states
_REWRAP_TRIES: Final = 20  # of one state, while others write it


async def compact(collection: Collection, id: str, deadline: Deadline, *, urgent: bool = False) -> Compacted | None:
    """Compact the log of a flow state; return what its root is then, or None if it was not compacted.

    Args:
        collection: The collection.
        id: The flow state.
        deadline: When to give up.
        urgent: Whether the root is full, so that a writer needs the room. Then failures are raised, and there are five
            tries. Otherwise there are two, and a failure leaves the compaction to the next writer.
    """
    if not urgent:
        deadline = Deadline.after(min(_PATIENCE, deadline.remaining()))
    judge = _CompactionJudge(collection, id, deadline, tries=_COMPACTION_TRIES if urgent else 2)
    try:
        result = await commit(collection, id, judge)
    except (BackendError, FlowStateDecodeError, FlowStateEncodeError, Refused) as error:
        if not urgent:
            return None  # the next writer over the limit compacts
        if isinstance(error, Refused):
            raise collection.connection.refused_error(error, flow_id=id) from error
        if isinstance(error, FlowStateDecodeError):
            raise unreadable(error, id) from error.__cause__
        if isinstance(error, FlowStateEncodeError):  # nested deeper than is ever written
            raise with_flow_id(error, id) from error.__cause__
        raise
    return None if result is None else judge.compacted(result)


class _CompactionJudge:
    """Judges a compaction: makes it anew of what is stored, until it is stored or its tries are used up."""

    mask: Final = None
    is_maintenance: Final = True

    def __init__(self, collection: Collection, id: str, deadline: Deadline, *, tries: int) -> None:
        self.deadline = deadline
        self._collection = collection
        self._id = id
        self._tries = tries
        self._made: tuple[Root, CompactedLog] | None = None  # the root and the log of the last write

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | None:
        """Return the write that compacts what is stored."""
        while True:
            self._tries -= 1
            if self._tries < 0 or stored is None or not LAYOUTS[stored.layout].has_log:
                return None  # rows 22, 24
            root = stored.read_root()
            resolved = await fetch(self._collection, self._id, joinable(root), self.deadline)
            if resolved is not None:
                return self._write(stored, root, compact_log(root, resolved, self._collection.context(self._id)))
            stored = await _stored_since(self._collection, stored, self.deadline)  # row 22

    def _write(self, stored: StoredDocument, root: Root, compacted: CompactedLog) -> PendingWrite:
        compacted.check_part_count(root, self._collection.context(self._id))
        self._made = root, compacted
        return repacking(  # row 22
            self._collection,
            stored,
            lambda document: write_compacted(document, compacted, stored, root),
            moved=compacted.spill.moved,
            gone=compacted.gone,
        )

    def compacted(self, result: CommitResult) -> Compacted:
        """Return what the compaction has made of the root, given the result of its commit."""
        assert self._made is not None  # noqa: S101  # `judge` has made the write that was committed
        root, log = self._made
        return Compacted(root.revision, result.updated, log.weight(), log.part_count(root), log.refs(root))


async def rewrap(collection: Collection, *, progress: Callable[[int], None] | None) -> RewrapReport:
    """Pack every flow state again whose values are not packed as they would be now. Native documents are left alone.

    Raises:
        FlowStateDecodeError: A value cannot be read. The states before it are done.
        FlowStateEncodeError: A codec or the function of a key failed. The states before it are done.
    """
    done = seen = 0
    native: list[str] = []

    async def one(document: StoredDocument) -> None:
        nonlocal done, seen
        changed = await _rewrap(collection, document)
        done += changed  # in a line of its own: `done += await ...` would lose what others add during the await
        seen += 1
        if progress is not None:
            progress(seen)

    async for page in scan(collection, page=20):
        packed = [document for document in page if LAYOUTS[document.layout].packs_values]
        native += [document.id for document in page if not LAYOUTS[document.layout].packs_values]
        await for_each(packed, one, at_once=_AT_ONCE)
    return RewrapReport(rewrapped=done, unchanged=seen - done, native=native)


async def _rewrap(collection: Collection, found: StoredDocument) -> bool:
    """Pack a flow state again if that is needed; return whether it was."""
    id = found.id
    judge = _RewrapJudge(collection, id)
    first = await judge.judge(found, Attempts())
    if not isinstance(first, PendingWrite):
        return False
    try:
        return await commit(collection, id, judge, first=first) is not None
    except Refused as refusal:
        raise collection.connection.refused_error(refusal, flow_id=id) from refusal


class _RewrapJudge:
    """Judges a rewrap: makes it anew of what is stored, until it is stored or its tries are used up."""

    mask: Final = None
    is_maintenance: Final = True

    def __init__(self, collection: Collection, id: str) -> None:
        self._collection = collection
        self._id = id
        self._bytes = 0
        self._tries = 0

    @property
    def deadline(self) -> Deadline:
        """When each of its calls gives up: many flow states are rewrapped, and no caller waits for this one."""
        return self._collection.deadline(None).for_bytes(self._bytes)

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | CommitResult | None:
        """Return the write that packs again what is stored."""
        while stored is not None and LAYOUTS[stored.layout].packs_values:
            if self._tries == _REWRAP_TRIES:
                raise BackendError(
                    f"The flow state {self._id!r} was written {_REWRAP_TRIES} times while it was rewrapped: rewrap "
                    "again when it is quieter.",
                    flow_id=self._id,
                )  # row 24
            try:
                resolved = await fetch(self._collection, self._id, stored.read_refs(), self._collection.deadline(None))
                if resolved is not None:
                    pending = _rewrap_write(self._collection, stored, resolved)
                    if pending is None:
                        return None if attempts.lost is None else CommitResult(updated=stored.updated)  # row 23
                    self._tries += 1
                    self._bytes = pending.size()
                    return pending  # row 22
                stored = await _stored_since(self._collection, stored, self._collection.deadline(None))  # row 22
            except FlowStateDecodeError as error:
                raise unreadable(error, self._id) from error.__cause__
            self._tries += 1
        return None  # row 22


def _rewrap_write(
    collection: Collection, document: StoredDocument, resolved: Mapping[str, bytes]
) -> PendingWrite | None:
    """Return the write that packs a document again, given the bytes of its parts; None: it is packed as it should be.

    Raises:
        FlowStateDecodeError: A value cannot be read; the text says why.
    """
    context = collection.context(document.id)
    root = document.read_root()
    if is_current(root, resolved, context):
        return None
    try:
        rewrapped = rewrap_root(root, resolved, context)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, document.id) from error.__cause__
    return repacking(
        collection,
        document,
        lambda update: write_rewrapped(update, rewrapped, context),
        moved=rewrapped.spill.moved,
        gone=rewrapped.gone,
    )


async def _stored_since(collection: Collection, document: StoredDocument, deadline: Deadline) -> StoredDocument | None:
    """Return what is stored now in the place of a document, parts of which are gone; None: nothing that can be read.

    Raises:
        FlowStateDecodeError: The document is as it was, so that nobody can read it.
    """
    stored = await collection.get(document.id, deadline)
    if stored is None or stored.updated != document.updated:
        return stored
    if not stored.is_live():
        return None
    raise FlowStateDecodeError("parts that it refers to are missing")
