"""Every public method that calls Firestore."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateQuery
from firestore_flowstate._document.head import StatusInputs
from firestore_flowstate._document.version import Version
from firestore_flowstate._limits import Moment

Store = FirestoreFlowStateStore
Method = Callable[[Store, str, "float | None"], Awaitable[object]]
"""Calls a method of a store for an id, with a timeout."""


async def _save(store: Store, id: str, timeout: float | None) -> None:
    await store.save(id, FlowState.start(), timeout=timeout)


async def _save_version(store: Store, id: str, timeout: float | None) -> None:
    await store.save(id, FlowState.start(), if_version=_version(store, id), timeout=timeout)


async def _create(store: Store, id: str, timeout: float | None) -> None:
    await store.create(id, FlowState.start(), timeout=timeout)


async def _load(store: Store, id: str, timeout: float | None) -> None:
    await store.load(id, timeout=timeout)


async def _update(store: Store, id: str, timeout: float | None) -> None:
    await store.update(id, cache={"step": CacheEntry(value=1)}, timeout=timeout)


async def _update_version(store: Store, id: str, timeout: float | None) -> None:
    await store.update(id, cache={"step": CacheEntry(value=1)}, if_version=_version(store, id), timeout=timeout)


async def _edit(store: Store, id: str, timeout: float | None) -> None:
    async with store.edit(id, timeout=timeout) as state:
        state.cache["step"] = CacheEntry(value=1)


async def _modify(store: Store, id: str, timeout: float | None) -> None:
    await store.modify(id, lambda state: state.cache.update({"step": CacheEntry(value=1)}), timeout=timeout)


async def _delete(store: Store, id: str, timeout: float | None) -> None:
    await store.delete(id, timeout=timeout)


async def _delete_version(store: Store, id: str, timeout: float | None) -> None:
    await store.delete(id, if_version=_version(store, id), timeout=timeout)


async def _list(store: Store, id: str, timeout: float | None) -> None:
    await store.list(FlowStateQuery(status="blocked"), timeout=timeout)


async def _list_summaries(store: Store, id: str, timeout: float | None) -> None:
    await store.list_summaries(timeout=timeout)


async def _count(store: Store, id: str, timeout: float | None) -> None:
    await store.count(timeout=timeout)


async def _due(store: Store, id: str, timeout: float | None) -> None:
    await store.due(timeout=timeout)


async def _iterate(store: Store, id: str, timeout: float | None) -> None:
    async for _ in _of(store, timeout).iterate():
        pass


async def _save_many(store: Store, id: str, timeout: float | None) -> None:
    await store.save_many({id: FlowState.start(), f"{id}-2": FlowState.start()}, timeout=timeout)


async def _load_many(store: Store, id: str, timeout: float | None) -> None:
    await store.load_many([id, f"{id}-2"], timeout=timeout)


async def _delete_many(store: Store, id: str, timeout: float | None) -> None:
    await store.delete_many([id, f"{id}-2"], timeout=timeout)


async def _ping(store: Store, id: str, timeout: float | None) -> None:
    await store.ping(timeout=timeout)


async def _gc(store: Store, id: str, timeout: float | None) -> None:
    await _of(store, timeout).gc()


async def _purge(store: Store, id: str, timeout: float | None) -> None:
    await _of(store, timeout).purge(older_than=timedelta(seconds=1))


async def _migrate(store: Store, id: str, timeout: float | None) -> None:
    await _of(store, timeout).migrate(_of(store, timeout, collection="another"))


async def _rewrap(store: Store, id: str, timeout: float | None) -> None:
    await _of(store, timeout).rewrap()


METHODS: Final[dict[str, Method]] = {
    "save": _save,
    "save if_version": _save_version,
    "create": _create,
    "load": _load,
    "update": _update,
    "update if_version": _update_version,
    "edit": _edit,
    "modify": _modify,
    "delete": _delete,
    "delete if_version": _delete_version,
    "list": _list,
    "list_summaries": _list_summaries,
    "count": _count,
    "due": _due,
    "iterate": _iterate,
    "save_many": _save_many,
    "load_many": _load_many,
    "delete_many": _delete_many,
    "ping": _ping,
    "gc": _gc,
    "purge": _purge,
    "migrate": _migrate,
    "rewrap": _rewrap,
}


def uncovered() -> set[str]:
    """Return the names of the public methods that call Firestore and are not among `METHODS`.

    What watches keeps a stream open, which no deadline ends: tests/rpc/test_listening.py has its faults.
    """
    public = {name for name, _ in inspect.getmembers(Store, inspect.isfunction) if not name.startswith("_")}
    return public - {name.partition(" ")[0] for name in METHODS} - {"close", "watch", "watch_list"}


def _version(store: Store, id: str) -> str:
    """Return a version of another time than that of any state."""
    version = Version(
        updated=Moment(1, 0), revision="r", layout="serialized", status_inputs=StatusInputs("", False, False)
    )
    return version.to_text(f"{store.settings.collection}/{id}")


def _of(store: Store, timeout: float | None, **settings: object) -> Store:
    """Return the store with another timeout in its settings, for methods that take none, over the same connection."""
    update = {**settings, **({} if timeout is None else {"timeout": timeout})}
    other = Store(store.settings.model_copy(update=update))
    other._connection = store._connection
    return other
