"""Sending a write once, its parts ahead if they do not fit one commit; and taking parts back of one that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .._collection.collection import Collection
from .._document.parts import part_ids
from .._document.root import is_serialized, moment_of, read_root
from .._rpc.deadline import Deadline
from .._rpc.gather_or_cancel import gather_or_cancel
from .._rpc.messages import CommitResponse, Document, Precondition, Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateDecodeError
from ..unset import UNSET, Unset
from .backoff import Backoff
from .pending_write import CommitResult, PendingWrite

_BATCHES_AT_ONCE = 3
_WITHDRAWALS = 3  # tries to delete parts, while others write


async def send(collection: Collection, pending: PendingWrite, deadline: Deadline) -> CommitResult:
    """Commit the write once.

    Raises:
        Refused: It was not stored; parts may have been written ahead.
        Ambiguous: It may have been stored.
        BackendError: It was not stored.
    """
    *ahead, last = pending.batches(collection.request_bytes)
    if ahead:
        await _write_ahead(collection, ahead, pending.id, deadline)
    reply = await collection.connection.commit(last, deadline=deadline, flow_id=pending.id)
    return _result(pending, reply)


async def withdraw(
    collection: Collection, pending: PendingWrite, deadline: Deadline, *, stored: Document | Unset | None = UNSET
) -> None:
    """Delete the parts of a write that was not stored. If that fails, gc finds them.

    The root is to be as it was read: the write may still come, and bring a root that names its parts, and one that was
    refused may have been refused because its own duplicate was faster.

    Args:
        collection: Where.
        pending: The write.
        deadline: When to give up.
        stored: The root that is stored now and does not name the parts, or None; UNSET: to be read.
    """
    names = [part.name for part in pending.parts]
    for _ in range(_WITHDRAWALS):
        try:
            if isinstance(stored, Unset):
                stored = await collection.get(pending.id, deadline)
                if stored is not None and is_serialized(stored):
                    named = {collection.part_name(pending.id, part) for part in part_ids(read_root(stored).refs)}
                    if not named.isdisjoint(names):
                        return
            writes = [guard(collection, pending.id, stored), *(Write(delete=name) for name in names)]
            await collection.connection.commit(writes, deadline=deadline, flow_id=pending.id)
        except Refused:  # somebody has written meanwhile
            stored = UNSET
        except (Ambiguous, BackendError, FlowStateDecodeError):
            return
        else:
            return


def guard(collection: Collection, id: str, root: Document | None) -> Write:
    """Return a write that changes nothing, and fails if the root is not as it was read."""
    if root is None:
        return Write(delete=collection.name(id), current_document=Precondition(exists=False))
    write = Write(current_document=Precondition(update_time=root.update_time))
    write.update.name = root.name
    write.update_mask.SetInParent()
    return write


async def _write_ahead(collection: Collection, batches: Sequence[Sequence[Write]], id: str, deadline: Deadline) -> None:
    """Commit batches of parts, a few at once. They are immutable and random: sending one twice does no harm."""
    limit = asyncio.Semaphore(_BATCHES_AT_ONCE)

    async def commit(batch: Sequence[Write]) -> None:
        backoff = Backoff(deadline)
        async with limit:
            while True:
                try:
                    await collection.connection.commit(batch, deadline=deadline, flow_id=id)
                except Ambiguous:
                    await backoff.pause()
                else:
                    return

    await gather_or_cancel(commit(batch) for batch in batches)


def _result(pending: PendingWrite, reply: CommitResponse) -> CommitResult:
    first = reply.write_results[0]
    # A write that changes nothing, and a deletion, have no update_time of their own.
    time_of = first.update_time if first.HasField("update_time") else reply.commit_time
    return CommitResult(updated=moment_of(time_of), transforms=first.transform_results, rebased=pending.onto)
