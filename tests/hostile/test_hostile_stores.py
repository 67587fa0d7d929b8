"""Documents that are anything, in Firestore: whatever method meets one, it refuses it by an error of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import pytest
from google.protobuf.message import DecodeError
from hypothesis import assume, given
from hypothesis import strategies as st

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    FlowStateQuery,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate._operations.repacking import compact
from firestore_flowstate._rpc.messages import Write
from firestore_flowstate._rpc.outcome import Refused
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from firestore_flowstate.emulator import Emulator
from tests.hostile.mutations import fuzzed, mutated_states
from tests.hostile.sound_documents import ID, KEYS, Backwards, Stored

Store = FirestoreFlowStateStore
Call = Callable[[Store], Awaitable[object]]

REFUSALS: Final = (
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateConflictError,
    FlowStateNotFoundError,
    FlowStateExistsError,
)
SKIP: Final = FlowStateQuery(on_error="skip")
STEP: Final = {"step": CacheEntry(value=1)}
NATIVE: Final[dict[str, Any]] = {"layout": "native", "keys": None, "codecs": ()}
LARGE: Final = {"large": CacheEntry(value="x" * 70_000)}


async def _all(items: AsyncIterator[object]) -> list[object]:
    return [item async for item in items]


async def _edit(store: Store) -> None:
    async with store.edit(ID) as state:
        state.cache.update(STEP)
        state.name = "edited"


async def _save_version(store: Store) -> None:
    if (state := await store.load(ID)) is not None:
        await store.save(ID, state, if_version=state.version)


async def _update_version(store: Store) -> None:
    if (state := await store.load(ID)) is not None:
        version = await store.update(ID, cache=STEP, executions=[], if_version=state.version or "")
        await store.update(ID, operation=Operation(name=ID, done=True), if_version=version)


async def _delete_version(store: Store) -> None:
    if (state := await store.load(ID)) is not None:
        await store.delete(ID, if_version=state.version or "")


async def _compact(store: Store) -> None:
    collection, _ = await store._begin()
    await compact(collection, ID, collection.deadline(None), urgent=True)


async def _migrate(store: Store, **settings: Any) -> None:
    report = await store.migrate(beside(store, **settings), decrypt=True)
    assert all(isinstance(error, REFUSALS) for error in report.failed.values())


READS: Final[dict[str, Call]] = {
    "load": lambda store: store.load(ID),
    "load_many": lambda store: store.load_many([ID, "missing"]),
    "list": lambda store: store.list(),
    "list skipping": lambda store: store.list(SKIP),
    "list by status": lambda store: store.list(FlowStateQuery(status="running")),
    "list_summaries": lambda store: store.list_summaries(),
    "list_summaries by key": lambda store: store.list_summaries(FlowStateQuery(where={"owner": "uid-1"})),
    "count": lambda store: store.count(FlowStateQuery(status="done")),
    "iterate": lambda store: _all(store.iterate()),
    "export": lambda store: _all(export_states(store)),
    "doctor": lambda store: _all(examine(store)),
    "gc": lambda store: store.gc(dry_run=True),
    "purge": lambda store: store.purge(older_than=timedelta(0), dry_run=True),
    "copy": lambda store: _migrate(store, collection=f"{store.settings.collection}-copied"),
    "copy natively": lambda store: _migrate(store, collection=f"{store.settings.collection}-native", **NATIVE),
}
WRITES: Final[dict[str, Call]] = {
    "save": lambda store: store.save(ID, FlowState.start()),
    "save version": _save_version,
    "save_many": lambda store: store.save_many({ID: FlowState.start()}),
    "create": lambda store: store.create(ID, FlowState.start()),
    "update": lambda store: store.update(ID, cache=STEP, remove=["a"], executions=[]),
    "update large": lambda store: store.update(ID, cache=LARGE, blocked_on_step=BlockedOnStep(name="b")),
    "update version": _update_version,
    "edit": _edit,
    "modify": lambda store: store.modify(ID, lambda state: state.cache.update(STEP)),
    "compact": _compact,
    "rewrap": lambda store: store.rewrap(),
    "convert": lambda store: _migrate(store, **NATIVE),
    "delete": lambda store: store.delete(ID),
    "delete version": _delete_version,
    "delete_many": lambda store: store.delete_many([ID]),
}


@pytest.fixture(scope="module")
def store(firestore_emulator: Emulator) -> Iterator[Store]:
    settings = FlowStateSettings(
        project="demo-hostile", emulator_host=firestore_emulator.host, keys=KEYS, codecs=(Backwards(),)
    )
    store = Store(settings)
    yield store
    asyncio.run(store.close())


NUMBERS: Final = itertools.count()


@given(mutated_states(), st.lists(st.sampled_from(sorted(WRITES)), min_size=2, max_size=4))
@fuzzed(share=0.1)
def test_every_method(store: Store, stored: Stored, writes: list[str]) -> None:
    """Methods work or raise their own errors with a document of any form and content. None takes long."""

    async def run() -> bool:
        # A collection of the document's own, so that lists are about it alone.
        mine = beside(store, collection=f"flows-{next(NUMBERS)}")
        if not await _write(mine, stored):
            return False
        for call in READS.values():
            await _refusing(call(mine))
        for name in writes:
            await _refusing(WRITES[name](mine))
            await _refusing(mine.load(ID))
        return True

    assume(asyncio.run(run()))


def beside(store: Store, **settings: Any) -> Store:
    """Return a store with other settings over the same connection."""
    other = Store(store.settings.model_copy(update=settings))
    other._connection = store._connection
    return other


async def _refusing(call: Awaitable[object]) -> None:
    try:
        with suppress(*REFUSALS):
            await asyncio.wait_for(call, 20)
    except FlowStateBatchError as batch:
        for error in batch.errors.values():
            if not isinstance(error, REFUSALS):
                raise error from batch


async def _write(store: Store, stored: Stored) -> bool:
    """Write the documents as they are. Return whether Firestore takes them."""
    collection, _ = await store._begin()
    writes = []
    for name, document in ((None, stored.root), *stored.parts.items()):
        write = Write()
        write.update.CopyFrom(document)
        write.update.name = collection.name(ID) if name is None else collection.part_name(ID, name)
        write.update.ClearField("update_time")
        writes.append(write)
    try:
        await collection.connection.commit(writes, deadline=collection.deadline(None), flow_id=ID)
    except (Refused, DecodeError):  # DecodeError: nested deeper than messages go
        return False
    return True
