"""What watching bills and sends: docs/costs.md says so, and here it is counted."""

from __future__ import annotations

import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate.testing.conformance.watching import close, soon
from tests.support.meter import Meter, meter, metered, written_bills

__all__ = ["meter", "metered"]  # fixtures

Store = FirestoreFlowStateStore
Change = Callable[[Store], Awaitable[object]]
MOST_AROUND: Final = 32
"""Bytes that a message of Listen has beside its document."""


def a_state(start: int, *, size: int = 0) -> FlowState:
    """Return a state whose input no compression makes small."""
    text = base64.b85encode(random.Random(start).randbytes(size * 4 // 5)).decode()
    state = FlowState.start(name="draft", input=text)
    state.start_time = start
    return state


def step(id: str, number: int = 0, value: object = 1) -> Change:
    return lambda store: store.update(id, cache={f"step-{number}": CacheEntry(value=value)})


def save(id: str, start: int, *, size: int = 0) -> Change:
    return lambda store: store.save(id, a_state(start, size=size))


def delete(id: str) -> Change:
    return lambda store: store.delete(id)


async def end(store: Store) -> None:
    async with store.edit("flow-29") as state:
        state.operation.done = True


TEN: Final = FlowStateQuery(limit=10)
SCHEDULED: Final = FlowStateQuery(limit=10, status="scheduled")
ROWS: Final[dict[str, tuple[str | FlowStateQuery, list[Change]]]] = {
    "`watch`, at first": ("flow-00", []),
    "`watch` of what is not there, at first": ("missing", []),
    "10 changes of a watched state": ("flow-00", [step("flow-00", number) for number in range(10)]),
    "the delete of a watched state": ("flow-00", [delete("flow-00")]),
    "`watch` of a state in 3 parts, at first": ("large", []),
    "10 steps of a watched state in 3 parts": ("large", [step("large", number) for number in range(10)]),
    "the save of a watched state in 3 new parts": ("large", [save("large", 1, size=3_200_000)]),
    "`watch_list` of 10 among more, at first": (TEN, []),
    "`watch_list` that finds nothing, at first": (FlowStateQuery(name="other"), []),
    "10 changes of states on a watched page": (TEN, [step(f"flow-{29 - number}") for number in range(10)]),
    "a new state on a watched page, which pushes one out": (TEN, [save("new", 99)]),
    "the delete of a state on a watched page, behind which one moves up": (TEN, [delete("flow-25")]),
    "`watch_list` by `status`, at first": (SCHEDULED, []),
    "a state that ends, on a watched page of those that go on": (SCHEDULED, [end]),
}


@pytest.fixture
async def other(flow_state_settings: FlowStateSettings) -> AsyncIterator[Store]:
    """A store with 30 flow states and a large one, whose calls are not metered."""
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        await store.save_many({f"flow-{place:02}": a_state(place) for place in range(30)})
        await store.save("large", a_state(-1, size=3_200_000))
        yield store


@pytest.mark.parametrize("row", ROWS)
async def test_a_watch_bills_what_the_page_says(metered: Store, other: Store, meter: Meter, row: str) -> None:
    """It bills so at first, and for the changes after that."""
    watched, changes = ROWS[row]
    watch: AsyncIterator[Any] = metered.watch(watched) if isinstance(watched, str) else metered.watch_list(watched)
    await soon(watch)
    for number, change in enumerate(changes):
        if number == 0:
            meter.take()
        await change(other)
        await soon(watch)
    bill = meter.take()
    await close(watch)

    assert written_bills("watches")[row] == bill


def test_the_page_has_no_other_rows() -> None:
    """Each row of the table is counted by the test above."""
    assert list(ROWS) == list(written_bills("watches"))


@pytest.mark.parametrize("size", [0, 100_000, 400_000])
async def test_a_change_sends_the_root_once(metered: Store, other: Store, meter: Meter, size: int) -> None:
    """It does so however small the change, since Firestore listens to no projection. The message is its document."""
    await other.save("flow", a_state(0, size=size))
    watch = metered.watch("flow")
    await soon(watch)
    meter.take()
    for number in range(3):
        await step("flow", number)(other)
        await soon(watch)
    sent = meter.sent
    await close(watch)

    assert 3 == len(sent)
    for message, document in sent:
        assert 0.75 * size < document < size + 2_000
        assert 0 < message - document <= MOST_AROUND


@pytest.mark.parametrize("watchers", [1, 3])
async def test_a_page_sends_its_roots(metered: Store, other: Store, meter: Meter, watchers: int) -> None:
    """Each watcher gets one for each state of the page. The emulator sends a page anew with each change on it."""
    watches = [metered.watch_list(TEN) for _ in range(watchers)]
    for watch in watches:
        await soon(watch)
    assert 10 * watchers == len(meter.sent)

    meter.take()
    await step("flow-25")(other)
    for watch in watches:
        await soon(watch)
    sent = len(meter.sent)
    for watch in watches:
        await close(watch)

    assert watchers == meter.take().reads
    assert 10 * watchers == sent
