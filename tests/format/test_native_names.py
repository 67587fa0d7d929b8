"""How long names may be in a native document: Firestore limits those down to each value together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateEncodeError,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate.testing import exactly

Fill = Callable[[FlowState, str], object]


def _key(state: FlowState, name: str) -> None:
    setattr(state, name, 1)


def _result(state: FlowState, name: str) -> None:
    state.operation.result = FlowResult(response={name: 1})


# The path above each name, with its dots, and the path below it.
PLACES: dict[str, tuple[Fill, int]] = {
    "unknown key": (_key, 0),
    "step": (lambda state, name: state.cache.update({name: CacheEntry(value=1)}), len("cache.") + len(".value")),
    "empty step": (lambda state, name: state.cache.update({name: CacheEntry(empty=True)}), len("cache..empty")),
    "event": (lambda state, name: state.events_triggered.update({name: 1}), len("eventsTriggered.")),
    "in a step": (lambda state, name: state.cache.update({"a": CacheEntry(value={name: 1})}), len("cache.a.value.")),
    "in an array": (lambda state, name: state.__setattr__("input", [{"b": [{name: 1}]}]), len("input.b.")),
    "response": (_result, len("operation.result.response.")),
}


@pytest.fixture
async def native(flow_state_settings: FlowStateSettings) -> Any:
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"})) as store:
        yield store


def names(size: int) -> Iterator[str]:
    """Yield names of so many bytes: plain, quoted, of several bytes a character."""
    yield "x" * size
    yield "`" * size
    yield "é" * (size // 2) + "x" * (size % 2)


@pytest.mark.parametrize("place", PLACES)
async def test_the_longest_name_that_firestore_takes_is_kept(native: FirestoreFlowStateStore, place: str) -> None:
    """One byte more is refused before anything is sent, with the path of the value."""
    fill, others = PLACES[place]
    for name in names(1500 - others):
        state = FlowState.start(flow_id="id")
        fill(state, name)
        await native.save("id", state)
        assert exactly(state) == exactly(await native.load("id"))
    for name in names(1501 - others):
        state = FlowState.start(flow_id="id")
        fill(state, name)
        with pytest.raises(FlowStateEncodeError, match="more than 1,500") as refusal:
            await native.save("id", state)
        assert refusal.value.path


@pytest.mark.parametrize("size", range(1475, 1502))
async def test_updates_refuse_what_they_cannot_write(native: FirestoreFlowStateStore, size: int) -> None:
    """A partial write names its field in a mask too. Whatever is refused is refused by us, with the path."""
    state = FlowState.start(flow_id="id")
    await native.save("id", state)
    refusals: list[FlowStateEncodeError] = []
    stored: dict[str, list[str]] = {"cache": [], "events": [], "operation": []}
    for name in names(size):
        updates: dict[str, dict[str, Any]] = {
            "cache": {"cache": {name: CacheEntry(value=1)}},
            "events": {"events_triggered": {name: 1}},
            "operation": {"operation": Operation(name="id", result=FlowResult(response={name: 1}))},
        }
        for what, update in updates.items():
            try:
                await native.update("id", **update)
            except FlowStateEncodeError as refusal:
                refusals.append(refusal)
            else:
                stored[what].append(name)
    loaded = await native.load("id")
    assert loaded is not None

    assert set(stored["cache"]) == loaded.cache.keys() == (set(names(size)) if size <= 1488 else set())
    assert set(stored["events"]) == loaded.events_triggered.keys() == (set(names(size)) if size <= 1483 else set())
    assert all(refusal.path and "bytes" in str(refusal) for refusal in refusals)
    assert bool(stored["operation"]) == (size <= 1474)


@pytest.mark.parametrize("step", ["", "__x__", "\ud800", *names(1495), *names(1600)], ids=lambda step: ascii(step)[:9])
async def test_a_step_that_cannot_be_there_is_passed_over(native: FirestoreFlowStateStore, step: str) -> None:
    """No native document has a step of such a name. What else the update names is written."""
    state = FlowState.start(flow_id="id")
    state.cache = {"a": CacheEntry(value=1), "b": CacheEntry(value=2)}
    await native.save("id", state)
    version = await native.update("id", remove=[step])
    await native.update("id", remove=["a", step], cache={"c": CacheEntry(value=3)}, if_version=version)
    loaded = await native.load("id")

    assert loaded is not None
    assert {"b": 2, "c": 3} == {name: entry.value for name, entry in loaded.cache.items()}


async def test_a_dry_run_of_migrate_says_so(
    native: FirestoreFlowStateStore, flow_state_settings: FlowStateSettings
) -> None:
    """A dry run calls migratable what a run migrates."""
    async with FirestoreFlowStateStore(flow_state_settings) as serialized:
        for size in (1488, 1489):
            state = FlowState.start(flow_id=str(size))
            state.cache["s" * size] = CacheEntry(value=1)
            await serialized.save(state.flow_id, state)
        for dry_run in (True, False):
            report = await serialized.migrate(native, dry_run=dry_run)

            assert (1, ["1489"]) == (report.migrated, list(report.failed))
            assert isinstance(report.failed["1489"], FlowStateEncodeError)
