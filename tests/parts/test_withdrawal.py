"""Parts that were written for nothing are taken back, and never from under a root that names them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateExistsError
from firestore_flowstate._operations.deleting import part_names
from firestore_flowstate._operations.repacking import compact
from firestore_flowstate._rpc.calling import serialized_commit
from firestore_flowstate._rpc.messages import CommitRequest, Write
from firestore_flowstate._rpc.outcome import Refused

Store = FirestoreFlowStateStore
Commit = Callable[..., Awaitable[Any]]


@pytest.fixture
def store(flow_state_store: Store) -> Store:
    """A store that does not compress, so that large values are in parts."""
    return Store(flow_state_store.settings.model_copy(update={"compress_over": 2**40}))


async def commits_of(store: Store) -> tuple[Commit, list[list[Write]]]:
    """Return how the store commits, and a list that gets a copy of what it commits from now on."""
    collection, _ = await store._begin()
    commit, sent = collection.connection.commit, list[list[Write]]()

    async def keep(writes: Sequence[Write | bytes], **options: Any) -> Any:
        sent.append(list(CommitRequest.FromString(serialized_commit("", writes)).writes))
        return await commit(writes, **options)

    collection.connection.commit = keep  # type: ignore[method-assign]  # the same call
    return commit, sent


async def test_what_comes_late_is_whole(store: Store) -> None:
    """A create that was refused and comes again when there is nothing keeps its parts, though they are taken back."""
    commit, sent = await commits_of(store)
    large = FlowState.start(flow_id="flow")
    large.cache = {"step": CacheEntry(value="x" * 800_000)}
    await store.save("flow", FlowState.start(flow_id="flow"))
    with pytest.raises(FlowStateExistsError):
        await store.create("flow", large)
    await store.delete("flow")
    _, creation, withdrawal, _ = sent
    _, deadline = await store._begin()
    await commit(creation, deadline=deadline, flow_id="flow")
    with pytest.raises(Refused):
        await commit(withdrawal, deadline=deadline, flow_id="flow")

    assert large == await store.load("flow")
    await store.close()


async def test_a_compaction_that_its_own_duplicate_overtook(store: Store) -> None:
    """A compaction that is refused since its duplicate was faster leaves the parts that the duplicate has brought."""
    state = FlowState.start(flow_id="flow")
    await store.save("flow", state)
    for index in range(4):
        await store.update("flow", cache={f"step-{index}": CacheEntry(value=str(index) * 50_000)})
    before = await store.load("flow")
    collection, deadline = await store._begin()
    commit = collection.connection.commit
    sent: list[Sequence[Write]] = []

    async def twice(writes: Sequence[Write | bytes], **options: Any) -> Any:
        if not sent:
            sent.append(CommitRequest.FromString(serialized_commit("", writes)).writes)
            await commit(writes, **options)
        return await commit(writes, **options)

    collection.connection.commit = twice  # type: ignore[method-assign]  # the same call
    await compact(collection, "flow", deadline)

    part = next(write.update.name for write in sent[0] if "flowstate-parts" in write.update.name)
    assert part.endswith(f"/{(await part_names(collection, 'flow', deadline))[0]}")
    assert before == await store.load("flow")
    report = await store.gc(dry_run=True)
    assert (0, 0) == (report.orphans, report.young)
    await store.close()


async def test_what_was_written_for_nothing_is_taken_back(store: Store) -> None:
    """A large state that was refused leaves no parts, whether they went ahead of the root or with it."""
    for bytes_a_request in (10 * 2**20, 2**20):
        small = Store(store.settings.model_copy(update={"max_request_bytes": bytes_a_request}))
        await small.save("flow", FlowState.start(flow_id="flow"))
        large = FlowState.start(flow_id="flow")
        large.cache = {f"step-{index}": CacheEntry(value=str(index) * 900_000) for index in range(3)}
        with pytest.raises(FlowStateExistsError):
            await small.create("flow", large)
        report = await small.gc(dry_run=True)
        assert (0, 0) == (report.orphans, report.young)
        await small.close()
