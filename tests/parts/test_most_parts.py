"""No write lets a state refer to more parts than readers take, or than one commit has room for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateSettings,
    FlowStateTooLargeError,
    Operation,
)
from firestore_flowstate._collection.collection import Collection
from firestore_flowstate._commit.pending_write import PendingWrite, size_of
from firestore_flowstate._document.stored_values import MAX_STATE_PARTS
from firestore_flowstate._document.version import Anything
from firestore_flowstate._limits import MAX_DOCUMENT_BYTES, MAX_NAME_BYTES
from firestore_flowstate.backup import export_states, import_states
from firestore_flowstate.settings import EMULATOR_REQUEST_BYTES, MAX_REQUEST_BYTES
from tests.faults.writes import incompressible
from tests.support.damage import integer, put
from tests.support.raw_documents import RawCollection

MOST: Final = 4  # parts of a state in these tests
PART: Final = 20_000  # bytes of one
FULL: Final = "x" * (MOST * PART - 100)  # a value that takes as many parts as a state may have
EDGE: Final = "x" * (MOST * PART - 60)  # likewise, and in one part more if it is encrypted
OVER: Final = "x" * (MOST * PART + 100)

Store = FirestoreFlowStateStore


@pytest.fixture
def settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"compress_over": 2**40})


@pytest.fixture
async def store(settings: FlowStateSettings) -> AsyncIterator[Store]:
    async with Store(settings) as store:
        yield store


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a state have 4 parts at most, of 20 KB."""
    monkeypatch.setattr("firestore_flowstate._collection.collection.MAX_STATE_PARTS", MOST)
    monkeypatch.setattr("firestore_flowstate._document.stored_values.PART_BYTES", PART)
    monkeypatch.setattr("firestore_flowstate._document.stored_values.INLINE_BYTES", PART // 2)
    monkeypatch.setattr("firestore_flowstate._document.serialized.ROOT_BYTES", PART // 2)


def holding(value: Any) -> FlowState:
    state = FlowState.start(flow_id="flow")
    state.cache = {"small": CacheEntry(value=1), "large": CacheEntry(value=value)}
    return state


async def _edit(store: Store, state: FlowState) -> None:
    async with store.edit("id") as edited:
        edited.cache["large"] = CacheEntry(value=OVER)


async def _save_edited(store: Store, state: FlowState) -> None:
    async with store.edit("id") as edited:
        edited.name, edited.cache = "renamed", holding(OVER).cache


async def _modify(store: Store, state: FlowState) -> None:
    await store.modify("id", lambda found: found.cache.update(large=CacheEntry(value=OVER)))


WRITERS: Final[dict[str, tuple[str, Callable[[Store, FlowState], Awaitable[object]]]]] = {
    "save": ('cache["large"]', lambda store, state: store.save("id", holding(OVER))),
    "save of a version": (
        'cache["large"]',
        lambda store, state: store.save("id", holding(OVER), if_version=state.version or ""),
    ),
    "create": ('cache["large"]', lambda store, state: store.create("new", holding(OVER))),
    "update": ('cache["large"]', lambda store, state: store.update("id", cache=holding(OVER).cache, remove=["x"])),
    "update of a step": (
        'cache["large"]',
        lambda store, state: store.update("id", cache={"large": CacheEntry(value=FULL)}),
    ),
    "update of a version": (
        'events_triggered["event"]',
        lambda store, state: store.update("id", events_triggered={"event": FULL}, if_version=state.version or ""),
    ),
    "update of a version as text": (
        "operation",
        lambda store, state: store.update(
            "id", operation=Operation(name="flow", metadata=OVER), if_version=str(state.version)
        ),
    ),
    "edit": ('cache["large"]', _edit),
    "edit of the whole": ('cache["large"]', _save_edited),
    "modify": ('cache["large"]', _modify),
}
"""What would let a state be in too many parts, with the path of its error."""


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("writer", WRITERS)
async def test_a_write_that_needs_more_parts_is_refused(store: Store, settings: FlowStateSettings, writer: str) -> None:
    """The error tells how many parts there would be, and nothing is stored, no part either."""
    state = holding(FULL[: PART * 2])
    await store.save("id", state)
    raw = RawCollection(settings)
    before = raw.read("id"), raw.update_time("id"), raw.below("id", "flowstate-parts")
    path, write = WRITERS[writer]
    if writer == "update":
        path = "cache"  # of several steps none is known to be the largest
    with pytest.raises(FlowStateTooLargeError, match="parts") as refused:
        await write(store, state)

    assert (path, MOST) == (refused.value.path, refused.value.limit)
    assert MOST < refused.value.size < 3 * MOST
    assert refused.value.flow_id in ("id", "new")
    assert before == (raw.read("id"), raw.update_time("id"), raw.below("id", "flowstate-parts"))
    assert {} == raw.below("new", "flowstate-parts")


@pytest.mark.usefixtures("few")
async def test_copies_that_need_more_parts_are_refused(store: Store, settings: FlowStateSettings) -> None:
    """Batches, imports and migrations name the state, and `rewrap` too. What is stored stays as it is."""
    await store.save("id", holding(FULL))
    lines = [line async for line in export_states(store)]
    one_less = {"collection": f"{settings.collection}-copy", "keys": {"a": b"k" * 32}}
    async with Store(settings.model_copy(update=one_less)) as copy:
        with pytest.raises(FlowStateBatchError) as batch:
            await copy.save_many({"many": holding(OVER), "small": holding(1)})
        await copy.save("id", holding("x"))
        await store.save("id", holding(EDGE))
        report = await store.migrate(copy, decrypt=True)
        imported = [line.replace(FULL.encode(), OVER.encode()) if isinstance(line, bytes) else line for line in lines]
        imported = [line.replace(FULL, OVER) if isinstance(line, str) else line for line in imported]
        with pytest.raises(FlowStateBatchError) as importing:
            await import_states(copy, imported)
        async with Store(settings.model_copy(update={"keys": {"a": b"k" * 32}})) as keyed:
            with pytest.raises(FlowStateTooLargeError) as rewrapping:
                await keyed.rewrap()
        there = await copy.load_many(["id", "many", "small"])
    loaded = await store.load("id")

    errors = [batch.value.errors["many"], report.failed["id"], importing.value.errors["id"], rewrapping.value]
    assert [FlowStateTooLargeError] * 4 == list(map(type, errors))
    assert {"id": "x", "small": 1} == {id: state.cache["large"].value for id, state in there.items()}
    assert loaded is not None
    assert EDGE == loaded.cache["large"].value


@pytest.mark.usefixtures("few")
async def test_a_state_with_all_its_parts_can_be_changed(store: Store, settings: FlowStateSettings) -> None:
    """It takes small steps, a value in place of one in parts, an end and a save. One count too high stops none."""
    state = holding(1)
    state.operation = Operation(name="flow", metadata=FULL)
    await store.save("id", state)
    raw = RawCollection(settings)
    fields = raw.read("id")
    put("_flowstate.parts", integer(1_000))(fields)  # as after a lost reply
    raw.write("id", fields)
    await store.update("id", cache={"more": CacheEntry(value=2)})
    await store.update("id", operation=Operation(name="flow", metadata=FULL[1:]))
    await store.update("id", operation=Operation(name="flow", done=True), expire_after=timedelta(days=1))
    await store.update("id", cache={"large": CacheEntry(value=FULL)})
    loaded = await store.load("id")
    assert loaded is not None
    await store.save("id", loaded, if_version=loaded.version or "")

    assert {"small", "large", "more"} == loaded.cache.keys()
    assert FULL == loaded.cache["large"].value


@pytest.mark.usefixtures("few")
async def test_a_log_that_can_not_be_compacted_is_an_error_in_the_end(store: Store) -> None:
    """Steps are stored as long as the root has room. Then the error says so, and all of them are there."""
    await store.save("id", holding(FULL))
    stored: list[str] = []

    async def fill() -> None:
        for number in range(1_000):
            await store.update("id", cache={f"{number}": CacheEntry(value=incompressible(PART // 3))})
            stored.append(f"{number}")

    with pytest.raises(FlowStateTooLargeError) as full:
        await fill()
    loaded = await store.load("id")

    assert ("id", MOST) == (full.value.flow_id, full.value.limit)
    assert 30 < len(stored) < 200
    assert loaded is not None
    assert ["small", "large", *stored] == list(loaded.cache)


@pytest.mark.parametrize("id", ["id", "i" * MAX_NAME_BYTES], ids=["short id", "long id"])
@pytest.mark.parametrize("largest", [MAX_REQUEST_BYTES, EMULATOR_REQUEST_BYTES], ids=["Firestore", "emulator"])
async def test_a_commit_has_room_for_all_parts(store: Store, monkeypatch: Any, id: str, largest: int) -> None:
    """It has room for a root of 1 MiB, for the deletion of all its old parts, and for a touch of all its new ones."""
    monkeypatch.setattr("firestore_flowstate._collection.collection.EMULATOR_REQUEST_BYTES", largest)
    collection = await _collection(store)
    names = [collection.part_name(id, f"{'p' * 11}-{number % 1000}") for number in range(collection.most_parts(id))]
    pending = PendingWrite(
        id=id,
        write=bytes(MAX_DOCUMENT_BYTES),
        expected=Anything(),
        revision="",
        replaces=True,
        gone=tuple(names),
        stay=tuple(names),
        expire_at=datetime.max.replace(tzinfo=timezone.utc),
    )
    [batch] = pending.batches(collection.request_bytes)

    assert MAX_STATE_PARTS >= len(names) > 900
    assert largest > sum(map(size_of, batch))


async def test_a_state_in_the_most_parts_ends_and_is_deleted(store: Store, settings: FlowStateSettings) -> None:
    """Under the longest id too the expiry of all its parts is set, and all of them are deleted, in one request each."""
    id, raw = "i" * MAX_NAME_BYTES, RawCollection(settings)
    await store.create(id, holding(1))
    collection = await _collection(store)
    most = collection.most_parts(id)
    fields, made = raw.read(id), 0
    log = fields["_flowstate"]["mapValue"]["fields"]["log"]["arrayValue"]["values"]
    while made < most:
        name, count = f"p{len(log):010}", min(300, most - made)
        raw_parts = [f"{name}-{index}" for index in range(count)]
        for part in raw_parts:
            raw.write(f"{id}/flowstate-parts/{part}", {"data": {"bytesValue": "eHh4"}})
        reference = {"part": {"stringValue": name}, "count": integer(count), "bytes": integer(3 * count)}
        log.append(
            {
                "mapValue": {
                    "fields": {"id": {"stringValue": f"s{len(log):010}"}, "set": {"mapValue": {"fields": reference}}}
                }
            }
        )
        made += count
    put("_flowstate.parts", integer(most))(fields)
    raw.write(id, fields)
    await store.update(id, operation=Operation(name="flow", done=True), expire_after=timedelta(days=1))
    parts = raw.below(id, "flowstate-parts")
    await store.delete(id)

    assert parts
    assert all("expireAt" in part for part in parts.values())
    assert {} == raw.below(id, "flowstate-parts")


async def _collection(store: Store) -> Collection:
    collection, _ = await store._begin()
    return collection
