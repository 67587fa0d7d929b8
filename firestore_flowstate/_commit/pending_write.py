"""A write that is ready: sent in one commit if it fits, else its parts first and the root with the last of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .._collection.collection import Collection
from .._document.parts import EXPIRY, part_ids, write_part_expiry
from .._document.root import Root, is_serialized, moment_of, read_root
from .._document.version import Moment
from .._rpc.deadline import Deadline
from .._rpc.gather_or_cancel import gather_or_cancel
from .._rpc.messages import CommitResponse, Document, Precondition, Write
from .._rpc.outcome import Ambiguous, Refused
from ..errors import BackendError, FlowStateDecodeError
from ..unset import UNSET, Unset
from .backoff import Backoff

_BATCHES_AT_ONCE = 3
_WITHDRAWALS = 3  # tries to delete parts, while others write
_PER_WRITE = 16  # bytes of framing around a write


@dataclass(kw_only=True)
class PendingWrite:
    """A write of one flow state, ready to be sent; the same bytes on every attempt.

    Attributes:
        id: The flow state.
        root: The write of the root document, without its precondition.
        revision: The revision that it makes; empty in the native layout.
        replaces: Whether it replaces the whole document.
        parts: The writes of its parts.
        gone: The resource names of the parts that go with what it replaces.
        stay: The resource names of the parts that stay and are to expire after the root from now on.
        makes: Tells whether a stored document is what this write makes of another one, where there is no revision
            to tell; the other one is None where the write replaces whatever there is.
        expire_at: When the state expires once it is written.
        fit: Fits the write to a root of the same revision that has other parts than those it was made for: changes
            `gone`, `stay` and what the root counts. None where it replaces the whole document, with all its parts.
    """

    id: str
    root: Write
    revision: str
    replaces: bool
    parts: Sequence[Write] = ()
    gone: Sequence[str] = ()
    stay: Sequence[str] = ()
    makes: Callable[[Document, Document | None], bool] = field(default=lambda stored, base: False)
    expire_at: datetime | None = None
    fit: Callable[[Root], None] | None = None

    def size(self) -> int:
        """Return the bytes of all its writes."""
        return sum(map(size_of, [self.root, *self.parts]))


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """A write that is stored.

    Attributes:
        updated: The update_time it got; where others have written since, a time before theirs.
        transforms: What its transforms came to; empty where the reply was lost.
        rebased: What it was put on top of, where maintenance had changed that since the version at hand.
        root: The root that it made, where the reply was lost and nobody has written since.
    """

    updated: Moment
    transforms: Sequence[Any] = ()
    rebased: Root | None = None
    root: Root | None = None


async def send(
    collection: Collection, out: PendingWrite, precondition: Precondition | None, deadline: Deadline
) -> CommitResult:
    """Commit the write once.

    Raises:
        Refused: It was not stored; parts may have been written ahead.
        Ambiguous: It may have been stored.
    """
    root = out.root
    if precondition is None:
        root.ClearField("current_document")
    else:
        root.current_document.CopyFrom(precondition)
    if not out.parts and not out.gone and not out.stay:
        return _result(await collection.connection.commit([root], deadline=deadline, flow_id=out.id))
    others = [*(_expiry(name, out.expire_at) for name in out.stay), *(Write(delete=name) for name in out.gone)]
    for part in out.parts:
        write_part_expiry(part.update, out.expire_at)
    touches = [_expiry(part.update.name, out.expire_at) for part in out.parts]
    first = sum(map(size_of, [root, *others, *touches]))
    *earlier, last = batches(out.parts, collection.request_bytes, first=first)
    if earlier:
        await _write_ahead(collection, earlier, out.id, deadline)
    # Parts that were written ahead must still be there when the root starts to name them. Only now do they expire.
    touched = touches[: len(out.parts) - len(last)]
    reply = await collection.connection.commit([root, *last, *touched, *others], deadline=deadline, flow_id=out.id)
    return _result(reply)


async def withdraw(
    collection: Collection, out: PendingWrite, deadline: Deadline, *, stored: Document | Unset | None = UNSET
) -> None:
    """Delete the parts of a write that was not stored. Where that fails, gc finds them.

    The root is to be as it was read: the write may still come, and bring a root that names its parts, and one that was
    refused may have been refused because its own duplicate was faster.

    Args:
        collection: Where.
        out: The write.
        deadline: When to give up.
        stored: The root that is stored now and does not name the parts, or None; UNSET: to be read.
    """
    names = [part.update.name for part in out.parts]
    for _ in range(_WITHDRAWALS):
        try:
            if isinstance(stored, Unset):
                stored = await collection.get(out.id, deadline)
                if stored is not None and is_serialized(stored):
                    named = {collection.part_name(out.id, part) for part in part_ids(read_root(stored).refs)}
                    if not named.isdisjoint(names):
                        return
            writes = [guard(collection, out.id, stored), *(Write(delete=name) for name in names)]
            await collection.connection.commit(writes, deadline=deadline, flow_id=out.id)
        except Refused:  # somebody has written meanwhile
            stored = UNSET
        except (Ambiguous, BackendError, FlowStateDecodeError):
            return
        else:
            return


def guard(collection: Collection, id: str, root: Document | None) -> Write:
    """Return a write that changes nothing and fails where the root is not as it was read."""
    if root is None:
        return Write(delete=collection.name(id), current_document=Precondition(exists=False))
    write = Write(current_document=Precondition(update_time=root.update_time))
    write.update.name = root.name
    write.update_mask.SetInParent()
    return write


def batches(parts: Sequence[Write], limit: int, *, first: int) -> list[list[Write]]:
    """Split writes into batches of at most `limit` bytes; the last one has room for `first` bytes more."""
    done: list[list[Write]] = []
    batch: list[Write] = []
    room = limit - first
    for part in reversed(parts):
        size = size_of(part)
        if size > room:
            done.append(batch)
            batch, room = [], limit
        batch.append(part)
        room -= size
    done.append(batch)
    return [batch[::-1] for batch in reversed(done)]


def size_of(write: Write) -> int:
    """Return the bytes a write takes in a request."""
    return int(write.ByteSize()) + _PER_WRITE


async def _write_ahead(collection: Collection, batches: Sequence[Sequence[Write]], id: str, deadline: Deadline) -> None:
    """Commit batches of parts, a few at once. They are immutable and random: sending one twice does no harm.

    They do not expire: were a batch to come late and twice, the root might stay by then, and its parts must.
    """
    for batch in batches:
        for part in batch:
            write_part_expiry(part.update, None)
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


def _expiry(part: str, expire_at: datetime | None) -> Write:
    """Return a write that sets when a part expires, and fails where it is gone."""
    write = Write()
    write.update.name = part
    write_part_expiry(write.update, expire_at)
    write.update_mask.field_paths.append(EXPIRY)
    write.current_document.exists = True
    return write


def _result(reply: CommitResponse) -> CommitResult:
    first = reply.write_results[0]
    # A write that changes nothing has no update_time of its own.
    time_of = first.update_time if first.HasField("update_time") else reply.commit_time
    return CommitResult(updated=moment_of(time_of), transforms=first.transform_results)
