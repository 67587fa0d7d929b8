"""Which parts gc deletes, and which it leaves alone."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

import pytest
from typing_extensions import override

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings, GcReport
from firestore_flowstate._operations import orphans
from firestore_flowstate._operations.orphans import collect
from tests.support.damage import put
from tests.support.raw_documents import RawCollection


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"compress_over": 2**40})


def in_parts() -> FlowState:
    """Return a state of two parts."""
    state = FlowState.start()
    state.cache = {str(step): CacheEntry(value="x" * 400_000) for step in range(4)}
    return state


@pytest.mark.parametrize(("minutes", "deleted"), [(55, 0), (60, 2)])
async def test_parts_younger_than_an_hour_stay(
    flow_state_store: FirestoreFlowStateStore, monkeypatch: pytest.MonkeyPatch, minutes: int, deleted: int
) -> None:
    """A save may be about to refer to them. A dry run tells the same, and deletes nothing."""

    class Later(datetime):
        @override
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # it is one
            return datetime.now(tz) + timedelta(minutes=minutes)

    await flow_state_store.save("flow", in_parts())
    await flow_state_store.save("flow", FlowState.start())
    monkeypatch.setattr(orphans, "datetime", Later)
    dry = await flow_state_store.gc(dry_run=True)
    report = await flow_state_store.gc()

    assert GcReport(orphans=deleted, deleted=0, young=2 - deleted, unreadable=()) == dry
    assert GcReport(orphans=deleted, deleted=deleted, young=2 - deleted, unreadable=()) == report
    assert 2 - deleted == len(RawCollection(flow_state_store.settings).below("flow", "flowstate-parts"))


async def test_parts_of_a_state_that_cannot_be_read_stay(flow_state_store: FirestoreFlowStateStore) -> None:
    """Nothing tells which of them it refers to. The state is named, and those of others are deleted."""
    raw = RawCollection(flow_state_store.settings)
    for id in ("damaged", "replaced"):
        await flow_state_store.save(id, in_parts())
    await flow_state_store.save("replaced", FlowState.start())
    fields = raw.read("damaged")
    put("_flowstate.v", {"integerValue": "9"})(fields)
    raw.write("damaged", fields)
    collection, _ = await flow_state_store._begin()
    report = await collect(collection, dry_run=False, min_age=timedelta(0))

    assert GcReport(orphans=2, deleted=2, young=0, unreadable=("damaged",)) == report
    assert (2, 0) == tuple(len(raw.below(id, "flowstate-parts")) for id in ("damaged", "replaced"))


async def test_parts_of_an_expired_state_stay(flow_state_settings: FlowStateSettings) -> None:
    """They are its own until it is deleted, which may be by a purge that takes them along."""
    settings = flow_state_settings.model_copy(
        update={"expire_after": timedelta(microseconds=1), "expire_when": "always"}
    )
    async with FirestoreFlowStateStore(settings) as store:
        await store.save("gone", in_parts())
        collection, _ = await store._begin()

        assert await store.load("gone") is None
        assert 0 == (await collect(collection, dry_run=False, min_age=timedelta(0))).orphans
