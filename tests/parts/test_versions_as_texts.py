"""Versions that have travelled as texts, and were changed on the way: no commit deletes a part because of one."""

from __future__ import annotations

import base64
import json
import pickle
import random
from collections.abc import Callable
from copy import copy, deepcopy
from datetime import timedelta
from typing import Any, Final, Literal

import pytest

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateExecution,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate._document.version import check_of
from firestore_flowstate._limits import moment_of
from firestore_flowstate._operations.deleting import part_names
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate.testing.comparison import exactly
from tests.support.raw_documents import RawCollection

KEYS: Final = {"k1": "MDEyMzQ1Njc4OWFiY2RlZg==", "k2": "ZmVkY2JhOTg3NjU0MzIxMA=="}
FLAGS, PARTS, EXPIRES = 5, 7, 9


def fields_of(version: str) -> list[Any]:
    return list(json.loads(base64.urlsafe_b64decode(version + "=" * (-len(version) % 4))))


def text_of(fields: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def forged(store: FirestoreFlowStateStore, version: str | None, **changes: Any) -> str:
    """Return the text with fields changed and a check that is right, as anybody can compute it."""
    fields = fields_of(version or "")
    for index, value in changes.items():
        fields[int(index.removeprefix("f"))] = value
    fields[-1] = check_of(f"{store.settings.collection}/flow", fields[:-1])
    return text_of(fields)


def incompressible(size: int) -> str:
    return base64.b64encode(random.Random(size).randbytes(size * 3 // 4)).decode()


def large() -> FlowState:
    """Return a running state with steps, and what its operation says, in parts."""
    state = FlowState.start(name="flow", flow_id="flow")
    state.cache = {"large": CacheEntry(value=incompressible(1_500_000))}
    state.operation = Operation(name="flow", metadata=incompressible(600_000))
    return state


async def orphans(store: FirestoreFlowStateStore) -> int:
    collection, _ = await store._begin()
    return (await collect(collection, dry_run=True, min_age=timedelta(0))).orphans


@pytest.fixture
def expiring(flow_state_settings: FlowStateSettings) -> FirestoreFlowStateStore:
    """A store whose finished states expire."""
    return FirestoreFlowStateStore(flow_state_settings.model_copy(update={"expire_after": timedelta(days=1)}))


async def test_texts_name_no_parts(flow_state_store: FirestoreFlowStateStore) -> None:
    """A version is short, and the same however it was come by, whether the parts are known or not."""
    store = flow_state_store
    state = large()
    await store.save("flow", state)
    loaded = await store.load("flow")
    assert loaded is not None
    assert state.version == loaded.version
    assert len(state.version or "") < 150
    for change in CHANGES.values():
        version = await store.update("flow", **change)
        loaded = await store.load("flow")
        assert loaded is not None
        assert version == loaded.version


async def test_a_text_that_was_changed_is_not_a_version(flow_state_store: FirestoreFlowStateStore) -> None:
    """It may have been changed by accident or not: the check of a version covers each of its fields."""
    store = flow_state_store
    state = FlowState.start(flow_id="flow")
    await store.save("flow", state)
    for index, value in enumerate([2, 1, 1, "r", "n", "d", 5, 5, "c", 1.5]):
        fields = fields_of(state.version or "")
        fields[index] = value
        with pytest.raises(FlowStateConflictError):
            await store.update("flow", cache={"step": CacheEntry(value=1)}, if_version=text_of(fields))


async def test_a_copy_of_a_version_is_a_plain_text(flow_state_store: FirestoreFlowStateStore) -> None:
    """What leaves the process takes nothing along, by pickle, JSON or `str`, which libraries for exact texts need."""
    state = large()
    await flow_state_store.save("flow", state)
    version = state.version or ""
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(version, protocol)) for protocol in protocols]  # noqa: S301  # its own
    copies = [*pickled, copy(version), deepcopy(version), str(version), json.loads(json.dumps(version))]

    assert [(str, version)] * len(copies) == [(type(text), text) for text in copies]
    assert len(pickle.dumps(str(version))) + 50 > len(pickle.dumps(version))


CHANGES: Final[dict[str, dict[str, Any]]] = {
    "step": {"cache": {"step": CacheEntry(value=1)}},
    "large step": {"cache": {"step": CacheEntry(value=incompressible(100_000))}},
    "operation": {"operation": Operation(name="flow")},
    "blocked": {"blocked_on_step": BlockedOnStep(name="step")},
    "executions": {"executions": [FlowStateExecution(trace_ids=["trace"])]},
    "trace": {"trace_context": "trace"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "lie",
    [{"f5": "d"}, {"f5": "fbx"}, {"f7": 0}, {"f7": 10**6}, {"f7": -1}, {"f8": "c"}],
    ids=str,
)
async def test_a_text_that_lies_takes_nothing(
    expiring: FirestoreFlowStateStore, lie: dict[str, Any], change: dict[str, Any]
) -> None:
    """Whatever it says of parts and progress, nothing of the state is lost, and a running flow does not expire."""
    store = expiring
    expected = large()
    await store.save("flow", expected)
    await store.update("flow", **change, if_version=forged(store, expected.version, **lie))
    loaded = await store.load("flow")

    assert loaded is not None
    assert loaded.expire_at is None
    for name, value in change.items():
        if name == "cache":
            expected.cache.update(value)
        else:
            setattr(expected, name, value)
    assert exactly(expected) == exactly(loaded)


@pytest.mark.parametrize(
    ("lie", "change"),
    [
        ({"f10": 1}, {"operation": Operation(name="flow", done=True)}),
        ({"f5": "d"}, {"expire_after": timedelta(hours=1)}),
        ({"f9": 4_000_000_000_000_000}, {"cache": {"step": CacheEntry(value=incompressible(1_500_000))}}),
    ],
    ids=["own duration", "status", "expiry"],
)
async def test_a_version_that_follows_from_a_text_is_believed_no_more(
    flow_state_store: FirestoreFlowStateStore, lie: dict[str, Any], change: dict[str, Any]
) -> None:
    """An update that does not go by the lie hands it on to its version. The next write reads what is stored."""
    store = flow_state_store
    state = FlowState.start(name="flow", flow_id="flow")
    await store.save("flow", state)
    version = await store.update("flow", trace_context="trace", if_version=forged(store, state.version, **lie))
    await store.update("flow", **change, if_version=version)
    collection, deadline = await store._begin()
    names = [collection.part_name("flow", part) for part in await part_names(collection, "flow", deadline)]
    parts = await collection.connection.batch_get(names, deadline=deadline)
    document = await collection.get("flow", deadline)

    assert document is not None
    assert [] == [found.name for found in (document.message, *parts.values()) if "expireAt" in found.fields]


@pytest.mark.parametrize("lie", [{"f7": 0}, {"f7": -1}, {"f7": 0, "f9": None}], ids=str)
@pytest.mark.parametrize(
    "change",
    [
        {"operation": Operation(name="flow")},
        {"operation": Operation(name="flow", done=True), "expire_after": timedelta(days=30)},
        {"operation": Operation(name="flow"), "cache": {"step": CacheEntry(value=incompressible(100_000))}},
        {"operation": Operation(name="flow"), "extra": {"expireAfter": 5}, "remove": ["small"]},
    ],
    ids=["goes on", "later", "goes on with parts", "goes on with a key"],
)
async def test_a_text_that_hides_parts_does_not_leave_them_to_expire(
    expiring: FirestoreFlowStateStore, change: dict[str, Any], lie: dict[str, Any]
) -> None:
    """The commit tells how many there are: the parts get the expiry that their state got, and nothing else changes."""
    store = expiring
    expected = large()
    expected.cache["small"] = CacheEntry(value=1)
    expected.operation = Operation(name="flow", done=True)
    await store.save("flow", expected)
    version = await store.update("flow", **change, if_version=forged(store, expected.version, **lie))
    loaded = await store.load("flow")
    collection, deadline = await store._begin()
    names = [collection.part_name("flow", part) for part in await part_names(collection, "flow", deadline)]
    parts = await collection.connection.batch_get(names, deadline=deadline)

    assert loaded is not None
    assert version == loaded.version
    assert change["operation"] == loaded.operation
    assert {"large", *change.get("cache", {}), *({"small"} - set(change.get("remove", ())))} == loaded.cache.keys()
    expiries = [found.fields["expireAt"] for found in parts.values() if "expireAt" in found.fields]
    if loaded.expire_at is None:
        assert [] == expiries
    else:
        assert {loaded.expire_at + timedelta(days=7)} == {
            moment_of(one.timestamp_value).as_datetime() for one in expiries
        }
        assert len(names) == len(expiries)


@pytest.mark.parametrize("parts", [0, 10**6])
async def test_a_whole_write_on_a_text_that_lies(flow_state_store: FirestoreFlowStateStore, parts: int) -> None:
    """It replaces or deletes all of the state, whatever the text says. At worst parts are left for gc."""
    store = flow_state_store
    state = large()
    await store.save("flow", state)
    other = FlowState.start(flow_id="flow")
    await store.save("flow", other, if_version=forged(store, state.version, f7=parts))
    assert exactly(other) == exactly(await store.load("flow"))
    assert (parts == 0) == (await orphans(store) > 0)
    await store.save("flow", state)
    await store.delete("flow", if_version=forged(store, state.version, f7=parts))
    assert await store.load("flow") is None


@pytest.mark.parametrize("layout", ["serialized", "native"])
@pytest.mark.parametrize("write", [*CHANGES, "save", "delete"])
async def test_a_text_that_lies_about_the_layout(
    flow_state_settings: FlowStateSettings, layout: Literal["serialized", "native"], write: str
) -> None:
    """If it says another one than the settings, the document is read. Otherwise it would be spoilt or in the clear."""
    keyed = {"keys": KEYS, "current_key": "k1"} if layout == "serialized" else {}
    settings = flow_state_settings.model_copy(update={"layout": layout, **keyed})
    async with FirestoreFlowStateStore(settings) as store:
        expected = FlowState.start(name="flow", flow_id="flow")
        await store.save("flow", expected)
        text = forged(store, expected.version, f4="n" if layout == "serialized" else "s")
        if write == "delete":
            await store.delete("flow", if_version=text)
            assert await store.load("flow") is None
            return
        if write == "save":
            expected = FlowState.start(name="other", flow_id="flow")
            await store.save("flow", expected, if_version=text)
        else:
            change = CHANGES[write] if write != "operation" else {"operation": Operation(name="flow", done=False)}
            await store.update("flow", **change, if_version=text)
            for name, value in change.items():
                setattr(expected, name, value)

        assert exactly(expected) == exactly(await store.load("flow"))
        assert (layout == "native") == ("_flowstate" not in RawCollection(settings).read("flow"))


Write = Callable[[FirestoreFlowStateStore, FlowState], Any]
ON_A_TEXT: Final[dict[str, Write]] = {
    "save": lambda store, state: store.save("flow", FlowState.start(flow_id="flow"), if_version=state.version),
    "delete": lambda store, state: store.delete("flow", if_version=state.version or ""),
    "update": lambda store, state: store.update(
        "flow", operation=Operation(name="flow"), if_version=state.version or ""
    ),
}


@pytest.mark.parametrize("write", ON_A_TEXT.values(), ids=ON_A_TEXT)
@pytest.mark.parametrize("between", [False, True], ids=["", "after a rewrap"])
async def test_what_is_replaced_takes_its_parts_along(
    flow_state_settings: FlowStateSettings, write: Write, between: bool
) -> None:
    """The parts are those of the document, also if they were written anew since the version was read."""
    store, new = (
        FirestoreFlowStateStore(flow_state_settings.model_copy(update={"keys": KEYS, "current_key": key}))
        for key in ("k1", "k2")
    )
    state = large()
    await store.save("flow", state)
    if between:
        assert 1 == (await new.rewrap()).rewrapped
    await write(store, state)
    collection, _ = await store._begin()

    assert 0 == await orphans(store)
    document = await collection.get("flow", collection.deadline())
    counted = 0
    if document is not None:
        counted = document.fields["_flowstate"].map_value.fields["parts"].integer_value
    assert counted == len(await part_names(collection, "flow", collection.deadline()))
