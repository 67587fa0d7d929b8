"""What sees a state that has expired, for as long as Firestore has not deleted its document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings, Operation
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from firestore_flowstate.inspection import absent_ids, ids_beginning_with, inspect_document

KEYS = {"key": "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="}


@pytest.fixture(params=["serialized", "native"])
async def store(
    request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings
) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store with the expired states gone-1 and gone-2."""
    changes = {"layout": request.param, "expire_after": timedelta(microseconds=1)}
    state = FlowState.start()
    state.operation = Operation(name="flow", done=True)
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update=changes)) as store:
        await store.save_many({"gone-1": state, "gone-2": state})
        assert {} == await store.load_many(["gone-1", "gone-2"])
        yield store


async def stored(store: FirestoreFlowStateStore) -> set[str]:
    """Return the ids of the documents that are there."""
    collection, deadline = await store._begin()
    return {document.id for document in await collection.get_each(["gone-1", "gone-2"], deadline)}


async def test_exports_and_migrations_pass_over_it(store: FirestoreFlowStateStore) -> None:
    """It is in no file and in no copy, and is not rewritten in place."""
    layout = "native" if store.settings.layout == "serialized" else "serialized"
    copy = FirestoreFlowStateStore(store.settings.model_copy(update={"collection": "copy"}))
    converted = FirestoreFlowStateStore(store.settings.model_copy(update={"layout": layout}))
    async with copy, converted:
        for target in (copy, converted):
            assert 0 == (await store.migrate(target, dry_run=True)).migrated
            assert 0 == (await store.migrate(target)).migrated

        assert set() == await stored(copy)
    document = await inspect_document(store, "gone-1")
    assert document is not None
    assert store.settings.layout == document.layout
    assert [] == [line async for line in export_states(store)]


async def test_deletions_delete_it(store: FirestoreFlowStateStore) -> None:
    """They need not wait for the TTL policy."""
    await store.delete("gone-1")
    assert {"gone-2"} == await stored(store)
    await store.delete_many(["gone-1", "gone-2"])

    assert set() == await stored(store)


async def test_the_doctor_and_inspection_see_it(store: FirestoreFlowStateStore) -> None:
    """They show what is stored. The ids that it offers in the place of a beginning are of states that can be loaded."""
    seen: list[int] = []
    assert [] == [finding async for finding in examine(store, progress=seen.append)]

    assert [2] == seen
    assert await inspect_document(store, "gone-1") is not None
    assert ["never"] == await absent_ids(store, ["gone-1", "never"])
    assert [] == await ids_beginning_with(store, "gone")


async def test_rewrap_encrypts_it(store: FirestoreFlowStateStore) -> None:
    """A key that is taken out of the settings after a rewrap is needed by no document. Native ones are named."""
    settings = FlowStateSettings(**{**store.settings.model_dump(), "keys": KEYS, "layout": "serialized"})
    async with FirestoreFlowStateStore(settings) as encrypting:
        report = await encrypting.rewrap()

    if store.settings.layout == "serialized":
        assert (2, []) == (report.rewrapped, report.native)
    else:
        assert (0, ["gone-1", "gone-2"]) == (report.rewrapped, report.native)
