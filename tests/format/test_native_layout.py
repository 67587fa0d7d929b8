"""The native layout, read raw over REST and compared whole with value types: what Genkit JS writes and reads."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateEncodeError,
    FlowStateSettings,
)
from firestore_flowstate.testing import exactly
from tests.format.forms import FIFTY_YEARS, ID, START, TRACE, Stored, state
from tests.format.notation import Time, fields, same
from tests.support.raw_documents import RawCollection

FOLDER = Path(__file__).parents[1] / "data" / "genkit-js"
GOLDEN = {path.stem: json.loads(path.read_text())["document"]["fields"] for path in sorted(FOLDER.glob("*.json"))}

SAVED: dict[str, Any] = {
    "flowId": ID,
    "name": "cats",
    "input": {"topic": "cats"},
    "startTime": START,
    "cache": {"prepare": {"value": ["outline", 0.5]}},
    "eventsTriggered": {},
    "blockedOnStep": None,
    "operation": {"name": ID, "done": False},
    "traceContext": TRACE,
    "executions": [{"startTime": START, "traceIds": ["7185323decb5ba6642ce57bf598483ef"]}],
}


@pytest.fixture
def native_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"layout": "native"})


async def test_the_fields_of_the_document_are_those_of_the_state(stored: Stored) -> None:
    """A native document has nothing that Genkit JS does not write."""
    document = await stored("native")

    assert same(SAVED) == same(document.root)


async def test_an_update_writes_native_fields(stored: Stored) -> None:
    """An update of a native document changes entries of its maps, whatever their names, and adds nothing of ours."""
    document = await stored("native-updated")

    expected = {
        **SAVED,
        "cache": {"a.b`c": {"value": {"now": 2}}, "finish": {"value": None}},
        "eventsTriggered": {"approval": {"approved": True}},
        "operation": {"name": ID, "done": True, "result": {"response": None}},
    }
    assert same(expected) == same(document.root)


async def test_unknown_keys_are_set_as_fields(stored: Stored) -> None:
    """A key that is set or taken out is a field of the document, and there is nothing beside it."""
    document = await stored("native-keys-updated")

    keys = {"first": "saved", "second": "set", "fourth": [4], "a.b`c": 1.0, "wakeAt": START}
    assert same({**SAVED, **keys}) == same(document.root)


async def test_an_update_names_each_step_as_it_is(native_settings: FlowStateSettings) -> None:
    """A field path has a way to write every character. Firestore reads a bare carriage return as a line feed."""
    odd = [chr(code) for code in (*range(0x180), 0x2028, 0x2029, 0xFEFF, 0xFFFF, 0x1F600)]
    names = [*odd, *(f"a{char}b" for char in odd), "\r\n", "\n\r", "\\r", "\\\r", "``", "\\`", "`\\"]
    async with FirestoreFlowStateStore(native_settings) as store:
        state = FlowState.start(flow_id=ID)
        await store.save(ID, state)
        version = state.version or ""
        for step in ("\r", "a\rb"):
            version = await store.update(ID, cache={step: CacheEntry(value="one")}, if_version=version)
        await store.update(ID, cache={name: CacheEntry(value=name) for name in names}, if_version=version)
        assert {name: name for name in names} == await values(store)

        await store.update(ID, remove=names[1:])
        assert {names[0]: names[0]} == await values(store)


async def values(store: FirestoreFlowStateStore) -> dict[str, Any]:
    loaded = await store.load(ID)
    assert loaded is not None
    return {step: entry.value for step, entry in loaded.cache.items()}


async def test_an_expiry_is_the_one_field_of_ours(stored: Stored) -> None:
    """A state that expires has expireAt. Unknown keys are fields as they are."""
    document = await stored("native-expiring")

    expire_at = document.root.pop("expireAt")
    expected = {
        **SAVED,
        "owner": "uid-1",
        "operation": {"name": ID, "done": True, "result": {"response": [1.0, 1]}},
    }
    assert same(expected) == same(document.root)
    assert isinstance(expire_at, Time)
    later = datetime.fromisoformat(str(expire_at.value).replace("Z", "+00:00")) - datetime.now(timezone.utc)
    assert FIFTY_YEARS - timedelta(minutes=1) < later <= FIFTY_YEARS


async def test_optional_nulls_are_left_out(native_settings: FlowStateSettings) -> None:
    """Genkit refuses null for a field that is optional. If a field may hold any value, null is a value and stays."""
    nulls = state(
        name=None,
        input=None,
        traceContext=None,
        blockedOnStep={"name": "approval", "schema": None},
        cache={"null": {"value": None}, "empty": {"empty": None}},
        eventsTriggered={"approval": None},
        executions=[{"startTime": None, "endTime": None, "traceIds": []}],
        operation={
            "name": ID,
            "metadata": None,
            "done": True,
            "result": {"response": None, "error": None, "stacktrace": None},
            "blockedOnStep": {"name": "approval", "schema": None},
        },
        owner=None,
    )
    document = await saved_natively(native_settings, nulls)

    expected = {
        "flowId": ID,
        "input": None,
        "startTime": START,
        "cache": {"null": {"value": None}, "empty": {}},
        "eventsTriggered": {"approval": None},
        "blockedOnStep": {"name": "approval"},
        "executions": [{"traceIds": []}],
        "operation": {
            "name": ID,
            "metadata": None,
            "done": True,
            "result": {"response": None},
            "blockedOnStep": {"name": "approval"},
        },
        "owner": None,
    }
    assert same(expected) == same(document)


async def test_objects_that_are_null_are_left_out(native_settings: FlowStateSettings) -> None:
    """An operation without result or blocked step has neither field. The flow's own blockedOnStep is always there."""
    nulls = state(operation={"name": ID, "result": None, "blockedOnStep": None})
    document = await saved_natively(native_settings, nulls)

    assert same(SAVED) == same(document)


@pytest.mark.parametrize("name", GOLDEN)
async def test_what_was_loaded_from_genkit_is_written_as_genkit_wrote_it(
    name: str, native_settings: FlowStateSettings
) -> None:
    """Loaded and saved natively a document of Genkit JS is the same, each value in its type."""
    written = GOLDEN[name]
    collection = RawCollection(native_settings)
    collection.write("by-genkit", written)
    async with FirestoreFlowStateStore(native_settings) as store:
        loaded = await store.load("by-genkit")
        assert loaded is not None
        await store.save("by-us", loaded)

    expected = fields(written)
    expected.setdefault("cache", {})  # Genkit JS leaves it out by mistake, and cannot read a document without it
    assert same(expected) == same(fields(collection.read("by-us")))


def nested(levels: int) -> Any:
    """Return a value of so many maps and arrays inside of each other, by turns."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


UNSTORABLE: dict[str, Any] = {
    "array in an array": [[1]],
    "empty name": {"": 1},
    "reserved name": {"__a__": 1},
    "name with a lone surrogate": {"\ud83d": 1},
    "lone surrogate": ["\ud83d"],
    "21 levels": nested(21),
    "integer of 65 bits": 2**63,
}


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_what_firestore_cannot_hold_is_refused(native_settings: FlowStateSettings, name: str) -> None:
    """A save and a partial write refuse it before anything is sent, with the path. The document stays as it is."""
    collection = RawCollection(native_settings)
    async with FirestoreFlowStateStore(native_settings) as store:
        await store.save(ID, state())
        before = collection.read(ID), collection.update_time(ID)
        with pytest.raises(FlowStateEncodeError, match="native layout") as of_save:
            await store.save(ID, state(input=UNSTORABLE[name]))
        with pytest.raises(FlowStateEncodeError, match="native layout") as of_update:
            await store.update(ID, cache={"step": CacheEntry(value=UNSTORABLE[name])})

    assert (of_save.value.path or "").startswith("input")
    assert (of_update.value.path or "").startswith('cache["step"]')
    assert before == (collection.read(ID), collection.update_time(ID))


async def test_twenty_levels_are_held(native_settings: FlowStateSettings) -> None:
    """The fields of Genkit's around a value count: the map of steps and that of the step, so that a step has 18."""
    deep = state(input=nested(20), cache={"step": {"value": nested(18)}}, eventsTriggered={"approval": nested(19)})
    async with FirestoreFlowStateStore(native_settings) as store:
        await store.save(ID, deep)
        assert exactly(deep) == exactly(await store.load(ID))
        await store.update(ID, cache={"step": CacheEntry(value=nested(17)), "other": CacheEntry(value=nested(18))})
        too_deep = {"input": nested(21), "cache": {"step": {"value": nested(19)}}, "eventsTriggered": {"a": nested(20)}}
        for field, value in too_deep.items():
            with pytest.raises(FlowStateEncodeError, match="more than 20 deep"):
                await store.save(ID, state(**{field: value}))
        with pytest.raises(FlowStateEncodeError, match="more than 20 deep"):
            await store.update(ID, cache={"step": CacheEntry(value=nested(19))})


async def saved_natively(settings: FlowStateSettings, saved: Any) -> dict[str, Any]:
    async with FirestoreFlowStateStore(settings) as store:
        await store.save(ID, saved)
    return fields(RawCollection(settings).read(ID))
