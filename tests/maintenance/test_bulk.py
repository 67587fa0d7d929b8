from __future__ import annotations

from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateSettings,
    InvalidFlowIdError,
    StoreUnavailableError,
)
from firestore_flowstate._collection.collection import Collection
from firestore_flowstate._document.stored_document import StoredDocument
from firestore_flowstate._operations.deleting import part_names
from firestore_flowstate._operations.reading import state_of_whole
from firestore_flowstate._rpc.calling import serialized_commit
from firestore_flowstate._rpc.deadline import Deadline, monotonic
from firestore_flowstate._rpc.messages import Document, StructuredQuery, Timestamp
from firestore_flowstate._rpc.outcome import Ambiguous
from firestore_flowstate.backup import export_line, import_states
from firestore_flowstate.testing import exactly


def flow(number: int, size: int = 10) -> FlowState:
    state = FlowState.start(name="flow", flow_id=f"flow-{number}")
    state.start_time = number
    state.cache = {"step": CacheEntry(value="x" * size)}
    return state


async def test_batches_are_few_and_bounded(flow_state_settings: FlowStateSettings) -> None:
    """Batches have a bound in count and in bytes. A large state goes by itself, with its parts."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"compress_over": 2**40})) as store:
        commits: list[tuple[int, int]] = []
        commit = store._connection.commit

        async def counted(writes: Any, **options: Any) -> Any:
            commits.append((len(writes), len(serialized_commit("", writes))))
            return await commit(writes, **options)

        store._connection.commit = counted  # type: ignore[method-assign]  # looks at the writes, sends them on
        small = {f"small-{i}": flow(i) for i in range(450)}
        middle = {f"middle-{i}": flow(i, 300_000) for i in range(9)}
        large = {f"large-{i}": flow(i, 2_000_000) for i in range(2)}
        await store.save_many({**small, **middle, **large})

        assert exactly({**large, **small}) == exactly(await store.load_many([*large, *small]))
        assert exactly(middle) == exactly(await store.load_many(middle))
        assert 461 == await store.count()
        assert len(commits) < 20
        assert max(size for _, size in commits) < 4 * 1024 * 1024


async def test_few_requests_are_under_way_at_once(flow_state_store: FirestoreFlowStateStore) -> None:
    """Four commits or reads are under way, however many states there are: neither server nor memory is flooded."""
    store = flow_state_store
    under_way = most = 0

    def counted(call: Any) -> Any:
        async def counting(*arguments: Any, **options: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await call(*arguments, **options)
            finally:
                under_way -= 1

        return counting

    connection = (await store._begin())[0].connection
    connection.commit, connection.batch_get = counted(connection.commit), counted(connection.batch_get)  # type: ignore[method-assign]  # counts, and sends them on
    states = {f"id-{number:04}": flow(number) for number in range(1000)}
    for call in (store.save_many(states), store.load_many(states), store.delete_many(states)):
        most = 0
        await call
        assert 4 == most


async def test_a_batch_is_one_moment(flow_state_store: FirestoreFlowStateStore) -> None:
    """All of a batch is there at the time that it was stored, and nothing of it a microsecond before.

    Readers of Firestore see one moment. The emulator lets those that come during a commit see half of it.
    """
    store = flow_state_store
    collection, _ = await store._begin()
    times = []
    for round in range(5):
        states = {f"id-{number}": flow(number) for number in range(100)}
        for state in states.values():
            state.cache["round"] = CacheEntry(value=round)
        await store.save_many(states)
        [time] = {(d.update_time.seconds, d.update_time.nanos) for d in await _documents(collection)}
        times.append(time)

    for round, (seconds, nanos) in enumerate(times):
        for at, expected in ((nanos, {round}), (nanos - 1000, {round - 1} if round else set())):
            documents = await _documents(collection, Timestamp(seconds=seconds, nanos=at))
            assert len(documents) == 100 * len(expected)
            states_then = [state_of_whole(collection, StoredDocument(document)) for document in documents]
            assert expected == {state.cache["round"].value for state in states_then if state is not None}


async def _documents(collection: Collection, read_time: Timestamp | None = None) -> list[Document]:
    query = StructuredQuery()
    query.from_.add().collection_id = collection.collection_id
    deadline = Deadline.after(10)
    connection = collection.connection
    documents, _ = await connection.run_query_at(collection.parent, query, deadline=deadline, read_time=read_time)
    return documents


async def test_each_failure_is_told_by_its_id(flow_state_store: FirestoreFlowStateStore) -> None:
    """What cannot be stored does not keep the others from it."""
    store = flow_state_store
    bad = flow(1)
    bad.input = object()
    states = {f"good-{i}": flow(i) for i in range(150)}
    with pytest.raises(FlowStateBatchError) as error:
        await store.save_many({**states, "bad": bad, "a/b": flow(2), "": flow(3)})

    assert {"bad": FlowStateEncodeError, "a/b": InvalidFlowIdError, "": InvalidFlowIdError} == {
        id: type(one) for id, one in error.value.errors.items()
    }
    assert exactly(states) == exactly(await store.load_many(states))
    assert all(state.version is not None for state in states.values())


async def test_lost_replies_are_looked_into(flow_state_store: FirestoreFlowStateStore) -> None:
    """A batch whose reply was lost is stored once. One whose request was lost is sent again, state by state."""
    store = flow_state_store
    connection = (await store._begin())[0].connection
    commit = connection.commit
    lost: list[str] = ["reply", "request"]

    async def losing(writes: Any, **options: Any) -> Any:
        what = lost.pop(0) if lost else ""
        reply = None if what == "request" else await commit(writes, **options)
        if what:
            raise Ambiguous(what, sent_at=monotonic())
        return reply

    connection.commit = losing  # type: ignore[method-assign]  # what the connection says of a cut
    states = {f"id-{i:03}": flow(i) for i in range(150)}
    await store.save_many(states)
    connection.commit = commit  # type: ignore[method-assign]  # as it was

    loaded = await store.load_many(states)
    assert exactly(states) == exactly(loaded)
    assert {id: state.version for id, state in states.items()} == {id: state.version for id, state in loaded.items()}


async def test_an_unreadable_state_is_told(flow_state_store: FirestoreFlowStateStore) -> None:
    """Loading many says which cannot be read."""
    from firestore_flowstate._rpc.messages import Write

    store = flow_state_store
    await store.save("good", flow(1))
    collection, _ = await store._begin()
    write = Write()
    write.update.name = collection.name("bad")
    write.update.fields["flowId"].integer_value = 5
    await collection.connection.commit([write], deadline=collection.deadline(), flow_id=None)
    with pytest.raises(FlowStateBatchError) as error:
        await store.load_many(["good", "bad", "absent"])

    assert {"bad": FlowStateDecodeError} == {id: type(one) for id, one in error.value.errors.items()}
    assert str(error.value).startswith("1 of 3 flow states could not be loaded")
    with pytest.raises(FlowStateBatchError, match=r"^1 of 2 flow states could not be deleted") as error:
        await store.delete_many(["a/b", "absent", "absent"])
    assert ["a/b"] == list(error.value.errors)
    with pytest.raises(FlowStateBatchError, match=r"^The flow state could not be deleted \(errors has it by id\): "):
        await store.delete_many(["a/b"])
    await store.delete_many(["good", "bad", "absent"])
    assert {} == await store.load_many(["good", "bad", "absent"])


async def test_parts_are_deleted_with_their_states(flow_state_settings: FlowStateSettings) -> None:
    """They are, also if a state grew parts after it was looked at."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"compress_over": 2**40})) as store:
        await store.save_many({"small": flow(1), "grows": flow(2), "large": flow(3, 2_000_000)})
        batch_get = store._connection.batch_get

        async def and_then_grow(*args: Any, **options: Any) -> Any:
            found = await batch_get(*args, **options)
            await store.save("grows", flow(2, 2_000_000))
            return found

        store._connection.batch_get = and_then_grow  # type: ignore[method-assign]  # another writer's moment
        await store.delete_many(["small", "grows", "large"])

        assert 0 == await store.count()
        collection, _ = await store._begin()
        for id in ("grows", "large"):
            assert [] == await part_names(collection, id, collection.deadline())


@pytest.mark.parametrize("how", ["save_many", "import"])
async def test_parts_of_what_is_replaced_are_deleted(flow_state_settings: FlowStateSettings, how: str) -> None:
    """A state that needs parts reads what it replaces, as `save` does, and no part of that stays."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"compress_over": 2**40})) as store:
        await store.save_many({"small": flow(1), "large": flow(2, 2_000_000), "new": flow(3)})
        states = {"small": flow(4, 3_000_000), "large": flow(5, 4_000_000), "absent": flow(6, 2_000_000)}
        if how == "save_many":
            await store.save_many(states)
        else:
            await import_states(store, [export_line(id, state) for id, state in states.items()])

        assert exactly(states) == exactly(await store.load_many(states))
        report = await store.gc(dry_run=True)
        assert (0, 0) == (report.orphans, report.young)


async def test_a_server_that_is_away_fails_each(flow_state_settings: FlowStateSettings) -> None:
    """Each fails within the timeout, with an error by id."""
    gone = flow_state_settings.model_copy(update={"emulator_host": "127.0.0.1:9", "timeout": 1.0})
    async with FirestoreFlowStateStore(gone) as store:
        for call in (
            store.save_many({"a": flow(1), "b": flow(2)}),
            store.load_many(["a", "b"]),
            store.delete_many(["a", "b"]),
        ):
            with pytest.raises(FlowStateBatchError) as error:
                await call
            assert {"a", "b"} == set(error.value.errors)
            assert str(error.value).startswith("None of the 2 flow states could be ")
            assert all(isinstance(one, StoreUnavailableError) for one in error.value.errors.values())
