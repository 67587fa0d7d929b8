"""Every kind of write, each leaving the same mark, and what others may do on top of it."""

from __future__ import annotations

import base64
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    StoreUnavailableError,
)
from firestore_flowstate._operations.repacking import compact
from firestore_flowstate._rpc.deadline import Deadline
from tests.rpc.tcp_proxy import TcpProxy

MARK: Final = "ours"
Store = FirestoreFlowStateStore
Troubled = Callable[..., AbstractAsyncContextManager[tuple[TcpProxy, Store]]]


@dataclass(frozen=True)
class Write:
    """A kind of write.

    Attributes:
        name: Its name.
        run: Writes; takes the store, the id, the state that was read before and the value to leave.
        creates: Whether there is nothing before.
        deletes: Whether there is nothing afterwards.
        versioned: Whether it asks for the version that was read before.
        whole: Whether it replaces the whole state.
    """

    name: str
    run: Callable[[Store, str, FlowState, Any], Awaitable[object]]
    creates: bool = False
    deletes: bool = False
    versioned: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return self.name


async def _save(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.save(id, _marked(read, value))


async def _save_version(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.save(id, _marked(read, value), if_version=read.version)


async def _save_new(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.save(id, _marked(read, value), if_version=None)


async def _create(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.create(id, _marked(read, value))


async def _update(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.update(id, cache={MARK: CacheEntry(value=value)})


async def _update_version(store: Store, id: str, read: FlowState, value: Any) -> None:
    assert read.version is not None
    await store.update(id, cache={MARK: CacheEntry(value=value)}, if_version=read.version)


async def _edit(store: Store, id: str, read: FlowState, value: Any) -> None:
    async with store.edit(id) as state:
        state.cache[MARK] = CacheEntry(value=value)


async def _modify(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.modify(id, lambda state: state.cache.update({MARK: CacheEntry(value=value)}))


async def _save_many(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.save_many({id: _marked(read, value)})


async def _delete(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.delete(id)


async def _delete_version(store: Store, id: str, read: FlowState, value: Any) -> None:
    assert read.version is not None
    await store.delete(id, if_version=read.version)


async def _delete_many(store: Store, id: str, read: FlowState, value: Any) -> None:
    await store.delete_many([id])


SAVE = Write("save", _save, whole=True)
SAVE_FIRST = Write("save first", _save, creates=True, whole=True)
SAVE_MANY = Write("save_many", _save_many, whole=True)
SAVE_VERSION = Write("save if_version", _save_version, versioned=True, whole=True)
SAVE_NEW = Write("save if_version=None", _save_new, creates=True, whole=True)
CREATE = Write("create", _create, creates=True, whole=True)
UPDATE = Write("update", _update)
UPDATE_VERSION = Write("update if_version", _update_version, versioned=True)
EDIT = Write("edit", _edit, versioned=True)
MODIFY = Write("modify", _modify)
DELETE = Write("delete", _delete, deletes=True)
DELETE_VERSION = Write("delete if_version", _delete_version, deletes=True, versioned=True)
DELETE_MANY = Write("delete_many", _delete_many, deletes=True)

WRITES = (
    SAVE, SAVE_FIRST, SAVE_MANY, SAVE_VERSION, SAVE_NEW, CREATE, UPDATE, UPDATE_VERSION, EDIT, MODIFY,
    DELETE, DELETE_VERSION, DELETE_MANY,
)  # fmt: skip


# ---- what others do meanwhile; each leaves its own mark, "theirs"
async def others_update(store: Store, id: str) -> None:
    await store.update(id, cache={"theirs": CacheEntry(value=1)})


async def others_save_version(store: Store, id: str) -> None:
    state = await store.load(id)
    assert state is not None
    state.cache["theirs"] = CacheEntry(value=1)
    await store.save(id, state, if_version=state.version)


async def others_save(store: Store, id: str) -> None:
    state = a_state(id)
    state.cache["theirs"] = CacheEntry(value=1)
    await store.save(id, state)


async def others_save_twice(store: Store, id: str) -> None:
    await others_save(store, id)
    await others_save(store, id)


async def others_compact(store: Store, id: str) -> None:
    collection, _ = await store._begin()
    await compact(collection, id, Deadline.after(20), urgent=True)


async def others_update_and_compact(store: Store, id: str) -> None:
    await others_update(store, id)
    await others_compact(store, id)


async def others_delete(store: Store, id: str) -> None:
    await store.delete(id)


async def others_create(store: Store, id: str) -> None:
    state = a_state(id)
    state.cache["theirs"] = CacheEntry(value=1)
    await store.create(id, state)


async def others_delete_and_create(store: Store, id: str) -> None:
    await others_delete(store, id)
    await others_create(store, id)


async def others_update_delete_and_create(store: Store, id: str) -> None:
    await others_update(store, id)
    await others_delete_and_create(store, id)


def a_state(id: str) -> FlowState:
    """Return a state with something in it."""
    state = FlowState.start(flow_id=id, name="fault", input={"of": id})
    state.cache["before"] = CacheEntry(value=[1, 2])
    return state


def adding(number: int) -> Callable[[FlowState], None]:
    """Return a change that adds a step of its own, and one to a counter inside the value of a step."""

    def change(state: FlowState) -> None:
        state.cache[f"step-{number}"] = CacheEntry(value=number)
        state.cache["counter"].value["count"] += 1

    return change


def incompressible(size: int) -> str:
    """Return text of so many bytes that no codec makes smaller by more than a quarter."""
    return base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()


async def outcome_of(write: Awaitable[object]) -> str:
    """Return how a write ended, in one word."""
    try:
        await write
    except FlowStateBatchError as batch:
        [error] = batch.errors.values()
        return _in_a_word(error)
    except FlowStateError as error:
        return _in_a_word(error)
    return "stored"


def _in_a_word(error: FlowStateError) -> str:
    if isinstance(error, StoreUnavailableError):
        return "unknown" if error.outcome_unknown else "unavailable"
    words = {
        FlowStateConflictError: "conflict",
        FlowStateExistsError: "exists",
        FlowStateNotFoundError: "not found",
    }
    return words.get(type(error), repr(error))


async def marks(store: Store, id: str) -> str:
    """Return whose marks a state has: "ours", "theirs", "ours theirs", "none"; "gone" if there is no state."""
    state = await store.load(id)
    if state is None:
        return "gone"
    return " ".join(mark for mark in (MARK, "theirs") if mark in state.cache) or "none"


def in_layout(store: Store, layout: str) -> Store:
    """Return a store that writes this layout, over the same connection."""
    if store.settings.layout == layout:
        return store
    other = Store(store.settings.model_copy(update={"layout": layout}))
    other._connection = store._connection
    return other


def _marked(read: FlowState, value: Any) -> FlowState:
    state = read.model_copy(deep=True)
    state.cache[MARK] = CacheEntry(value=value)
    return state
