"""Compacting the log of a stored flow state: maintenance, which changes no revision and may fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from .._collection.collection import Collection, expires_at
from .._commit.commit import Attempts, commit
from .._commit.expectation import if_updated_at
from .._commit.pending_write import CommitResult, PendingWrite, parts_of
from .._document.compaction import CompactedLog, compact_log, joinable
from .._document.error_texts import with_flow_id
from .._document.parts import part_ids
from .._document.root import PAYLOAD, Root, is_serialized, read_root, write_segment
from .._document.version import StatusInputs, Version
from .._rpc.deadline import Deadline
from .._rpc.messages import Document, Write
from .._rpc.outcome import Refused
from ..errors import BackendError, FlowStateDecodeError, FlowStateEncodeError
from .reading import fetch, unreadable

_TRIES = 5
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
            raise collection.connection.refusal(error, flow_id=id) from error
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

    async def judge(self, stored: Document | None, attempts: Attempts) -> PendingWrite | None:
        """Return the write that compacts what is stored."""
        self._tries -= 1
        if self._tries < 0 or stored is None or not is_serialized(stored):
            return None  # rows 22, 24
        root = read_root(stored)
        resolved = await fetch(self._collection, self._id, joinable(root), self.deadline)
        if resolved is None:
            return None  # replaced meanwhile
        compacted = compact_log(root, resolved, self._collection.context(self._id))
        pending, self._made = _pending_write(self._collection, self._id, stored, root, compacted)
        return pending  # row 22

    def version(self, result: CommitResult) -> Version:
        """Return the version that a compaction has made."""
        assert self._made is not None  # noqa: S101  # what was committed
        return replace(self._made, updated=result.updated)


def _pending_write(
    collection: Collection, id: str, document: Document, root: Root, compacted: CompactedLog
) -> tuple[PendingWrite, Version]:
    """Return the write that compacts a document, and the version that it makes, but for its update_time."""
    write = Write(current_document=if_updated_at(root.updated))
    write.update.name = document.name
    payload = write.update.fields[PAYLOAD].map_value.fields
    segments = payload["log"].array_value
    segments.SetInParent()
    for segment in compacted.log:
        write_segment(segments.values.add(), segment)
    gone = part_ids(compacted.gone)
    payload["weight"].integer_value = compacted.weight()
    payload["parts"].integer_value = max(0, root.part_count - len(gone)) + compacted.spill.count
    write.update_mask.field_paths.extend([f"{PAYLOAD}.log", f"{PAYLOAD}.weight", f"{PAYLOAD}.parts"])
    if compacted.steps is not None:  # updates could only count what they set
        write.update.fields["summary"].map_value.fields["steps"].integer_value = compacted.steps
        write.update_mask.field_paths.append("summary.steps")
    if compacted.grown:
        summary = document.fields["summary"].map_value.fields
        size = max(0, summary["bytes"].integer_value + compacted.grown) if "bytes" in summary else 0
        write.update.fields["summary"].map_value.fields["bytes"].integer_value = size
        write.update_mask.field_paths.append("summary.bytes")
    pending = PendingWrite(
        id=id,
        root=write,
        revision=root.revision,
        replaces=False,
        parts=parts_of(collection, id, compacted.spill.moved),
        expire_at=expires_at(document.fields),
        gone=[collection.part_name(id, name) for name in gone],
    )
    left = {ref.name for ref in compacted.gone}
    refs = (*(ref for ref in root.refs if ref.name not in left), *compacted.spill.refs)
    made = Version(
        updated=root.updated,
        revision=root.revision,
        layout="serialized",
        status_inputs=StatusInputs("", blocked=False, executed=False),
        weight=compacted.weight(),
        part_count=payload["parts"].integer_value,
        part_refs=refs,
    )
    return pending, made
