"""Maintenance whose replies are lost: done once, and counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import pytest

from firestore_flowstate import CacheEntry, FlowStateSettings, StoreUnavailableError
from firestore_flowstate._document.stored_document import PART_COUNT, StoredDocument
from firestore_flowstate._operations.deleting import delete_documents
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate._rpc.outcome import Ambiguous
from tests.faults.commits import lose_reply, lose_request
from tests.faults.relay import Refusal, Relay
from tests.faults.writes import Store, a_state, in_layout, incompressible
from tests.rpc.tcp_proxy import TcpProxy

KEY: Final = {"key-1": "MDEyMzQ1Njc4OWFiY2RlZg=="}
IDS: Final = [f"id-{number}" for number in range(5)]


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"timeout": 20.0})


async def lost(direct: Store, proxy: TcpProxy, work: Awaitable[object], *, root: str, id: str) -> object:
    """Return what comes of work whose commit of a root is stored, as another version of `id` tells, with no reply."""

    async def version() -> str | None:
        state = await direct.load(id)
        return None if state is None else state.version

    before = await version()

    async def is_stored() -> bool:
        return await version() != before

    return await lose_reply(proxy, work, root=root, is_stored=is_stored)


async def test_purge(direct: Store, troubled: Store, proxy: TcpProxy) -> None:
    """What was deleted is counted, whatever became of the reply."""
    await direct.save_many({id: a_state(id) for id in IDS})
    await troubled.load("any")

    purging = troubled.purge(older_than=timedelta(0))
    report = await lost(direct, proxy, purging, root=IDS[-1], id=IDS[-1])
    assert (5, 5) == (report, report.unfinished)
    assert 0 == await direct.count()


async def test_purge_of_a_state_with_parts_whose_request_is_lost(
    direct: Store, troubled: Store, proxy: TcpProxy
) -> None:
    """It is deleted by another attempt, and counted."""
    state = a_state("large")
    state.cache["large"] = CacheEntry(value=incompressible(2_000_000))
    await direct.save("large", state)
    await troubled.load("any")

    report = await lose_request(proxy, troubled.purge(older_than=timedelta(0)), root="large")

    assert 1 == report
    assert 0 == await direct.count()


async def test_a_lost_reply_tells_of_what_was_sent(direct: Store, troubled: Store, proxy: TcpProxy) -> None:
    """A state with parts is deleted by itself. What became of the others' commit says nothing of it."""
    large = a_state("large")
    large.cache["large"] = CacheEntry(value=incompressible(2_000_000))
    await direct.save_many({"large": large, "small": a_state("small")})
    collection, _ = await troubled._begin()
    documents = await collection.get_each(["large", "small"], collection.deadline(None), mask=PART_COUNT)
    told: dict[str, bool] = {}

    async def one(document: StoredDocument, *, lost: Ambiguous | None) -> None:
        told[document.id] = lost is not None

    await lost(
        direct, proxy, delete_documents(collection, documents, collection.deadline(None), one), root="small", id="small"
    )

    assert {"large": False, "small": True} == told


async def test_rewrap(direct: Store, troubled: Store, proxy: TcpProxy) -> None:
    """Each state is encrypted once, and counted."""
    await direct.save_many({id: a_state(id) for id in IDS})
    await troubled.load("any")
    encrypting = Store(troubled.settings.model_copy(update={"keys": KEY}))
    encrypting._connection = troubled._connection
    reading = Store(direct.settings.model_copy(update={"keys": KEY}))
    reading._connection = direct._connection

    report = await lost(reading, proxy, encrypting.rewrap(), root=IDS[2], id=IDS[2])
    assert 5 == report.rewrapped
    assert 0 == (await encrypting.rewrap()).rewrapped
    assert set(IDS) == set(await reading.load_many(IDS))


async def test_rewrap_while_firestore_is_away(direct: Store, relayed: Store, relay: Relay) -> None:
    """Maintenance that ends so is begun again, whatever became of its write: no outcome is told to be unknown."""
    await direct.save("id", a_state("id"))
    encrypting = Store(relayed.settings.model_copy(update={"keys": KEY, "timeout": 4.0}))
    encrypting._connection = relayed._connection
    await encrypting.load("any")
    relay.methods()
    refused = {"Commit": Refusal("INTERNAL"), "GetDocument": Refusal("UNAVAILABLE")}
    relay.refusal = lambda call: refused.get(call.method)

    with pytest.raises(StoreUnavailableError) as error:
        await encrypting.rewrap()
    assert not error.value.outcome_unknown
    assert ["RunQuery", "Commit", "GetDocument"] == list(dict.fromkeys(relay.methods()))


async def test_migrate(direct: Store, troubled: Store, proxy: TcpProxy) -> None:
    """Each state is rewritten once, and none is told to have failed."""
    await direct.save_many({id: a_state(id) for id in IDS})
    await troubled.load("any")

    migrating = troubled.migrate(in_layout(troubled, "native"))
    report = await lost(direct, proxy, migrating, root=IDS[2], id=IDS[2])
    again = await troubled.migrate(in_layout(troubled, "native"))
    assert (5, 0, {}) == (report.migrated, report.unchanged, report.failed)  # type: ignore[attr-defined]
    assert (0, 5, {}) == (again.migrated, again.unchanged, again.failed)


async def test_gc(direct: Store, troubled: Store, proxy: TcpProxy) -> None:
    """Nothing that a state refers to is deleted, and the next run finds what is left."""
    state = a_state("id")
    state.cache["large"] = CacheEntry(value=incompressible(800_000))
    await direct.save("id", state)
    state.cache["large"] = CacheEntry(value=1)
    await direct.save("id", state)
    collection, _ = await troubled._begin()
    await troubled.load("any")

    async def is_collected() -> bool:
        return 0 == (await direct.gc(dry_run=True)).young

    work = collect(collection, dry_run=False, min_age=timedelta(0))
    await lose_reply(proxy, work, root="id", is_stored=is_collected)
    report = await collect(collection, dry_run=False, min_age=timedelta(0))
    assert (0, 0, 0) == (report.orphans, report.deleted, report.young)
    assert 1 == (await _loaded(direct))["large"]


async def _loaded(store: Store) -> dict[str, object]:
    state = await store.load("id")
    assert state is not None
    return {step: entry.value for step, entry in state.cache.items()}


@pytest.mark.parametrize("many", [Store.save_many, Store.delete_many], ids=["save_many", "delete_many"])
async def test_many(direct: Store, troubled: Store, proxy: TcpProxy, many: Callable[..., Awaitable[None]]) -> None:
    """Each id of a batch is looked into by itself, and none of them is an error."""
    await direct.save_many({id: a_state(id) for id in IDS})
    states = {id: a_state(id) for id in IDS}
    for state in states.values():
        state.cache["again"] = CacheEntry(value=1)
    await troubled.load("any")

    await lost(direct, proxy, many(troubled, states), root=IDS[0], id=IDS[0])
    expected = states if many is Store.save_many else {}
    assert expected == await direct.load_many(IDS)
