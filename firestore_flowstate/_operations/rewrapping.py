"""Encrypting what is stored again, with the current key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .._collection.collection import Collection, expires_at
from .._commit.commit import Attempts, commit
from .._commit.expectation import if_updated_at
from .._commit.pending_write import CommitResult, PendingWrite, parts_of
from .._document.error_texts import with_flow_id
from .._document.parts import part_ids
from .._document.rewrapping import is_current, rewrap_root
from .._document.root import PAYLOAD, is_serialized, moment_of, read_root, write_segment, write_stored
from .._rpc.deadline import Deadline
from .._rpc.gather_or_cancel import for_each
from .._rpc.messages import Document, Write
from .._rpc.outcome import Refused
from ..errors import BackendError, FlowStateDecodeError, FlowStateEncodeError
from ..reports import RewrapReport
from .reading import fetch, unreadable
from .scanning import scan

_AT_ONCE: Final = 4
_TRIES: Final = 20


async def rewrap(collection: Collection, *, progress: Callable[[int], None] | None) -> RewrapReport:
    """Pack every flow state again whose values are not packed as they would be now. Native documents have none.

    Raises:
        FlowStateDecodeError: A value cannot be read; those before it are done.
        FlowStateEncodeError: A codec or the function of a key failed; likewise.
    """
    done = seen = 0
    native: list[str] = []

    async def one(document: Document) -> None:
        nonlocal done, seen
        changed = await _rewrap(collection, document)
        done += changed  # not across the await: the others count too
        seen += 1
        if progress is not None:
            progress(seen)

    async for page in scan(collection, page=20):
        native += [collection.id_of(document) for document in page if not is_serialized(document)]
        await for_each(filter(is_serialized, page), one, at_once=_AT_ONCE)
    return RewrapReport(rewrapped=done, unchanged=seen - done, native=native)


async def _rewrap(collection: Collection, found: Document) -> bool:
    """Pack a flow state again; return whether it was not as it should be."""
    id = collection.id_of(found)
    judge = _RewrapJudge(collection, id)
    first = await judge.judge(found, Attempts())
    if not isinstance(first, PendingWrite):
        return False
    try:
        return await commit(collection, id, judge, first=first) is not None
    except Refused as refusal:
        raise collection.connection.refusal(refusal, flow_id=id) from refusal


class _RewrapJudge:
    """Packs again what is stored, until nobody was there in between."""

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
        return self._collection.deadline(None).plus(self._bytes / 2**20)

    async def judge(self, stored: Document | None, attempts: Attempts) -> PendingWrite | CommitResult | None:
        """Return the write that packs again what is stored."""
        if stored is None or not is_serialized(stored):
            return None  # row 22
        if self._tries == _TRIES:
            raise BackendError(
                f"The flow state {self._id!r} was written all the time while it was rewrapped.", flow_id=self._id
            )  # row 24
        pending = await _pending_write(self._collection, self._id, stored)
        if pending is None:
            return None if attempts.lost is None else CommitResult(updated=moment_of(stored.update_time))  # row 23
        self._tries += 1
        self._bytes = pending.size()
        return pending  # row 22


async def _pending_write(collection: Collection, id: str, document: Document) -> PendingWrite | None:
    """Return the write that packs a document again, or None if it is as it should be or was replaced."""
    context = collection.context(id)
    try:
        root = read_root(document)
        resolved = await fetch(collection, id, root.refs, collection.deadline(None))
        if resolved is None or is_current(root, resolved, context):
            return None
        rewrapped = rewrap_root(root, resolved, context)
    except FlowStateDecodeError as error:
        raise unreadable(error, id) from error
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    write = Write(current_document=if_updated_at(root.updated))
    write.update.name = document.name
    payload = write.update.fields[PAYLOAD].map_value.fields
    for name, stored in rewrapped.values.items():
        write_stored(payload[name], stored)
    segments = payload["log"].array_value.values
    for segment in rewrapped.log:
        write_segment(segments.add(), segment)
    payload["weight"].integer_value = sum(segment.weight() for segment in rewrapped.log)
    payload["parts"].integer_value = rewrapped.spill.count
    names = [*rewrapped.values, "log", "weight", "parts"]
    write.update_mask.field_paths.extend(f"{PAYLOAD}.{name}" for name in names)
    if context.payloads.keyring is not None:
        write.update_mask.field_paths.append("summary.errorLine")  # not to be left in the clear
    gone = [collection.part_name(id, part) for part in part_ids(rewrapped.gone)]
    return PendingWrite(
        id=id,
        root=write,
        revision=root.revision,
        replaces=False,
        parts=parts_of(collection, id, rewrapped.spill.moved),
        expire_at=expires_at(document.fields),
        gone=gone,
    )
