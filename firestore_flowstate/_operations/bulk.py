"""Many flow states in few requests: each batch is atomic, and each id has its own outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, TypeVar

from .._collection.collection import Collection
from .._commit.commit import Attempts, commit_write
from .._commit.conflict import Conflict
from .._commit.pending_write import CommitResult
from .._document.stored_document import PART_COUNT, StoredDocument
from .._document.version import Anything
from .._document.wire import check_state
from .._error_texts import batch as batch_error
from .._error_texts import for_each_of
from .._limits import check_flow_id, moment_of
from .._rpc.concurrency import for_each, gather_or_cancel
from .._rpc.deadline import Deadline, monotonic
from .._rpc.outcome import Ambiguous, Refused
from ..errors import FlowStateError, QuotaError, StoreUnavailableError
from ..models import FlowState
from ..unset import UNSET
from .deleting import delete, delete_documents
from .reading import state_of, states_of_whole
from .saving import WholeWrite, check_storable, encode_whole, layout_to_write, stamp, with_stored_parts

_BATCH: Final = 100  # documents in one commit or read
_BATCH_BYTES: Final = 1024 * 1024  # of the writes of one commit: a batch that fails is tried state by state
_AT_ONCE: Final = 4  # batches on the way, so that neither server nor memory is flooded

_Item = TypeVar("_Item")


class _Save(NamedTuple):
    id: str
    state: FlowState
    whole: WholeWrite
    size: int  # bytes of its writes


async def save_many(
    collection: Collection,
    states: Mapping[str, FlowState],
    deadline: Deadline,
    *,
    contents: Mapping[str, FlowState] | None = None,
    expire_at: Mapping[str, datetime | None] | None = None,
) -> None:
    """Store each state under its id, in place of what was there.

    Args:
        collection: The collection.
        states: The states. Each gets its version.
        contents: Copies of the states from the time of the call, which are what is stored; None: `states` are.
        deadline: When to give up. It is extended by a second for each MiB of all states beyond the first.
        expire_at: When each of them expires; None: as the settings say.

    Raises:
        FlowStateBatchError: Some were not stored.
    """
    errors: dict[str, FlowStateError] = {}
    saves: list[_Save] = []
    for key, state in states.items():
        id = key
        try:
            id = check_flow_id(key)
            sound = check_state(id, state if contents is None else contents[key])
            whole = encode_whole(
                collection,
                id,
                sound,
                expected=Anything(),
                layout=layout_to_write(collection, id, state, Anything()),
                expire_at=UNSET if expire_at is None else expire_at[key],
            )
        except FlowStateError as error:
            errors[id] = error
        else:
            saves.append(_Save(id, state, whole, whole.pending.size()))
    alone = [save for save in saves if _is_large(save)]
    limit = min(_BATCH_BYTES, collection.request_bytes)
    small = _batches([save for save in saves if not _is_large(save)], lambda save: save.size, limit)
    deadline = deadline.for_bytes(sum(save.size for save in saves))

    async def one(save: _Save, *, sent_at: float | None = None, lost: Ambiguous | None = None) -> None:
        sent_before = None if sent_at is None else Attempts(began=sent_at, lost=lost)
        try:
            pending = save.whole.pending
            if pending.parts:
                pending = await with_stored_parts(collection, pending, deadline)
            result = await commit_write(collection, pending, deadline, attempts=sent_before)
        except Conflict as conflicting:
            errors[save.id] = conflicting.error
        except Refused as refusal:
            errors[save.id] = collection.connection.refused_error(refusal, flow_id=save.id)
        except FlowStateError as error:
            errors[save.id] = error
        else:
            _stamp(save, collection.name(save.id), result)

    async def many(batch: Sequence[_Save]) -> None:
        sent_at = monotonic()
        try:
            reply = await collection.connection.commit(
                [save.whole.pending.conditional_write() for save in batch], deadline=deadline, flow_id=None
            )
        except Ambiguous as lost:
            # Each root is looked at: it tells whether its write was stored.
            await for_each(batch, partial(one, sent_at=sent_at, lost=lost), at_once=_AT_ONCE)
            return
        except (StoreUnavailableError, QuotaError) as error:
            errors.update(for_each_of(error, [save.id for save in batch]))  # no time is left to try them one by one
            return
        except (Refused, FlowStateError):
            await for_each(batch, one, at_once=_AT_ONCE)  # one state may be the reason, which is not to fail the others
            return
        for save, result in zip(batch, reply.write_results, strict=True):
            _stamp(save, collection.name(save.id), CommitResult(updated=moment_of(result.update_time)))

    await gather_or_cancel([for_each(small, many, at_once=_AT_ONCE), for_each(alone, one, at_once=_AT_ONCE)])
    if errors:
        raise batch_error("saved", errors, total=len(states))


def check_each_storable(collection: Collection, states: Mapping[str, FlowState]) -> None:
    """Raise FlowStateBatchError if new documents could not hold some of the states. Nothing is sent."""
    errors: dict[str, FlowStateError] = {}
    for id, state in states.items():
        try:
            check_storable(collection, id, state)
        except FlowStateError as error:
            errors[id] = error
    if errors:
        raise batch_error("saved", errors, total=len(states))


async def load_many(collection: Collection, ids: Iterable[str], deadline: Deadline) -> dict[str, FlowState]:
    """Return the states by id, in the order of the ids.

    Raises:
        FlowStateBatchError: Some could not be read.
    """
    errors: dict[str, FlowStateError] = {}
    wanted = _checked(ids, errors)
    found: dict[str, FlowState] = {}

    async def one(document: StoredDocument) -> None:
        id = document.id
        try:
            state = await state_of(collection, document, deadline)
        except FlowStateError as error:
            errors[id] = error
        else:
            if state is not None:
                found[id] = state

    async def many(batch: Sequence[str]) -> None:
        try:
            documents = await collection.get_each(batch, deadline)
        except FlowStateError as error:
            errors.update(for_each_of(error, batch))
            return
        live = [document for document in documents if document.is_live()]
        in_parts = []
        for document, state in zip(live, states_of_whole(collection, live), strict=True):
            if state is None:
                in_parts.append(document)
            elif isinstance(state, FlowStateError):
                errors[document.id] = state
            else:
                found[document.id] = state
        await for_each(in_parts, one, at_once=_AT_ONCE)

    await for_each(_batches(wanted, lambda _: 0), many, at_once=_AT_ONCE)
    if errors:
        raise batch_error("loaded", errors, total=len(errors.keys() | wanted))
    return {id: found[id] for id in wanted if id in found}


async def delete_many(collection: Collection, ids: Iterable[str], deadline: Deadline) -> None:
    """Delete the states with their parts.

    Raises:
        FlowStateBatchError: Some were not deleted.
    """
    errors: dict[str, FlowStateError] = {}
    wanted = _checked(ids, errors)

    async def one(document: StoredDocument, *, lost: Ambiguous | None) -> None:
        id = document.id
        try:
            await delete(collection, id, deadline=deadline, sent_for=None if lost is None else document, lost=lost)
        except FlowStateError as error:
            errors[id] = error

    async def many(batch: Sequence[str]) -> None:
        try:
            documents = await collection.get_each(batch, deadline, mask=PART_COUNT)
        except FlowStateError as error:
            errors.update(for_each_of(error, batch))
            return
        try:
            await delete_documents(collection, documents, deadline, one)
        except (StoreUnavailableError, QuotaError) as error:
            errors.update(for_each_of(error, [document.id for document in documents]))

    await for_each(_batches(wanted, lambda _: 0), many, at_once=_AT_ONCE)
    if errors:
        raise batch_error("deleted", errors, total=len(errors.keys() | wanted))


def _is_large(save: _Save) -> bool:
    return bool(save.whole.pending.parts) or save.size > _BATCH_BYTES


def _stamp(save: _Save, document: str, result: CommitResult) -> None:
    stamp(save.state, document, result, save.whole)


def _checked(ids: Iterable[str], errors: dict[str, FlowStateError]) -> list[str]:
    wanted: dict[str, None] = {}
    for id in ids:
        try:
            wanted[check_flow_id(id)] = None
        except FlowStateError as error:
            errors[id] = error
    return list(wanted)


def _batches(items: Sequence[_Item], size_of: Callable[[_Item], int], limit: int = _BATCH_BYTES) -> list[list[_Item]]:
    batches: list[list[_Item]] = []
    size = 0
    for item in items:
        size += size_of(item)
        if not batches or len(batches[-1]) == _BATCH or size > limit:
            batches.append([])
            size = size_of(item)
        batches[-1].append(item)
    return batches
