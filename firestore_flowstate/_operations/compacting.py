"""Compacting the log of a stored flow state: maintenance, which changes no revision and may fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .._collection.collection import Collection
from .._commit.commit import Attempts, commit
from .._commit.pending_write import CommitResult, PendingWrite, repacking
from .._document.compaction import compact_log, joinable, write_compacted
from .._document.head import StatusInputs
from .._document.stored_document import StoredDocument
from .._document.version import Version
from .._error_texts import unreadable, with_flow_id
from .._rpc.deadline import Deadline
from .._rpc.outcome import Refused
from ..errors import BackendError, FlowStateDecodeError, FlowStateEncodeError
from .reading import fetch

_TRIES = 5  # while others write it, if it is urgent
_PATIENCE = 5.0  # seconds that a writer gives to maintenance, its own write being stored already


async def compact(collection: Collection, id: str, deadline: Deadline, *, urgent: bool = False) -> Version | None:
    """Compact the log of a flow state; return the version it has then, or None if it was not compacted.

    Args:
        collection: Where.
        id: The flow state.
        deadline: When to give up.
        urgent: Whether somebody waits for the room: then failures are raised, and tries are more.
    """
    if not urgent:
        deadline = Deadline.after(min(_PATIENCE, deadline.remaining()))
    judge = _CompactionJudge(collection, id, deadline, tries=_TRIES if urgent else 2)
    try:
        result = await commit(collection, id, judge)
    except (BackendError, FlowStateDecodeError, FlowStateEncodeError, Refused) as error:
        if not urgent:
            return None  # the next writer over the limit compacts
        if isinstance(error, Refused):
            raise collection.connection.refused_error(error, flow_id=id) from error
        if isinstance(error, FlowStateDecodeError):
            raise unreadable(error, id) from error
        if isinstance(error, FlowStateEncodeError):  # nested deeper than is ever written
            raise with_flow_id(error, id) from error.__cause__
        raise
    return None if result is None else judge.version(result)


class _CompactionJudge:
    """Compacts what is stored, unless too many write in between."""

    mask: Final = None
    is_maintenance: Final = True

    def __init__(self, collection: Collection, id: str, deadline: Deadline, *, tries: int) -> None:
        self.deadline = deadline
        self._collection = collection
        self._id = id
        self._tries = tries
        self._made: Version | None = None  # but for its update_time

    async def judge(self, stored: StoredDocument | None, attempts: Attempts) -> PendingWrite | None:
        """Return the write that compacts what is stored."""
        self._tries -= 1
        if self._tries < 0 or stored is None or stored.is_native:
            return None  # rows 22, 24
        root = stored.read_root()
        resolved = await fetch(self._collection, self._id, joinable(root), self.deadline)
        if resolved is None:
            return None  # replaced meanwhile
        compacted = compact_log(root, resolved, self._collection.context(self._id))
        self._made = replace(
            Version.of_document(stored, StatusInputs("", blocked=False, executed=False)),
            weight=compacted.weight(),
            part_count=compacted.part_count(root),
            part_refs=compacted.refs(root),
        )
        return repacking(  # row 22
            self._collection,
            stored,
            lambda document: write_compacted(document, compacted, stored, root),
            moved=compacted.spill.moved,
            gone=compacted.gone,
        )

    def version(self, result: CommitResult) -> Version:
        """Return the version that a compaction has made."""
        assert self._made is not None  # noqa: S101  # what was committed
        return replace(self._made, updated=result.updated)
