"""What each call costs on the wire: how many calls of Firestore, in which order, with what in them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import pytest

from firestore_flowstate import (
    UNSET,
    BlockedOnStep,
    CacheEntry,
    FlowState,
    FlowStateConflictError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    FlowStateQuery,
    Operation,
)
from firestore_flowstate._rpc.messages import CommitRequest
from tests.faults.relay import Relay
from tests.faults.writes import Store, a_state, in_layout, incompressible

GET, BATCH_GET, COMMIT, QUERY, COUNT = "GetDocument", "BatchGetDocuments", "Commit", "RunQuery", "RunAggregationQuery"
Call = Callable[[Store, FlowState], Awaitable[object]]
STEP: Final = {"step": CacheEntry(value=1)}


async def _edit(store: Store, _: FlowState) -> None:
    async with store.edit("id") as state:
        state.cache["step"] = CacheEntry(value=1)


async def _edit_nothing(store: Store, _: FlowState) -> None:
    async with store.edit("id") as state:
        state.cache["before"] = CacheEntry(value=[1, 2])


async def _edit_and_raise(store: Store, _: FlowState) -> None:
    with suppress(ZeroDivisionError):
        async with store.edit("id") as state:
            state.cache["step"] = CacheEntry(value=1)
            raise ZeroDivisionError


async def _edit_too_late(store: Store, read: FlowState) -> None:
    edit = store.edit("id")
    (await edit.__aenter__()).cache["step"] = CacheEntry(value=1)
    read.cache["theirs"] = CacheEntry(value=1)
    await store.save("id", read)
    with pytest.raises(FlowStateConflictError):
        await edit.__aexit__(None, None, None)


async def _one_after_the_other(store: Store, read: FlowState) -> None:
    version = read.version or ""
    for _ in range(5):
        version = await store.update("id", cache=STEP, if_version=version)
    await store.delete("id", if_version=version)


async def _save_again_and_again(store: Store, read: FlowState) -> None:
    for _ in range(5):
        await store.save("id", read, if_version=read.version)


async def _create_what_is_there(store: Store, read: FlowState) -> None:
    with pytest.raises(FlowStateExistsError):
        await store.create("id", read)


async def _update_what_is_not_there(store: Store, _: FlowState) -> None:
    with pytest.raises(FlowStateNotFoundError):
        await store.update("missing", cache=STEP)


COSTS: Final[dict[str, tuple[Call, list[str]]]] = {
    "save": (lambda store, read: store.save("id", read), [COMMIT]),
    "save if_version": (lambda store, read: store.save("id", read, if_version=read.version), [COMMIT]),
    "save if_version=None": (lambda store, _: store.save("new", FlowState.start(), if_version=None), [COMMIT]),
    "save, each on top of the one before": (_save_again_and_again, [COMMIT] * 5),
    "create": (lambda store, _: store.create("new", FlowState.start()), [COMMIT]),
    "create what is there": (_create_what_is_there, [COMMIT, GET]),
    "update if_version": (lambda store, read: store.update("id", cache=STEP, if_version=read.version or ""), [COMMIT]),
    "update, each on top of the one before, and delete": (_one_after_the_other, [COMMIT] * 6),
    "update": (lambda store, _: store.update("id", cache=STEP), [GET, COMMIT]),
    "update of unknown keys": (lambda store, _: store.update("id", extra={"a": 1, "b": UNSET}), [GET, COMMIT]),
    "update of unknown keys if_version": (
        lambda store, read: store.update("id", extra={"a": 1, "b": UNSET}, if_version=read.version or ""),
        [COMMIT],
    ),
    "due": (lambda store, _: store.due(), [QUERY]),
    "update what is not there": (_update_what_is_not_there, [GET]),
    "edit": (_edit, [GET, COMMIT]),
    "edit nothing": (_edit_nothing, [GET]),
    "edit and raise": (_edit_and_raise, [GET]),
    "edit too late": (_edit_too_late, [GET, COMMIT, COMMIT, GET]),
    "modify": (lambda store, _: store.modify("id", lambda state: state.cache.update(STEP)), [GET, COMMIT]),
    "modify nothing": (lambda store, _: store.modify("id", lambda state: None), [GET]),
    "delete if_version": (lambda store, read: store.delete("id", if_version=read.version or ""), [COMMIT]),
    "delete": (lambda store, _: store.delete("id"), [GET, COMMIT]),
    "load": (lambda store, _: store.load("id"), [GET]),
    "load_many": (lambda store, _: store.load_many(["id", "missing"]), [BATCH_GET]),
    "save_many": (lambda store, read: store.save_many({"id": read, "new": FlowState.start()}), [COMMIT]),
    "delete_many": (lambda store, _: store.delete_many(["id", "missing"]), [BATCH_GET, COMMIT]),
    "list": (lambda store, _: store.list(), [QUERY]),
    "list_summaries": (lambda store, _: store.list_summaries(), [QUERY]),
    "list by status, which native documents do not carry": (
        lambda store, _: store.list(FlowStateQuery(status="done")),
        [BATCH_GET, QUERY, QUERY],  # the first of them goes to the emulator alone: see settled_time
    ),
    "count": (lambda store, _: store.count(), [COUNT]),
    "ping": (lambda store, _: store.ping(), [GET]),
}


@pytest.mark.parametrize(("call", "expected"), COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_calls(relayed: Store, relay: Relay, layout: str, call: Call, expected: list[str]) -> None:
    """A write with a version is one call. Nothing is read that is known, and nothing written that has not changed."""
    store = in_layout(relayed, layout)
    read = a_state("id")
    await store.save("id", read)
    relay.methods()
    await call(store, read)

    assert expected == relay.methods()


async def test_every_write_has_an_id_of_its_own(relayed: Store, relay: Relay) -> None:
    """So has one that equals the one before, or changes nothing. Otherwise two equal writers would both succeed."""
    state = a_state("id")
    await relayed.save("id", state)
    await relayed.save("id", state)
    await relayed.save("id", state, if_version=state.version)
    await relayed.update("id", cache=STEP)
    version = await relayed.update("id", cache=STEP)
    await relayed.update("id", if_version=version)
    await relayed.save_many({"id": state, "other": state})
    await relayed.delete("id")
    await relayed.create("id", state)
    ids = [id for call in relay.calls if call.method == COMMIT for id in ids_of(call.request)]

    assert 9 == len(ids) == len(set(ids))
    assert {11} == set(map(len, ids))


async def test_an_edit_sends_what_it_changed(relayed: Store, relay: Relay) -> None:
    """A step goes as a segment, and other fields go by their names, whatever else is in the state."""
    state = a_state("id")
    state.cache["large"] = CacheEntry(value=incompressible(200_000))
    await relayed.save("id", state)
    relay.methods()
    async with relayed.edit("id") as edited:
        edited.cache["step"] = CacheEntry(value=1)
        edited.blocked_on_step = BlockedOnStep(name="approval")
    [_, sent] = relay.calls
    [write] = CommitRequest.FromString(sent.request).writes

    assert ["_flowstate.blockedOnStep", "status", "blockedOnStep", "expireAt"] == list(write.update_mask.field_paths)
    assert '{"step":{"value":1}}' == segment_of(write).fields["set"].string_value
    assert len(sent.request) < 1500


async def test_an_update_of_unknown_keys_sends_them_alone(relayed: Store, relay: Relay) -> None:
    """Each goes twice, for queries and for summaries. A removed key goes by its name alone. Edits do the same."""
    state = a_state("id")
    state.cache["large"] = CacheEntry(value=incompressible(200_000))
    state.b = 1
    await relayed.save("id", state)
    relay.methods()
    version = await relayed.update("id", extra={"a": 1, "b": UNSET}, if_version=state.version or "")
    await relayed.update("id", if_version=version)
    async with relayed.edit("id") as edited:
        edited.a = 2
    update, bare, _, edit = (call.request for call in relay.calls)
    paths = [list(CommitRequest.FromString(request).writes[0].update_mask.field_paths) for request in (update, edit)]

    assert [["`a`", "summary.extra.`a`", "`b`", "summary.extra.`b`"], ["`a`", "summary.extra.`a`"]] == paths
    assert len(update) - len(bare) < 120


async def test_an_update_sends_what_it_names(relayed: Store, relay: Relay) -> None:
    """An operation goes without the steps, a step without the operation."""
    await relayed.save("id", a_state("id"))
    await relayed.update("id", cache=STEP)
    await relayed.update("id", operation=Operation(name="id", done=True))
    first, second = (CommitRequest.FromString(c.request).writes[0] for c in relay.calls[-3::2])

    assert [] == list(first.update_mask.field_paths)
    assert ["_flowstate.operation", "status", "summary.errorLine", "expireAt"] == list(second.update_mask.field_paths)
    assert ["id"] == list(segment_of(second).fields)


def ids_of(commit: bytes) -> list[str]:
    """Return the id of the revision that each write of a commit makes."""
    ids = []
    for write in CommitRequest.FromString(commit).writes:
        if write.update_transforms:
            ids.append(segment_of(write).fields["id"].string_value)
        elif "_flowstate" in write.update.fields:
            log = write.update.fields["_flowstate"].map_value.fields["log"].array_value.values
            ids.append(log[-1].map_value.fields["id"].string_value)
    return ids


def segment_of(write: object) -> object:
    """Return the segment that an update appends."""
    return write.update_transforms[0].append_missing_elements.values[0].map_value  # type: ignore[attr-defined]
