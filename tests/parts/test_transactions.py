"""Firestore counts what a commit deletes among the bytes that it may change: a relay refuses what it would refuse."""

from __future__ import annotations

import asyncio
import threading
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


async def update(store: Store) -> FlowState:
    await store.save("flow", one_large("first"))
    state = one_large("second")
    await store.update("flow", cache=state.cache)
    return state


def one_large(text: str) -> FlowState:
    state = FlowState.start(flow_id="flow")
    state.cache = {"large": CacheEntry(value=text * (4 * MB // len(text)))}
    return state


WRITES: Final[dict[str, Callable[[Store], Awaitable[FlowState]]]] = {
    "save of less": save_less,
    "save of more": save_more,
    "save_many": save_many,
    "rewrap": rewrap,
    "update": update,
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


@pytest.mark.parametrize("write", [save_less, _delete], ids=["save", "delete"])
async def test_what_others_write_meanwhile_stays(
    limited: tuple[Store, Transactions], flow_state_settings: FlowStateSettings, write: Callable[[Store], Any]
) -> None:
    """A state that is stored between a write and its deletion of parts keeps its own: nothing is deleted below it."""
    store, relay = limited
    refuse = relay.refusal
    cleans_up = threading.Event()

    def refusal(call: Call) -> Refusal | None:
        if call.method == "Commit" and not cleans_up.is_set() and is_clean_up(call):
            asyncio.run(as_another_process(flow_state_settings))
            cleans_up.set()
        return refuse(call)

    relay.refusal = refusal
    await write(store)
    left = await parts_below(store)
    loaded = await store.load("flow")

    assert cleans_up.is_set()
    assert loaded is not None
    assert state_of(2 * MB, seed=3).cache == loaded.cache
    assert len(left) >= 9 + 2, "gc finds what is left over"


async def as_another_process(settings: FlowStateSettings) -> None:
    async with Store(settings.model_copy(update={"compress_over": 2**40})) as other:
        await other.save("flow", state_of(2 * MB, seed=3))


def is_clean_up(call: Call) -> bool:
    """Return whether a commit changes nothing and deletes parts: its first write is a guard of the root."""
    first, *others = CommitRequest.FromString(call.request).writes
    is_there = first.WhichOneof("operation") == "update"
    changes_nothing = not first.update.fields if is_there else not first.current_document.update_time.seconds
    return bool(changes_nothing and others and all(write.delete for write in others))


@pytest.mark.parametrize("write", [save_less, _delete], ids=["save", "delete"])
async def test_a_clean_up_that_fails_is_left_to_gc(
    limited: tuple[Store, Transactions], write: Callable[[Store], Any]
) -> None:
    """The write is stored and told so, and does not wait for a quota to come back."""
    store, relay = limited
    refuse = relay.refusal
    relay.refusal = lambda call: (
        Refusal("UNAVAILABLE", "no reply") if call.method == "Commit" and is_clean_up(call) else refuse(call)
    )
    await write(store)
    left = (await orphans(store, dry_run=True)).orphans
    relay.refusal = refuse
    report = await orphans(store, dry_run=False)

    assert left == report.deleted >= 9
    loaded = await store.load("flow")
    assert [] == await parts_below(store)
    assert loaded is None or ["small"] == list(loaded.cache)


async def test_gc_counts_what_it_has_deleted(limited: tuple[Store, Transactions]) -> None:
    """Also if somebody writes the state in the middle, so that the rest is left to the next one."""
    store, relay = limited
    await store.save("flow", state_of(1000))
    before = len(await parts_below(store))
    refuse, taken = relay.refusal, 0

    def refusal(call: Call) -> Refusal | None:
        nonlocal taken
        refused = refuse(call)
        if call.method == "Commit" and refused is None:
            taken += 1
            if taken == 3:
                return Refusal("FAILED_PRECONDITION", "the root was written")
        return refused

    relay.refusal = refusal
    report = await orphans(store, dry_run=False)

    assert 0 < report.deleted == before - len(await parts_below(store)) < before
