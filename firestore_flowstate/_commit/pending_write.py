"""A write that is ready: what it expects to find, and sending it once, its parts first and the root with the last.

What it deletes goes with the root too, or after it if that is more than Firestore takes in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from .._collection.collection import Collection
from .._document.head import EXPIRY
from .._document.root import Root
from .._document.stored_document import StoredDocument
from .._document.stored_values import PART_BYTES, PartRef, part_ids, write_part, write_part_expiry
from .._document.version import Absent, AsRead, Exactly, Expectation
from .._limits import Moment, moment_of
from .._rpc.concurrency import for_each
from .._rpc.deadline import Backoff, Deadline
from .._rpc.messages import CommitResponse, Document, Precondition, Write
from .._rpc.outcome import Ambiguous, Meaning, Refused, means
from ..errors import BackendError
from .deleting_parts import MOST, delete_parts, guard, if_updated_at

_BATCHES_AT_ONCE = 3  # batches of parts: up to 30 MiB on the way
_PATIENCE: Final = 5.0  # seconds to delete parts in, after a write that is stored
_PER_WRITE = 16  # bytes: more than protobuf puts around a write in a request


def if_expected(expected: Expectation) -> Precondition | None:
    """Return the precondition that Firestore is to check; None: the write takes whatever is stored."""
    if isinstance(expected, Absent):
        return Precondition(exists=False)
    updated = expected_update_time(expected)
    return None if updated is None else if_updated_at(updated)


def expected_update_time(expected: Expectation) -> Moment | None:
    """Return the update_time that the root must have; None: it may have any, or must not be there."""
    if isinstance(expected, Exactly):
        return expected.version.updated
    return expected.updated if isinstance(expected, AsRead) else None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a value.

    Attributes:
        name: The resource name of its document.
        data: All bytes of the value.
        index: The number of the part, counted from 0.
    """

    name: str
    data: bytes
    index: int

    def size(self) -> int:
        """Return about how many bytes its write takes in a request."""
        return min(PART_BYTES, len(self.data) - self.index * PART_BYTES) + len(self.name) + 2 * _PER_WRITE

    def write(self, expire_at: datetime | None) -> Write:
        """Return its write; `expire_at` is when its root expires, which it outlives."""
        write = Write()
        write.update.name = self.name
        write_part(write.update, self.data, self.index)
        write_part_expiry(write.update, expire_at)
        return write


@dataclass(frozen=True, kw_only=True)
class PendingWrite:
    """A write of one flow state, ready to be sent; nothing changes it.

    Attributes:
        id: The flow state.
        write: The write of the root document, serialized; its precondition follows from `expected`.
        expected: What it expects to be stored.
        revision: The revision that it makes; empty in the native layout.
        replaces: Whether it replaces or deletes the whole document.
        parts: The parts that it adds.
        gone: The resource names of the parts that it deletes, since it replaces their values.
        stay: The resource names of the parts that it keeps, and to which it gives the expiry that follows from the
            root's.
        makes: Takes a stored document and the one before it, and returns whether this write has made the one of the
            other, for documents without a revision. The one before is None if the write replaces whatever is stored.
        expire_at: When the state expires after the write; None: it does not.
        fit: Takes a root of the same revision whose parts differ, since maintenance has packed it anew, and returns the
            write for that root. None if the write replaces the whole document, with all its parts.
        onto: The root that it is written on top of, if that is not the one it was made for.
    """

    id: str
    write: bytes
    expected: Expectation
    revision: str
    replaces: bool
    parts: tuple[Part, ...] = ()
    gone: tuple[str, ...] = ()
    stay: tuple[str, ...] = ()
    makes: Callable[[StoredDocument, StoredDocument | None], bool] = field(default=lambda stored, base: False)
    expire_at: datetime | None = None
    fit: Callable[[Root], PendingWrite] | None = None
    onto: Root | None = None

    def size(self) -> int:
        """Return about how many bytes all its writes take."""
        return size_of(self.write) + sum(part.size() for part in self.parts)

    def conditional_write(self) -> bytes:
        """Return the write of the root document with its precondition, serialized as it is sent."""
        precondition = if_expected(self.expected)
        # Messages that are serialized one after the other are read as one, with the fields of both.
        return self.write if precondition is None else self.write + _serialized_condition(precondition)

    def batches(self, limit: int) -> list[list[Write | bytes]]:
        """Return the commits that the write takes, in order. The last has the root, and all that must change with it.

        Parts in earlier commits have no expiry. Such a commit may arrive once more, late, when the root does not expire
        any more, and then its parts must not expire either. The last commit gives them their expiry, and fails if they
        are gone.

        Args:
            limit: How many bytes a batch may have.
        """
        write = self.conditional_write()
        if not (self.parts or self.stay or self.gone):
            return [[write]]
        others = [*(_expiry(name, self.expire_at) for name in self.stay), *(Write(delete=name) for name in self.gone)]
        if not self.parts:
            return [[write, *others]]
        parts = [part.write(self.expire_at) for part in self.parts]
        touches = [_expiry(part.name, self.expire_at) for part in self.parts]
        *ahead, last = _split(parts, limit, first=sum(map(size_of, [write, *others, *touches])))
        for part in (part for batch in ahead for part in batch):
            write_part_expiry(part.update, None)
        return [*ahead, [write, *last, *touches[: len(parts) - len(last)], *others]]


@dataclass(frozen=True, kw_only=True)
class CommitResult:
    """A write that is stored.

    Attributes:
        updated: The update_time that it got. If the reply was lost and others have written since: a time before theirs.
        transforms: The results of its transforms; empty if the reply was lost.
        rebased: The root that it was put on top of, if maintenance had changed that since the version was read.
        root: The root that it made, if the reply was lost and nobody has written since.
    """

    updated: Moment
    transforms: Sequence[Any] = ()
    rebased: Root | None = None
    root: Root | None = None


async def commit_batches(collection: Collection, pending: PendingWrite, deadline: Deadline) -> CommitResult:
    """Commit the batches of the write once, those of parts first.

    Raises:
        Refused: The write was not stored. Parts of it may have been.
        Ambiguous: The write may have been stored.
        BackendError: The write was not stored. Parts of it may have been.
    """
    *ahead, last = pending.batches(collection.request_bytes)
    if ahead:
        await _write_ahead(collection, ahead, pending.id, deadline)
    try:
        reply = await collection.connection.commit(last, deadline=deadline, flow_id=pending.id)
    except Refused as refusal:
        if not pending.gone or means(refusal.code, Meaning.PRECONDITION):
            raise
        return await _commit_and_then_delete(collection, pending, last[: -len(pending.gone)], deadline)
    return _result(pending, reply)


async def _commit_and_then_delete(
    collection: Collection, pending: PendingWrite, writes: Sequence[Write | bytes], deadline: Deadline
) -> CommitResult:
    """Commit a write without what it deletes, and delete that afterwards. What then stays is left to `gc`.

    Firestore counts what a commit deletes among the 10 MiB that a transaction may change: "Transaction too big", it
    says. If it has refused for another reason, it does so again.
    """
    reply = await collection.connection.commit(writes, deadline=deadline, flow_id=pending.id)
    result = _result(pending, reply)
    is_deleted = Write.FromString(pending.write).HasField("delete")
    unchanged = guard(collection.name(pending.id), None if is_deleted else result.updated)
    if not is_deleted:  # whose caller waits for nothing but what is stored by now
        deadline = Deadline.after(min(_PATIENCE, deadline.remaining()))
    half = max(1, min(MOST, len(pending.gone) // 2))
    with suppress(Refused, Ambiguous, BackendError):
        async for _ in delete_parts(collection, pending.id, unchanged, pending.gone, deadline, at_most=half):
            pass
    return result


def parts_of(collection: Collection, id: str, values: Iterable[tuple[PartRef, bytes]]) -> tuple[Part, ...]:
    """Return the parts of values; these are given as references, each with its bytes."""
    return tuple(
        Part(name=collection.part_name(id, name), data=data, index=index)
        for ref, data in values
        for index, name in enumerate(ref.part_names())
    )


def part_names_of(collection: Collection, id: str, refs: Iterable[PartRef]) -> tuple[str, ...]:
    """Return the resource names of the parts of references."""
    return tuple(collection.part_name(id, part) for part in part_ids(refs))


def repacking(
    collection: Collection,
    stored: StoredDocument,
    fill: Callable[[Document], Iterable[str]],
    *,
    moved: Iterable[tuple[PartRef, bytes]],
    gone: Iterable[PartRef],
) -> PendingWrite:
    """Return a write of maintenance, which packs values of a document anew and changes neither state nor revision.

    Args:
        collection: The collection.
        stored: The document as it was read. The write fails if it has changed.
        fill: Fills a document with the values; returns the field paths of its mask.
        moved: The references to its new parts, each with their bytes.
        gone: The references whose parts it deletes.
    """
    write = Write()
    write.update.name = stored.name
    write.update_mask.field_paths.extend(fill(write.update))
    return PendingWrite(
        id=stored.id,
        write=write.SerializeToString(),
        expected=AsRead(stored.updated),
        revision=stored.revision,
        replaces=False,
        parts=parts_of(collection, stored.id, moved),
        expire_at=stored.expire_at,
        gone=part_names_of(collection, stored.id, gone),
    )


def size_of(write: Write | bytes) -> int:
    """Return the bytes a write takes in a request."""
    return (len(write) if isinstance(write, bytes) else int(write.ByteSize())) + _PER_WRITE


def _serialized_condition(precondition: Precondition) -> bytes:
    serialized: bytes = Write(current_document=precondition).SerializeToString()
    return serialized


def _split(parts: Sequence[Write], limit: int, *, first: int) -> list[list[Write]]:
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


def _expiry(part: str, expire_at: datetime | None) -> Write:
    """Return a write that sets when a part expires, and fails if it is gone."""
    write = Write()
    write.update.name = part
    write_part_expiry(write.update, expire_at)
    write.update_mask.field_paths.append(EXPIRY)
    write.current_document.exists = True
    return write


async def _write_ahead(collection: Collection, batches: Sequence[Sequence[Write]], id: str, deadline: Deadline) -> None:
    """Commit batches of parts, a few at once. Parts have random names and never change, so one may be sent twice."""

    async def commit(batch: Sequence[Write]) -> None:
        backoff = Backoff(deadline)
        while True:
            try:
                await collection.connection.commit(batch, deadline=deadline, flow_id=id)
            except Ambiguous:
                await backoff.pause()
            else:
                return

    await for_each(batches, commit, at_once=_BATCHES_AT_ONCE)


def _result(pending: PendingWrite, reply: CommitResponse) -> CommitResult:
    first = reply.write_results[0]
    # A write that changes nothing, and a deletion, have no update_time of their own.
    time_of = first.update_time if first.HasField("update_time") else reply.commit_time
    return CommitResult(updated=moment_of(time_of), transforms=first.transform_results, rebased=pending.onto)
