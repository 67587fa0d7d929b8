"""Deleting parts that no root refers to, each commit under a guard of the root, so that it takes nothing of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from .._collection.collection import Collection
from .._limits import Moment
from .._rpc.deadline import Deadline
from .._rpc.messages import Precondition, Timestamp, Write
from .._rpc.outcome import Meaning, Refused, means

MOST: Final = 400
"""How many parts are deleted in one commit."""


def if_updated_at(updated: Moment) -> Precondition:
    """Return the precondition that a document is as of an update_time."""
    return Precondition(update_time=Timestamp(seconds=updated.seconds, nanos=updated.nanos))


def guard(name: str, updated: Moment | None) -> Write:
    """Return a write that changes nothing, and fails if the root is not of that update_time; None: if it is there."""
    if updated is None:
        return Write(delete=name, current_document=Precondition(exists=False))
    write = Write(current_document=if_updated_at(updated))
    write.update.name = name
    write.update_mask.SetInParent()
    return write


async def delete_parts(
    collection: Collection,
    id: str,
    unchanged: Write,
    names: Sequence[str],
    deadline: Deadline,
    *,
    at_most: int = MOST,
) -> AsyncIterator[int]:
    """Delete parts that no root refers to, in commits of as many as Firestore takes. Yield how many each has deleted.

    Args:
        collection: The collection.
        id: Their flow state.
        unchanged: The guard of their root, which each commit has: it fails if somebody has written the root since.
        names: Their resource names.
        deadline: When to give up.
        at_most: How many go in the first commit.

    Raises:
        Refused: Somebody has written the root, or Firestore does not delete a part alone. Some may be deleted.
        Ambiguous: It is not known whether some are deleted.
        BackendError: Some may be deleted.
    """
    done = 0
    while done < len(names):
        batch = names[done : done + at_most]
        try:
            writes = [unchanged, *(Write(delete=name) for name in batch)]
            await collection.connection.commit(writes, deadline=deadline, flow_id=id)
        except Refused as refusal:
            if len(batch) == 1 or means(refusal.code, Meaning.PRECONDITION):
                raise
            at_most = len(batch) // 2
        else:
            done += len(batch)
            yield len(batch)
