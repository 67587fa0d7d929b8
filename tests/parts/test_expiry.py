from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateExecution,
    FlowStateNotFoundError,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate._document.stored_values import EXPIRY_MARGIN
from firestore_flowstate._operations.deleting import part_names
from firestore_flowstate._rpc.messages import Write

DAY = timedelta(days=1)


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"expire_after": DAY, "compress_over": 2**40})


def large(*, done: bool) -> FlowState:
    state = FlowState.start(flow_id="flow")
    state.cache = {str(i): CacheEntry(value="x" * 400_000) for i in range(4)}
    state.operation = Operation(name="flow", done=done)
    return state


async def expiries(store: FirestoreFlowStateStore) -> tuple[datetime | None, set[datetime | None]]:
    """Return when the root expires, and when its parts do."""
    from firestore_flowstate._document.head import expires_at

    collection, deadline = await store._begin()
    root = await collection.get("flow", deadline)
    assert root is not None
    names = [collection.part_name("flow", part) for part in await part_names(collection, "flow", deadline)]
    parts = await collection.connection.batch_get(names, deadline=deadline)
    assert len(parts) > 1
    return expires_at(root.fields), {expires_at(part.fields) for part in parts.values()}


async def test_parts_outlive_their_root(flow_state_store: FirestoreFlowStateStore) -> None:
    """The root of a state that is saved as done, or done by an update, expires in a day, its parts seven days later."""
    store = flow_state_store
    await store.save("flow", large(done=True))
    root, parts = await expiries(store)
    assert root is not None
    assert abs(root - datetime.now(timezone.utc) - DAY) < timedelta(minutes=1)
    assert {root + EXPIRY_MARGIN} == parts

    running = large(done=False)
    await store.save("flow", running)
    assert (None, {None}) == await expiries(store)
    operation = Operation(name="flow", done=True)
    version = await store.update("flow", operation=operation, if_version=running.version or "")
    root, parts = await expiries(store)
    assert root is not None
    assert {root + EXPIRY_MARGIN} == parts

    resumed = [FlowStateExecution(start_time=1, trace_ids=[])]
    await store.update("flow", operation=Operation(name="flow"), executions=resumed, if_version=version)
    assert (None, {None}) == await expiries(store)


async def test_parts_and_root_change_in_one_commit(
    flow_state_store: FirestoreFlowStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No writer can be killed between a root and its parts, whether a flow ends, is ended again or is resumed."""
    store = flow_state_store
    await store.save("flow", large(done=False))
    commits: list[int] = []
    commit = store._connection.commit

    async def count(writes: Sequence[object], **options: Any) -> object:
        commits.append(len(writes))
        return await commit(writes, **options)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(store._connection, "commit", count)
    for done in (True, True, False):
        await store.update("flow", operation=Operation(name="flow", done=done))

    assert [1 + 2] * 3 == commits
    assert (None, {None}) == await expiries(store)


async def test_a_step_that_is_large_expires_like_its_state(flow_state_store: FirestoreFlowStateStore) -> None:
    """An update of steps alone leaves the expiry, and gives it to the parts that it adds."""
    store = flow_state_store
    state = large(done=True)
    await store.save("flow", state)
    step = {"step": CacheEntry(value="x" * 100_000)}
    await store.update("flow", cache=step, if_version=state.version or "")
    await store.update("flow", cache={"other": step["step"]})
    async with store.edit("flow") as edited:
        edited.cache["more"] = step["step"]
    root, parts = await expiries(store)

    assert root is not None
    assert {root + EXPIRY_MARGIN} == parts


async def test_a_damaged_state_is_not_waited_for(flow_state_store: FirestoreFlowStateStore) -> None:
    """A part that is gone cannot be told to stay. The flow ends none the less, at once."""
    store = flow_state_store
    await store.save("flow", large(done=True))
    collection, deadline = await store._begin()
    [first, *_] = await part_names(collection, "flow", deadline)
    gone = Write(delete=collection.part_name("flow", first))
    await collection.connection.commit([gone], deadline=deadline, flow_id="flow")
    await store.update("flow", operation=Operation(name="flow"), timeout=5)

    document = await collection.get("flow", deadline)
    assert document is not None
    assert "expireAt" not in document.fields
    assert first not in await part_names(collection, "flow", deadline)


async def test_an_expired_version_writes_nothing(flow_state_settings: FlowStateSettings) -> None:
    """Whoever holds the version of a state that has expired since finds none."""
    brief = flow_state_settings.model_copy(update={"expire_after": timedelta(seconds=0.3)})
    async with FirestoreFlowStateStore(brief) as store:
        state = large(done=True)
        await store.save("flow", state)
        assert state.expire_at is not None
        await asyncio.sleep((state.expire_at - datetime.now(timezone.utc)).total_seconds())
        assert await store.load("flow") is None
        with pytest.raises(FlowStateNotFoundError):
            await store.update("flow", cache={"late": CacheEntry(value=1)}, if_version=state.version or "")
        await store.create("flow", FlowState.start(flow_id="flow"))
        collection, _ = await store._begin()
        assert [] == await part_names(collection, "flow", collection.deadline())


async def test_at_the_end_of_time(flow_state_settings: FlowStateSettings) -> None:
    """Parts of a root that expires in the last week that Firestore can hold expire in its last moment."""
    last = datetime.max.replace(tzinfo=timezone.utc)
    settings = flow_state_settings.model_copy(update={"expire_after": last - DAY - datetime.now(timezone.utc)})
    async with FirestoreFlowStateStore(settings) as store:
        for write in (
            store.save("flow", large(done=True)),
            store.update("flow", operation=Operation(name="a", done=True)),
        ):
            await write
            root, parts = await expiries(store)
            assert root is not None
            assert timedelta(0) < last - root < 2 * DAY
            assert {last} == parts
