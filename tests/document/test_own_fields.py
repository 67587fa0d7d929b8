"""A native document's own fields are its own, also those that have the names of what the head of ours has."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateEncodeError,
    FlowStateQuery,
    FlowStateSettings,
    FlowStatus,
    Operation,
)
from firestore_flowstate.doctor import examine
from tests.support.damage import sound_native
from tests.support.query_log import QueryLog, query_log
from tests.support.raw_documents import Fields, RawCollection

__all__ = ["query_log"]  # a fixture

OWN: dict[str, tuple[dict[str, Any], Any]] = {
    "status": ({"stringValue": "done"}, "done"),
    "shard": ({"integerValue": "0"}, 0),
    "summary": ({"mapValue": {"fields": {"steps": {"integerValue": "77"}}}}, {"steps": 77}),
    "expireAt": ({"stringValue": "next year"}, "next year"),
    "createdAt": ({"stringValue": "today"}, "today"),
}
VALUES = {name: value for name, (_, value) in OWN.items()}
STATUSES: tuple[FlowStatus, ...] = ("scheduled", "running", "blocked", "done", "failed")


def own() -> Fields:
    """Return a running flow of Genkit's with keys of its own."""
    fields: Fields = sound_native()
    fields.update({name: value for name, (value, _) in OWN.items()})
    return fields


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    collection = RawCollection(flow_state_settings)
    collection.write("own", own())
    return collection


def store_of(settings: FlowStateSettings, **changes: Any) -> FirestoreFlowStateStore:
    return FirestoreFlowStateStore(settings.model_copy(update=changes))


async def found_by(store: FirestoreFlowStateStore, status: FlowStatus | None) -> tuple[list[str], list[str], int, int]:
    """Return what list, summaries, iterate and count find."""
    query = FlowStateQuery(status=status)
    listed = [state.flow_id for state in (await store.list(query)).flow_states]
    summaries = [summary.flow_id for summary in (await store.list_summaries(query)).summaries]
    return listed, summaries, len([state async for state in store.iterate(query)]), await store.count(query)


async def test_no_status_but_its_own_operation_counts(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """Whatever a key `status` says, it is found by what its flow does, once, and purged by nothing else."""
    state = await flow_state_store.load("own")
    assert state is not None
    done = FlowState.start(flow_id="ours")
    done.operation.done = True
    await flow_state_store.save("ours", done)
    for status in STATUSES:
        expected = [state.flow_id] * (state.status == status) + ["ours"] * (status == "done")
        listed, summaries, iterated, counted = await found_by(flow_state_store, status)

        assert (sorted(expected), sorted(expected)) == (sorted(listed), sorted(summaries)), status
        assert (len(expected), len(expected)) == (iterated, counted), status
    assert 1 == await flow_state_store.purge(FlowStateQuery(status="done"), older_than=timedelta(0))
    assert VALUES == (await flow_state_store.load("own") or FlowState.start()).model_extra


async def test_a_count_by_status_asks_once_more(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection, query_log: QueryLog
) -> None:
    """It asks in the same round. A count of all asks once."""
    query_log.clear()
    await flow_state_store.count(FlowStateQuery(name="flow"))
    assert 1 == len(query_log.queries)
    query_log.clear()
    await flow_state_store.count(FlowStateQuery(status="done"))
    assert 3 == len(query_log.queries)  # of ours, of native ones among them, and native ones one by one


async def test_no_list_over_shards_shows_it_by_its_shard(
    flow_state_settings: FlowStateSettings, raw: RawCollection
) -> None:
    """It carries none of ours, so it is out of sight, as every native document is then; also when it is due.

    A count counts it, by its own status too: to leave it out would cost a read more for each shard.
    """
    raw.write("own", {**own(), "wakeAt": {"integerValue": "1"}})
    async with store_of(flow_state_settings, shards=2) as store:
        assert [] == await store.due()
        for status in (None, *STATUSES):
            listed, summaries, iterated, counted = await found_by(store, status)
            assert ([], [], 0) == (listed, summaries, iterated)
            assert (status in (None, OWN["status"][1])) == counted


@pytest.mark.parametrize("layout", ["native", "serialized"])
async def test_own_fields_survive_every_write(
    flow_state_settings: FlowStateSettings, raw: RawCollection, layout: str
) -> None:
    """Whole saves, steps and ends keep them, also if states expire. An expireAt of its own is not ours to change."""
    async with store_of(
        flow_state_settings, layout=layout, expire_after=timedelta(days=1), expire_when="always"
    ) as store:
        state = await store.load("own")
        assert state is not None
        assert VALUES == state.model_extra
        version = await store.update("own", cache={"a": CacheEntry(value=1)}, if_version=state.version or "")
        version = await store.update("own", executions=[], if_version=version)
        await store.update("own", operation=Operation(name="own", done=True))
        assert own()["expireAt"] == raw.read("own")["expireAt"]
        async with store.edit("own") as edited:
            edited.operation.done = False
        native = {name: raw.read("own")[name] for name in OWN}
        assert {name: value for name, (value, _) in OWN.items()} == native
        loaded = await store.load("own")
        assert loaded is not None
        await store.save("own", loaded, if_version=loaded.version)
        await store.update("own", operation=Operation(name="own"), if_version=loaded.version or "")

        assert VALUES == (await store.load("own") or FlowState.start()).model_extra
    if "_flowstate" not in raw.read("own"):
        assert native == {name: raw.read("own")[name] for name in OWN}


async def test_a_timestamp_is_when_it_expires(flow_state_settings: FlowStateSettings, raw: RawCollection) -> None:
    """An unknown key `expireAt` with a time cannot be stored natively, since Firestore would delete the flow by it."""
    raw.write("own", {**own(), "expireAt": {"timestampValue": "2999-01-01T00:00:00Z"}})
    async with store_of(flow_state_settings, layout="native") as store:
        state = await store.load("own")
        assert state is not None
        assert datetime(2999, 1, 1, tzinfo=timezone.utc) == state.expire_at
        assert {name: value for name, value in VALUES.items() if name != "expireAt"} == state.model_extra
        state = FlowState.start()
        state.expireAt = datetime(2999, 1, 1, tzinfo=timezone.utc)
        with pytest.raises(FlowStateEncodeError, match=r"'expireAt'.*something of its own") as refusal:
            await store.save("id", state)
    assert "expireAt" == refusal.value.path


async def test_doctor_advises_nothing_that_erases_them(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """Its own fields are nothing wrong."""
    assert [] == [finding async for finding in examine(flow_state_store)]
