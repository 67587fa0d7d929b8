"""Every form that the stored format has, each made by the public API: what the tests of the format write and read."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeAlias

from firestore_flowstate import (
    UNSET,
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateExecution,
    Operation,
)

ID = "flow-1"
START = 1795336740800  # milliseconds
TRACE = '{"traceId":"7185323decb5ba6642ce57bf598483ef","spanId":"c1513a11ae657812","traceFlags":1}'
KEYS = {"key-1": "MDEyMzQ1Njc4OWFiY2RlZg=="}
LONG_TEXT = "The cat sat on the mat. " * 300
TWO_PARTS = "x" * 1_050_000
ONE_PART = "y" * 70_000
FIFTY_YEARS = timedelta(days=50 * 365)


@dataclass(frozen=True)
class StoredForm:
    """The root document of a form and its parts, in the notation of the tests."""

    root: dict[str, Any]
    parts: dict[str, Any]


Stored: TypeAlias = Callable[[str], Awaitable[StoredForm]]


class Backwards:
    """A codec of an application's own."""

    name = "backwards"

    def encode(self, data: bytes, /) -> bytes:
        return data[::-1]

    def decode(self, data: bytes, /) -> bytes:
        return data[::-1]


Write = Callable[[FirestoreFlowStateStore], Awaitable[object]]


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form: how it is written under `ID`, and with which settings."""

    write: Write
    settings: Mapping[str, Any] = field(default_factory=dict)


def state(**changes: Any) -> FlowState:
    """Return a flow state that runs, with top-level fields changed. A value of ``...`` leaves one out."""
    wire = {
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
        **changes,
    }
    return FlowState.model_validate({name: value for name, value in wire.items() if value is not ...})


def _saved(**changes: Any) -> Write:
    return lambda store: store.save(ID, state(**changes))


async def _saved_over(store: FirestoreFlowStateStore) -> None:
    once = state()
    await store.save(ID, once)
    once.cache["finish"] = CacheEntry(value="cats")
    await store.save(ID, once, if_version=once.version)


async def _created_saved_over(store: FirestoreFlowStateStore) -> None:
    once = state()
    await store.create(ID, once)
    await store.save(ID, once, if_version=once.version)


async def _updated(store: FirestoreFlowStateStore) -> None:
    once = state()
    await store.save(ID, once)
    version = await store.update(
        ID, cache={"finish": CacheEntry(value=None)}, events_triggered={"approval": True}, if_version=once.version or ""
    )
    await store.update(ID, if_version=version)


async def _removed(store: FirestoreFlowStateStore) -> None:
    once = state(cache={"a": {"value": 1}, "b": {"value": 2}, "c": {"value": 3}})
    await store.save(ID, once)
    version = await store.update(ID, cache={"a": CacheEntry(value=4)}, remove=["a", "b"], if_version=once.version or "")
    await store.update(ID, cache={"c": CacheEntry(empty=True)}, if_version=version)


async def _replaced(store: FirestoreFlowStateStore) -> None:
    once = state(blockedOnStep={"name": "approval", "schema": "{}"})
    await store.save(ID, once)
    await store.update(
        ID,
        operation=Operation(name=ID, done=True, result=FlowResult(error="No cats\nat all", stacktrace="here")),
        blocked_on_step=None,
        executions=[FlowStateExecution(start_time=START, end_time=START + 1.5, trace_ids=[])],
        trace_context=None,
        if_version=once.version or "",
    )


async def _compacted(store: FirestoreFlowStateStore) -> None:
    """Write steps until the weight of the log calls for a compaction, and then one more."""
    once = state()
    await store.save(ID, once)
    version = once.version or ""
    for index in range(298):
        version = await store.update(
            ID,
            cache={f"step-{index % 3}": CacheEntry(value=index)},
            remove=["step-0"] if index % 100 == 99 else (),
            if_version=version,
        )
    await store.update(ID, cache={"last": CacheEntry(value=True)}, if_version=version)


async def _compacted_to_a_part(store: FirestoreFlowStateStore) -> None:
    once = state()
    await store.save(ID, once)
    version = once.version or ""
    for index in range(6):
        version = await store.update(ID, cache={f"step-{index}": CacheEntry(value="z" * 60_000)}, if_version=version)


async def _updated_with_a_part(store: FirestoreFlowStateStore) -> None:
    once = state()
    await store.save(ID, once)
    await store.update(ID, cache={"large": CacheEntry(value=ONE_PART)}, if_version=once.version or "")


async def _expiry_cleared(store: FirestoreFlowStateStore) -> None:
    once = state(operation={"name": ID, "done": True})
    await store.save(ID, once)
    await store.update(
        ID, operation=Operation(name=ID), blocked_on_step=BlockedOnStep(name="approval"), if_version=once.version or ""
    )


_HARD = {
    "nested": {"value": [[1, [2]], [[]]]},
    "__reserved__": {"value": -0.0},
    "": {"value": [math.nan, math.inf, -math.inf]},
    "a.b/c d`e": {"value": 2**70},
    "surrogate": {"value": "\ud83d"},
    "falsy": {"value": False},
    "nothing": {},
    "empty": {"empty": True},
    "null": {"value": None},
    "more": {"value": 0, "unknown": {"kept": [1.0]}},
}
_UNKNOWN = {
    "owner": "uid-1",
    "attempt": 3,
    "vip": True,
    "ratio": 1.5,
    "tags": ["a"],
    "status": "mine",
    "nothing": None,
    "__x__": 1,
}


async def _keys_updated(store: FirestoreFlowStateStore) -> None:
    once = state(first="saved", second={"saved": "as an object"}, third=3, fourth=[4])
    await store.save(ID, once)
    await store.update(
        ID, extra={"second": "set", "third": UNSET, "a.b`c": 1.0, "wakeAt": START}, if_version=once.version or ""
    )


SERIALIZED: dict[str, Form] = {
    "saved": Form(write=_saved()),
    "created": Form(write=lambda store: store.create(ID, state())),
    "saved-over-a-version": Form(write=_saved_over),
    "created-saved-over": Form(write=_created_saved_over),
    "least": Form(write=_saved(name=..., input=..., traceContext=..., cache={}, executions=[], startTime=0.5)),
    "nulls": Form(write=_saved(name=None, input=None, traceContext=None)),
    "unknown-keys": Form(write=_saved(**_UNKNOWN)),
    "hard-values": Form(write=_saved(cache=_HARD, eventsTriggered={"__e__": [[None]]})),
    "blocked": Form(write=_saved(blockedOnStep={"name": "approval", "schema": '{"type":"object"}'})),
    "done": Form(write=_saved(operation={"name": ID, "done": True, "result": {"response": False}})),
    "failed": Form(
        write=_saved(
            operation={"name": ID, "done": True, "result": {"error": "kaboom\nat all", "stacktrace": "s"}},
            executions=[{"startTime": START, "endTime": START + 7, "traceIds": []}],
        )
    ),
    "updated": Form(write=_updated),
    "removed": Form(write=_removed),
    "replaced": Form(write=_replaced),
    "compacted": Form(write=_compacted),
    "compacted-to-a-part": Form(write=_compacted_to_a_part, settings={"compress_over": 1_000_000}),
    "expiring": Form(write=_saved(operation={"name": ID, "done": True}), settings={"expire_after": FIFTY_YEARS}),
    "expiry-cleared": Form(write=_expiry_cleared, settings={"expire_after": FIFTY_YEARS}),
    "sharded": Form(write=_saved(), settings={"shards": 8}),
    "compressed": Form(write=_saved(input=LONG_TEXT, cache={"step": {"value": LONG_TEXT}})),
    "encrypted": Form(
        write=_saved(
            input=LONG_TEXT,
            eventsTriggered={"approval": True},
            secret=["s"],
            operation={"name": ID, "done": True, "result": {"error": "kaboom"}},
        ),
        settings={"keys": KEYS},
    ),
    "own-codec": Form(write=_saved(input=LONG_TEXT), settings={"codecs": (Backwards(),)}),
    "parts": Form(
        write=_saved(input=TWO_PARTS),
        settings={"compress_over": 2_000_000, "expire_after": FIFTY_YEARS, "expire_when": "always"},
    ),
    "updated-with-a-part": Form(write=_updated_with_a_part, settings={"compress_over": 1_000_000}),
    "keys-updated": Form(write=_keys_updated),
    "encrypted-part": Form(write=_updated_with_a_part, settings={"keys": KEYS, "compress_over": 1_000_000}),
}


async def _native_updated(store: FirestoreFlowStateStore) -> None:
    once = state(
        blockedOnStep={"name": "approval", "schema": "{}"}, cache={"a.b`c": {"value": 1}, "gone": {"value": 2}}
    )
    await store.save(ID, once)
    await store.update(
        ID,
        cache={"finish": CacheEntry(value=None), "a.b`c": CacheEntry(value={"now": 2})},
        remove=["gone"],
        events_triggered={"approval": {"approved": True}},
        blocked_on_step=None,
        operation=Operation(name=ID, done=True, result=FlowResult(response=None)),
        if_version=once.version or "",
    )


NATIVE: dict[str, Form] = {
    "native": Form(write=_saved(), settings={"layout": "native"}),
    "native-updated": Form(write=_native_updated, settings={"layout": "native"}),
    "native-keys-updated": Form(write=_keys_updated, settings={"layout": "native"}),
    "native-expiring": Form(
        write=_saved(operation={"name": ID, "done": True, "result": {"response": [1.0, 1]}}, owner="uid-1"),
        settings={"layout": "native", "expire_after": FIFTY_YEARS},
    ),
}

FORMS: dict[str, Form] = {**SERIALIZED, **NATIVE}
