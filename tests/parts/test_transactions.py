"""Firestore counts what a commit deletes among the bytes that it may change: a relay refuses what it would refuse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate._rpc.messages import CommitRequest
from firestore_flowstate.reports import GcReport
from tests.faults.relay import Call, Refusal, Relay
from tests.parts.test_large import parts_below, state_of

MB: Final = 1_000_000
LIMIT: Final = 3 * MB
"""Bytes that a commit may change here: Firestore's are 10 MiB, of which the emulator takes 4 in one request."""

Store = FirestoreFlowStateStore


class Transactions(Relay):
    """Refuses commits as Firestore does: https://github.com/firebase/firebase-tools/issues/1036.

    Attributes:
        refused: How many it has refused.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.refused = 0
        self.refusal = self._refusal
        self._sizes: dict[str, int] = {}

    def _refusal(self, call: Call) -> Refusal | None:
        if call.method != "Commit":
            return None
        writes = CommitRequest.FromString(call.request).writes
        written = {write.update.name: write.ByteSize() for write in writes if not write.HasField("update_mask")}
        deleted = sum(self._sizes.get(write.delete, 0) for write in writes)
        if deleted and deleted + sum(written.values()) > LIMIT:
            self.refused += 1
            return Refusal("INVALID_ARGUMENT", "Transaction too big. Decrease transaction size.")
        self._sizes |= written
        return None


async def orphans(store: Store, *, dry_run: bool) -> GcReport:
    """Collect orphans of any age."""
    collection, _ = await store._begin()
    return await collect(collection, dry_run=dry_run, min_age=timedelta(0))


@pytest.fixture
async def limited(flow_state_settings: FlowStateSettings) -> AsyncIterator[tuple[Store, Transactions]]:
    """A store whose commits may change 3 MB, with an old and large state `flow` of 9 parts."""
    assert flow_state_settings.emulator_host is not None
    with Transactions(flow_state_settings.emulator_host) as relay:
        settings = flow_state_settings.model_copy(
            update={"emulator_host": relay.host, "compress_over": 2**40, "max_request_bytes": 2 * MB}
        )
        async with FirestoreFlowStateStore(settings) as store:
            await store.save("flow", state_of(9 * MB))
            assert 9 <= len(await parts_below(store))
            relay.refused = 0
            yield store, relay


async def save_less(store: Store) -> FlowState:
    state = await store.load("flow")
    assert state is not None
    state.cache = {"small": CacheEntry(value=1)}
    await store.save("flow", state, if_version=state.version)
    return state


async def rewrap(store: Store) -> FlowState:
    state = await store.load("flow")
    assert state is not None
    async with Store(store.settings.model_copy(update={"compress_over": 1024})) as compressing:
        report = await compressing.rewrap()
    assert 1 == report.rewrapped
    return state


async def save_more(store: Store) -> FlowState:
    state = await store.load("flow")
    assert state is not None
    state.cache = state_of(6 * MB, seed=1).cache
    await store.save("flow", state, if_version=state.version)
    return state


async def save_many(store: Store) -> FlowState:
    state = state_of(6 * MB, seed=2)
    await store.save_many({"flow": state, "other": FlowState.start(flow_id="other")})
    return state


WRITES: Final[dict[str, Callable[[Store], Awaitable[FlowState]]]] = {
    "save of less": save_less,
    "save of more": save_more,
    "save_many": save_many,
    "rewrap": rewrap,
}
"""What replaces the values of the state."""


@pytest.mark.parametrize("what", WRITES)
async def test_what_is_replaced_goes_after_the_root(limited: tuple[Store, Transactions], what: str) -> None:
    """If it is too much for one commit. The state is the new one, and no part is left over."""
    store, relay = limited
    state = await WRITES[what](store)
    refused = relay.refused
    loaded = await store.load("flow")

    assert refused > 0
    assert loaded is not None
    assert state.cache == loaded.cache
    assert 0 == (await orphans(store, dry_run=True)).orphans
    await store.save("flow", loaded, if_version=loaded.version)


async def _delete(store: Store) -> object:
    return await store.delete("flow")


async def _delete_version(store: Store) -> object:
    state = await store.load("flow")
    assert state is not None
    return await store.delete("flow", if_version=state.version or "")


async def _purge(store: Store) -> object:
    purged = await store.purge(older_than=timedelta(0))
    assert 1 == purged
    return purged


@pytest.mark.parametrize("delete", [_delete, _delete_version, _purge])
async def test_a_deletion_takes_all(limited: tuple[Store, Transactions], delete: Any) -> None:
    """The root goes first, and then its parts, in as many commits as that takes."""
    store, relay = limited
    await delete(store)

    assert relay.refused > 0
    assert await store.load("flow") is None
    assert [] == await parts_below(store)


async def test_gc_takes_all(limited: tuple[Store, Transactions]) -> None:
    """It goes by halves until a commit is taken."""
    store, relay = limited
    await store.save("flow", state_of(1000))  # without a version: the parts stay
    left = await parts_below(store)
    report = await orphans(store, dry_run=False)

    assert relay.refused > 0
    assert len(left) == report.deleted >= 9
    assert [] == await parts_below(store)


async def test_another_reason_is_told(limited: tuple[Store, Transactions]) -> None:
    """A deletion that is refused however small it is raises the error of that, and nothing is gone."""
    store, relay = limited
    before = await parts_below(store)
    relay.refusal = lambda call: Refusal("INVALID_ARGUMENT", "said so") if call.method == "Commit" else None
    with pytest.raises(Exception, match="said so"):
        await store.delete("flow")

    assert before == await parts_below(store)
    assert await store.load("flow") is not None


async def test_what_others_write_meanwhile_stays(limited: tuple[Store, Transactions]) -> None:
    """A state that is stored anew once the root is gone keeps its parts, though they lie below the same id."""
    store, relay = limited
    is_stored = False
    refuse = relay.refusal

    def refusal(call: Call) -> Refusal | None:
        nonlocal is_stored
        if call.method == "Commit" and not is_stored and is_deletion_of_parts_alone(call):
            is_stored = True  # as if another process had stored it just now: the guard of the root fails
            return Refusal("FAILED_PRECONDITION", "the root is there again")
        return refuse(call)

    relay.refusal = refusal
    await store.delete("flow")
    left = await parts_below(store)

    assert is_stored
    assert 9 <= len(left), "gc finds them later"
    assert await store.load("flow") is None


def is_deletion_of_parts_alone(call: Call) -> bool:
    writes = CommitRequest.FromString(call.request).writes
    return len(writes) > 1 and writes[0].current_document.WhichOneof("condition_type") == "exists"
