from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateNotFoundError,
    FlowStateSettings,
)
from firestore_flowstate._operations.deleting import part_names
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate._operations.repacking import compact

from .interleaving import Schedule, gated

ID = "flow"
Model = dict[str, Any] | None
"""The steps of a flow state; None if there is none."""


def large(mark: str) -> dict[str, Any]:
    """Steps that need three parts in three commits, if a request has 256 KiB."""
    return {f"{mark}-{i}": mark * 230_000 for i in range(3)} | {"mark": mark}


def state_of(steps: dict[str, Any]) -> FlowState:
    state = FlowState.start(name="flow", flow_id=ID)
    state.start_time = 1
    state.cache = {step: CacheEntry(value=value) for step, value in steps.items()}
    return state


def steps_of(state: FlowState | None) -> Model:
    return None if state is None else {step: entry.value for step, entry in state.cache.items()}


@dataclass(frozen=True)
class Operation:
    """An operation, and what it does to a model."""

    name: str
    do: Callable[[FirestoreFlowStateStore, FlowState], Awaitable[Any]]
    to: Callable[[Model], Model]


async def _save_large(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await store.save(ID, state_of(large("a")))


async def _save_other_large(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await store.save(ID, state_of(large("b")))


async def _save_small(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await store.save(ID, state_of({"small": 1}))


async def _replace_version(store: FirestoreFlowStateStore, loaded: FlowState) -> None:
    await store.save(ID, state_of(large("v")), if_version=loaded.version)


async def _shrink_version(store: FirestoreFlowStateStore, loaded: FlowState) -> None:
    await store.save(ID, state_of({"shrunk": 1}), if_version=loaded.version)


async def _update(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await store.update(ID, cache={"u": CacheEntry(value=1)})


async def _update_large(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await store.update(ID, cache={"l": CacheEntry(value="l" * 100_000)})


async def _delete(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await store.delete(ID)


async def _gc(store: FirestoreFlowStateStore, _: FlowState) -> None:
    await collect((await store._begin())[0], dry_run=False, min_age=timedelta(0))


async def _compact(store: FirestoreFlowStateStore, _: FlowState) -> None:
    collection, deadline = await store._begin()
    await compact(collection, ID, deadline)


async def _load(store: FirestoreFlowStateStore, _: FlowState) -> Model:
    return steps_of(await store.load(ID))


def _put(**steps: Any) -> Callable[[Model], Model]:
    return lambda model: None if model is None else {**model, **steps}


def _same(model: Model) -> Model:
    return model


OPERATIONS = [
    Operation("save large", _save_large, lambda _: large("a")),
    Operation("save other large", _save_other_large, lambda _: large("b")),
    Operation("save small", _save_small, lambda _: {"small": 1}),
    Operation("replace version", _replace_version, lambda _: large("v")),
    Operation("shrink version", _shrink_version, lambda _: {"shrunk": 1}),
    Operation("update", _update, _put(u=1)),
    Operation("update large", _update_large, _put(l="l" * 100_000)),
    Operation("delete", _delete, lambda _: None),
    Operation("gc", _gc, _same),
    Operation("compact", _compact, _same),
    Operation("load", _load, _same),
]
PAIRS = list(itertools.combinations_with_replacement(OPERATIONS, 2))
ALL_SCHEDULES = [
    [0] * 9,
    [1] * 9,
    [0, 1] * 5,
    [1, 0] * 5,
    [0, 0, 1] * 3,
    [1, 1, 0] * 3,
    [0, 1, 1] * 3,
    [0, 0, 0, 1] * 3,
]

PER_PAIR = 8 if os.environ.get("FLOWSTATE_THOROUGH") else 2
"""How many schedules each pair is run with; `make torture` sets FLOWSTATE_THOROUGH, which runs all."""


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"max_request_bytes": 256 * 1024, "compress_over": 10**9})


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0].name} and {pair[1].name}")
async def test_whatever_the_order_of_calls(
    flow_state_store: FirestoreFlowStateStore, monkeypatch: pytest.MonkeyPatch, pair: tuple[Operation, Operation]
) -> None:
    """Two operations end as if one had come after the other, and leave no part that nothing refers to."""
    monkeypatch.setattr("firestore_flowstate._document.stored_values.PART_BYTES", 200_000)
    store = flow_state_store
    turned = PAIRS.index(pair) % len(ALL_SCHEDULES)
    for choices in (ALL_SCHEDULES[turned:] + ALL_SCHEDULES[:turned])[:PER_PAIR]:
        await store.delete(ID)
        first = large("0")
        await store.save(ID, state_of(first))
        await store.update(ID, cache={"first update": CacheEntry(value=0)})
        loaded = await store.load(ID)
        assert loaded is not None
        before: Model = {**first, "first update": 0}
        schedule = Schedule(choices)
        stores = [gated(store, schedule, actor) for actor in (0, 1)]

        results = await schedule.run(*(one.do(stores[actor], loaded) for actor, one in enumerate(pair)))

        done = []
        for operation, result in zip(pair, results, strict=True):
            if isinstance(result, BaseException):
                assert isinstance(result, (FlowStateConflictError, FlowStateNotFoundError)), (schedule.trace, result)
            else:
                done.append(operation)
        ends = [_after(before, order) for order in itertools.permutations(done)]
        after = steps_of(await store.load(ID))
        assert after in ends, schedule.trace
        for operation, result in zip(pair, results, strict=True):
            if operation.name == "load":
                assert result in [before, *ends, None], schedule.trace
        await _assert_no_orphans(store, schedule)


def _after(model: Model, operations: tuple[Operation, ...]) -> Model:
    for operation in operations:
        model = operation.to(model)
    return model


async def _assert_no_orphans(store: FirestoreFlowStateStore, schedule: Schedule) -> None:
    """After gc every part is one that the root names, and the root counts at least as many."""
    collection, _ = await store._begin()
    await collect(collection, dry_run=False, min_age=timedelta(0))
    document = await collection.get(ID, collection.deadline())
    root = None if document is None else document.root
    named = {name for ref in root.refs for name in ref.part_names()} if root is not None else set()
    assert named == set(await part_names(collection, ID, collection.deadline())), schedule.trace
    assert root is None or root.part_count >= len(named)
