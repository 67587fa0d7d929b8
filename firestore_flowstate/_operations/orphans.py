"""Orphans, which are parts that no flow state refers to: collecting them, and telling which are not encrypted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Final

from .._collection.collection import Collection
from .._commit.deleting_parts import MOST, delete_parts, guard
from .._document.stored_document import StoredDocument
from .._document.stored_values import DATA, PART_BYTES, data_of, part_ids
from .._limits import moment_of
from .._rpc.messages import Document
from .._rpc.outcome import Ambiguous, Meaning, Refused, means
from ..errors import FlowStateDecodeError
from ..reports import GcReport
from .reading import count_parts, scan_parts

MIN_AGE: Final = timedelta(hours=1)
"""Parts younger than this may belong to a save that is under way, whose root does not refer to them yet."""

_LOOKED_INTO_AT_ONCE: Final = 8  # parts, of up to 1 MB each


async def collect(collection: Collection, *, dry_run: bool, min_age: timedelta = MIN_AGE) -> GcReport:
    """Find the parts that no flow state refers to, and delete them.

    A deletion fails if the root is not as it was read. So it never deletes a part that a save has begun to refer to.
    """
    orphans = deleted = young = 0
    unreadable: list[str] = []
    async for id, root, unnamed in _scan(collection):
        if unnamed is None:
            if id not in unreadable:
                unreadable.append(id)
            continue
        old = [part for part in unnamed if _age(part) >= min_age]
        orphans += len(old)
        young += len(unnamed) - len(old)
        if not dry_run:
            deleted += await _delete(collection, id, root, old)
    return GcReport(orphans=orphans, deleted=deleted, young=young, unreadable=tuple(unreadable))


@dataclass
class Unsealed:
    """Parts that no flow state refers to and that are not encrypted by the current key.

    Attributes:
        parts: How many there are.
        young: How many of them `collect` leaves alone still.
        ids: The flow states below which they are.
    """

    parts: int = 0
    young: int = 0
    ids: list[str] = field(default_factory=list)


async def unsealed(collection: Collection, *, referred: int | None) -> Unsealed:
    """Return the parts that no flow state refers to and that are not encrypted by the current key.

    As long as there are no more parts than are referred to, it is billed a read for each 1,000 of them. Otherwise it
    reads what `collect` reads, and of each value that nothing refers to the first part, which says how all of it is
    stored. Parts without that one count too: nothing tells how they are stored.

    Args:
        collection: The collection.
        referred: How many parts its flow states refer to; None: it is not known.
    """
    found = Unsealed()
    if referred is not None and await count_parts(collection) == referred:
        return found
    below: str | None = None
    sealed: dict[str, bool] = {}  # of the values below that flow state, by the names of their first parts
    async for id, _, unnamed in _scan(collection):
        if unnamed is None:  # told as unreadable, and left alone
            continue
        if id != below:
            below, sealed = id, {}
        await _look_into(collection, {_first_of(part) for part in unnamed} - sealed.keys(), sealed)
        open_ones = [part for part in unnamed if not sealed[_first_of(part)]]
        if not open_ones:
            continue
        found.parts += len(open_ones)
        found.young += sum(_age(part) < MIN_AGE for part in open_ones)
        if id not in found.ids:
            found.ids.append(id)
    return found


async def _scan(
    collection: Collection,
) -> AsyncIterator[tuple[str, StoredDocument | None, list[Document] | None]]:
    """Yield the id of each flow state that has parts, its root, and the parts that this does not refer to.

    None in place of those parts: the root cannot be read. A flow state whose parts span pages comes once for each.
    """
    read: str | None = None  # the flow state whose root was read last: the next page may begin with more of its parts
    root: StoredDocument | None = None
    async for page in scan_parts(collection):
        for id, parts in _by_flow(collection, page).items():
            if id != read:
                read, root = id, await collection.get(id, collection.deadline(None))
            try:
                unnamed = _unnamed(root, parts)
            except FlowStateDecodeError:
                yield id, root, None
            else:
                yield id, root, unnamed


async def _look_into(collection: Collection, firsts: Iterable[str], sealed: dict[str, bool]) -> None:
    """Note of values whether they are encrypted by the current key, by the names of their first parts."""
    names = sorted(firsts)
    for start in range(0, len(names), _LOOKED_INTO_AT_ONCE):
        asked = names[start : start + _LOOKED_INTO_AT_ONCE]
        deadline = collection.deadline(None).for_bytes(len(asked) * PART_BYTES)
        documents = await collection.connection.batch_get(asked, deadline=deadline, mask=[DATA])
        for name in asked:
            sealed[name] = collection.payloads.is_sealed(data_of(documents.get(name)))


def _first_of(part: Document) -> str:
    return f"{part.name.rpartition('-')[0]}-0"


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
    unchanged = guard(collection.name(id), None if root is None else root.updated)
    for start in range(0, len(parts), MOST):
        names = [part.name for part in parts[start : start + MOST]]
        try:
            async for number in delete_parts(collection, id, unchanged, names, collection.deadline(None)):
                deleted += number
        except Ambiguous:
            break  # the next run finds what is left
        except Refused as refusal:
            if not means(refusal.code, Meaning.PRECONDITION):
                raise collection.connection.refused_error(refusal, flow_id=id) from refusal
            break  # the flow state was written meanwhile
    return deleted
