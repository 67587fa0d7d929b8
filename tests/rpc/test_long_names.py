"""Names of documents as long as Firestore allows, and headers that are longer than a server takes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from firestore_flowstate import (
    BackendError,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
)
from firestore_flowstate._rpc.database import Database
from firestore_flowstate._rpc.link import Link
from tests.faults.writes import incompressible

LONG = ("/".join(["é" * 700] * 3), "日" * 500)
"""A collection and an id: 17 KB in a header, since each byte that is not ASCII takes three."""
SECONDS = 20.0  # of the timeout, which a call that is tried again would take


@pytest.mark.parametrize(("collection", "id"), [LONG, ("c", "é" * 750), ("é" * 750, "é" * 750)])
async def test_every_call_takes_them(flow_state_settings: FlowStateSettings, collection: str, id: str) -> None:
    """What was saved can be loaded, listed, followed, written on, and deleted, its parts too."""
    settings = flow_state_settings.model_copy(update={"collection": collection, "timeout": SECONDS})
    async with FirestoreFlowStateStore(settings) as store:
        assert await store.load(id) is None
        state = FlowState.start(name="long", input=incompressible(700_000), flow_id="long")
        await store.save(id, state)
        await store.update(id, cache={"step": CacheEntry(value=1)})
        async with store.edit(id) as edited:
            edited.cache["another"] = CacheEntry(value=2)
        query = FlowStateQuery(name="long")
        watch = store.watch(id)
        found = [
            await store.load(id),
            (await store.load_many([id]))[id],
            *(await store.list(query)).flow_states,
            *[one async for one in store.iterate(query)],
            await anext(watch),
        ]

        assert [["another", "step"]] * 5 == [sorted(one.cache) for one in found if one is not None]
        assert [state.input] * 5 == [one.input for one in found if one is not None]
        assert 1 == await store.count(query)
        await store.gc()
        await store.delete(id)
        assert await store.load(id) is None


@pytest.mark.parametrize("key", ["name", "parent"])
def test_the_routing_header_of_a_long_name_is_that_of_the_database(key: str) -> None:
    """Of any other name it is the name, as the generated client sends it."""
    link = Link(Database(project="demo", id="d", endpoint="localhost:1", is_emulator=True))
    database = "projects/demo/databases/d"
    headers = [
        dict(link.metadata_of(key, f"{database}/documents/c/{id}"))["x-goog-request-params"] for id in ("i", "é" * 750)
    ]

    assert [f"{key}={database}/documents/c/i", f"database={database}"] == headers


@pytest.mark.parametrize("call", ["save", "load", "list", "update"])
async def test_headers_that_are_too_long_are_an_error_at_once(
    flow_state_settings: FlowStateSettings, call: str
) -> None:
    """The emulator answers HTTP 431, whatever is sent again. Here it is the project's id that makes them long."""
    settings = flow_state_settings.model_copy(update={"project": "p" * 4_200, "timeout": SECONDS})
    async with FirestoreFlowStateStore(settings) as store:
        calls: dict[str, Any] = {
            "save": lambda: store.save("id", FlowState.start()),
            "load": lambda: store.load("id"),
            "list": store.list,
            "update": lambda: store.update("id", cache={"step": CacheEntry(value=1)}),
        }
        began = time.perf_counter()
        with pytest.raises(BackendError, match=r"its headers are too large.*431") as refusal:
            await calls[call]()
        took = time.perf_counter() - began

    assert type(refusal.value) is BackendError
    assert took < SECONDS / 2
