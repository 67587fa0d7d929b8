from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone

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
from firestore_flowstate._document.parts import EXPIRY_MARGIN
from firestore_flowstate._operations.deleting import part_names

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
    from firestore_flowstate._operations.collection import expires_at

    deadline = store._deadline(None)
    collection = await store._ready(deadline)
    root = await collection.get("flow", deadline)
    assert root is not None
    names = [collection.part_name("flow", part) for part in await part_names(collection, "flow", deadline)]
    parts = await store._connection.batch_get(names, deadline=deadline)
    assert len(parts) > 1
    return expires_at(root.fields), {expires_at(part.fields) for part in parts.values()}


async def test_parts_outlive_their_root(flow_state_store: FirestoreFlowStateStore) -> None:
    """Saved as done, or done by an update: the root expires in a day, its parts seven days later."""
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


async def test_parts_are_told_to_stay_first(flow_state_store: FirestoreFlowStateStore) -> None:
    """A flow that resumes and is killed half way has a root that expires, never parts that expire before it."""
    store = flow_state_store
    state = large(done=True)
    await store.save("flow", state)
    commit = store._connection.commit
    commits = 0

    async def die_before_the_second(*args: object, **options: object) -> object:
        nonlocal commits
        commits += 1
        if commits == 2:
            raise RuntimeError("killed")
        return await commit(*args, **options)  # type: ignore[arg-type]  # as it was called

    store._connection.commit = die_before_the_second  # type: ignore[assignment,method-assign]  # a crash at this point
    with pytest.raises(RuntimeError, match="killed"):
        await store.update("flow", operation=Operation(name="flow"), if_version=state.version or "")
    store._connection.commit = commit  # type: ignore[method-assign]  # as it was

    root, parts = await expiries(store)
    assert root is not None
    assert {None} == parts


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
        collection = await store._ready(store._deadline(None))
        assert [] == await part_names(collection, "flow", store._deadline(None))


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
