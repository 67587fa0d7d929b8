"""Collecting orphans: parts that no flow state refers to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Final

from .._collection.collection import Collection
from .._commit.conflict import guard
from .._document.stored_document import StoredDocument
from .._document.stored_values import part_ids
from .._limits import moment_of
from .._rpc.messages import Document, Write
from .._rpc.outcome import Ambiguous, Meaning, Refused, means
from ..errors import FlowStateDecodeError
from ..reports import GcReport
from .reading import scan_parts

MIN_AGE: Final = timedelta(hours=1)
"""Parts younger than this may belong to a save that is under way, whose root does not refer to them yet."""

_PER_COMMIT: Final = 400  # deletions


async def collect(collection: Collection, *, dry_run: bool, min_age: timedelta = MIN_AGE) -> GcReport:
    """Find the parts that no flow state refers to, and delete them.

    A deletion fails if the root is not as it was read. So it never deletes a part that a save has begun to refer to.
    """
    orphans = deleted = young = 0
    unreadable: list[str] = []
    read: str | None = None  # the flow state whose root was read last: the next page may begin with more of its parts
    root: StoredDocument | None = None
    async for page in scan_parts(collection):
        for id, parts in _by_flow(collection, page).items():
            if id != read:
                read, root = id, await collection.get(id, collection.deadline(None))
            try:
                unnamed = _unnamed(root, parts)
            except FlowStateDecodeError:
                if id not in unreadable:
                    unreadable.append(id)
                continue
            old = [part for part in unnamed if _age(part) >= min_age]
            orphans += len(old)
            young += len(unnamed) - len(old)
            if not dry_run:
                deleted += await _delete(collection, id, root, old)
    return GcReport(orphans=orphans, deleted=deleted, young=young, unreadable=tuple(unreadable))


def _by_flow(collection: Collection, parts: Sequence[Document]) -> dict[str, list[Document]]:
    flows: dict[str, list[Document]] = {}
    for part in parts:
        id = part.name[len(collection.name("")) :].split("/", 1)[0]
        flows.setdefault(id, []).append(part)
    return flows


def _unnamed(root: StoredDocument | None, parts: Sequence[Document]) -> list[Document]:
    """Return the parts that a root does not refer to; raise FlowStateDecodeError if the root cannot be read."""
    named = set() if root is None else set(part_ids(root.read_refs()))
    return [part for part in parts if part.name.rpartition("/")[2] not in named]


def _age(part: Document) -> timedelta:
    return datetime.now(timezone.utc) - moment_of(part.create_time).as_datetime()


async def _delete(collection: Collection, id: str, root: StoredDocument | None, parts: Sequence[Document]) -> int:
    deleted = 0
    unchanged = guard(collection, id, root)
    for start in range(0, len(parts), _PER_COMMIT):
        deletes = [Write(delete=part.name) for part in parts[start : start + _PER_COMMIT]]
        try:
            await collection.connection.commit(
                [unchanged, *deletes],
                deadline=collection.deadline(None),
                flow_id=id,
            )
        except Ambiguous:
            break  # the next run finds what is left
        except Refused as refusal:
            if not means(refusal.code, Meaning.PRECONDITION):
                raise collection.connection.refused_error(refusal, flow_id=id) from refusal
            break  # the flow state was written meanwhile
        deleted += len(deletes)
    return deleted
