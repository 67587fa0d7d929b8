"""What each call bills in document reads, writes and deletes: docs/costs.md says so, and here it is counted."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate.backup import export_states, import_states
from firestore_flowstate.doctor import examine
from tests.support.meter import COSTS, Bill, Meter, meter, metered, written_bills

__all__ = ["meter", "metered"]  # fixtures

STEP: Final = {"step": CacheEntry(value=1)}
IDS: Final = [f"flow-{place:02}" for place in range(30)]
Store = FirestoreFlowStateStore
Call = Callable[[Store, Meter], Awaitable[object]]


def a_state(*, step: int | None = None, value: object = None) -> FlowState:
    state = FlowState.start(name="draft", input=value)
    if step is not None:
        state.start_time = step
    return state


def incompressible(size: int) -> str:
    return base64.b85encode(random.Random(0).randbytes(size * 4 // 5)).decode()


async def _version(store: Store, id: str = "flow-00") -> str:
    state = await store.load(id)
    assert state is not None
    assert state.version is not None
    return state.version


async def _edit(store: Store, _: Meter) -> None:
    async with store.edit("flow-00") as state:
        state.cache.update(STEP)


async def _due(store: Store, meter: Meter) -> None:
    for id in IDS[:2]:
        await store.update(id, extra={"wakeAt": 1})
    meter.take()
    await store.due()


async def _iterate(store: Store, _: Meter) -> None:
    assert 30 == len([state async for state in store.iterate(FlowStateQuery(limit=10))])


async def _export(store: Store, _: Meter) -> None:
    assert 30 == len([line async for line in export_states(store)])


async def _import(store: Store, meter: Meter) -> None:
    lines = [line async for line in export_states(store)]
    meter.take()
    await import_states(store, lines)


async def _examine(store: Store, _: Meter) -> None:
    assert [] == [finding async for finding in examine(store)]


async def _examine_with_keys(store: Store, meter: Meter) -> None:
    settings = {**store.settings.model_dump(), "keys": {"one": base64.b64encode(b"k" * 32).decode()}}
    async with Store(FlowStateSettings(**settings)) as with_keys:
        await _examine(with_keys, meter)


async def _migrate_to_native(store: Store, _: Meter) -> None:
    async with Store(store.settings.model_copy(update={"layout": "native"})) as native:
        assert 30 == (await store.migrate(native)).migrated


async def _migrate_away(store: Store, _: Meter) -> None:
    async with Store(store.settings.model_copy(update={"collection": "moved"})) as there:
        assert 30 == (await store.migrate(there)).migrated


async def _migrate_away_again(store: Store, meter: Meter) -> None:
    await _migrate_away(store, meter)
    meter.take()
    async with Store(store.settings.model_copy(update={"collection": "moved"})) as there:
        assert 30 == (await store.migrate(there)).unchanged


async def _save_on_a_version(store: Store, meter: Meter) -> None:
    version = await _version(store)
    meter.take()
    await store.save("flow-00", a_state(), if_version=version)


async def _update_on_a_version(store: Store, meter: Meter) -> None:
    version = await _version(store)
    meter.take()
    await store.update("flow-00", cache=STEP, if_version=version)


async def _delete_on_a_version(store: Store, meter: Meter) -> None:
    version = await _version(store)
    meter.take()
    await store.delete("flow-00", if_version=version)


async def _hundred_steps(store: Store, meter: Meter) -> None:
    version = await _version(store)
    meter.take()
    for step in range(100):
        version = await store.update(
            "flow-00", cache={f"step-{step}": CacheEntry(value="x" * 2000)}, if_version=version
        )


async def _flow_of_ten_steps(store: Store, _: Meter) -> None:
    state = a_state()
    await store.create("new", state)
    version = state.version or ""
    for step in range(10):
        version = await store.update("new", cache={f"step-{step}": CacheEntry(value=step)}, if_version=version)
    await store.update("new", operation=state.operation.model_copy(update={"done": True}), if_version=version)


async def _save_large(store: Store, _: Meter) -> None:
    await store.save("large", a_state(value=incompressible(3_200_000)))


async def _save_large_again(store: Store, meter: Meter) -> None:
    await _save_large(store, meter)
    meter.take()
    await _save_large(store, meter)


async def _save_many_large_again(store: Store, meter: Meter) -> None:
    await _save_large(store, meter)
    meter.take()
    await store.save_many({"large": a_state(value=incompressible(3_200_000))})


async def _load_large(store: Store, meter: Meter) -> None:
    await _save_large(store, meter)
    meter.take()
    await store.load("large")


async def _update_large(store: Store, meter: Meter) -> None:
    await _save_large(store, meter)
    version = await _version(store, "large")
    meter.take()
    await store.update("large", operation=Operation(name="x"), if_version=version)


async def _update_large_as_told(store: Store, meter: Meter) -> None:
    await _save_large(store, meter)
    version = "".join([*await _version(store, "large")])
    meter.take()
    await store.update("large", operation=Operation(name="x"), if_version=version)


async def _delete_large(store: Store, meter: Meter) -> None:
    await _save_large(store, meter)
    meter.take()
    await store.delete("large")


CALLS: Final[dict[str, Call]] = {
    "`create`, `save`": lambda store, _: store.create("new", a_state()),
    "`save` with `if_version`": _save_on_a_version,
    "`update` with `if_version`": _update_on_a_version,
    "`update`": lambda store, _: store.update("flow-00", cache=STEP),
    "`edit`": _edit,
    "`modify`": lambda store, _: store.modify("flow-00", lambda state: state.cache.update(STEP)),
    "`modify` or `edit` that changes nothing": lambda store, _: store.modify("flow-00", lambda state: None),
    "`load`": lambda store, _: store.load("flow-00"),
    "`load` of what is not there": lambda store, _: store.load("missing"),
    "`delete`": lambda store, _: store.delete("flow-00"),
    "`delete` with `if_version`": _delete_on_a_version,
    "`list`, `list_summaries` of 10 among more": lambda store, _: store.list(FlowStateQuery(limit=10)),
    "the same by `status`": lambda store, _: store.list_summaries(FlowStateQuery(limit=10, status="scheduled")),
    "a list that finds nothing": lambda store, _: store.list(FlowStateQuery(name="other")),
    "`count` of up to 1,000": lambda store, _: store.count(),
    "`count` by `status`": lambda store, _: store.count(FlowStateQuery(status="scheduled")),
    "`due` that finds 2": _due,
    "`due` that finds none": lambda store, _: store.due(),
    "`iterate` over 30": _iterate,
    "`save_many` of 30": lambda store, _: store.save_many({id: a_state() for id in IDS}),
    "`load_many` of 30": lambda store, _: store.load_many(IDS),
    "`delete_many` of 30": lambda store, _: store.delete_many(IDS),
    "100 steps of 2 KB, each an `update` with `if_version`": _hundred_steps,
    "a flow of 10 steps that keeps its version": _flow_of_ten_steps,
    "`save` of a state in 3 parts": _save_large,
    "the same in place of as many": _save_large_again,
    "`save_many` of a state in 3 parts in place of as many": _save_many_large_again,
    "`load` of a state in 3 parts": _load_large,
    "`update` of its `operation` with the `if_version` of that load": _update_large,
    "the same with a copy of that text, such as a browser sends back": _update_large_as_told,
    "`delete` of a state in 3 parts": _delete_large,
    "`export` of 30": _export,
    "`import` of 30": _import,
    "`purge` of 30": lambda store, _: store.purge(older_than=timedelta(0)),
    "`migrate` of 30 that are as they should be": lambda store, _: store.migrate(store),
    "`migrate` of 30 to another layout": _migrate_to_native,
    "`migrate` of 30 to another collection": _migrate_away,
    "the same once more": _migrate_away_again,
    "`rewrap` of 30 that are as they should be": lambda store, _: store.rewrap(),
    "`gc` if no state has parts": lambda store, _: store.gc(),
    "`doctor` over 30": _examine,
    "the same with keys, if no parts are left over": _examine_with_keys,
    "`ping`": lambda store, _: store.ping(),
}


@pytest.fixture
async def full(metered: Store, meter: Meter) -> Store:
    """A store with 30 flow states, whose calls are metered."""
    await metered.save_many({id: a_state(step=place) for place, id in enumerate(IDS)})
    meter.take()
    return metered


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_bills_what_the_page_says(full: Store, meter: Meter, name: str) -> None:
    """The figures are exactly those. An empty cell stands for nothing billed."""
    await CALLS[name](full, meter)

    assert written_bills("calls")[name] == meter.take()


async def test_a_copy_that_writes_nothing_bills_its_reads(full: Store, meter: Meter) -> None:
    """A dry run and a second run look each state up in the other collection, as the copy did."""
    async with Store(full.settings.model_copy(update={"collection": "moved"})) as there:
        await full.migrate(there, dry_run=True)
        dry = meter.take()
        await full.migrate(there)
        meter.take()
        await full.migrate(there)

    assert [Bill(reads=60)] * 2 == [dry, meter.take()]


@pytest.mark.parametrize("name", ["`create`, `save`", "`load`", "`update`", "`delete`", "`count` of up to 1,000"])
async def test_what_goes_by_id_costs_the_same_over_shards(full: Store, meter: Meter, name: str) -> None:
    """It bills what the page says, whose rows are of one shard. A count bills at least a read for each shard."""
    async with Store(full.settings.model_copy(update={"shards": 8})) as sharded:
        await sharded.save_many({id: a_state() for id in IDS})
        meter.take()
        await CALLS[name](sharded, meter)

    assert (Bill(reads=8) if "count" in name else written_bills("calls")[name]) == meter.take()


def test_the_page_has_no_other_rows() -> None:
    """Each row of the table is counted by the test above."""
    assert list(CALLS) == list(written_bills("calls"))


@pytest.mark.parametrize(
    ("heading", "flow", "extra"),
    [
        ("durable flows a month", "all of a run of 10 steps that waits for an answer after the fifth", Bill(reads=1)),
        ("flows a month by `update`", "a flow of 10 steps that keeps its version", Bill(reads=2)),
    ],
)
def test_the_worked_bill_is_right(heading: str, flow: str, extra: Bill) -> None:
    """It is prices times what a flow of ten steps is billed as metered, the reads beside that, and its delete."""
    text = " ".join(COSTS.read_text().split("\n"))
    prices = {kind: float(price) for kind, price in re.findall(r"(reads|writes|deletes) at \$([\d.]+)", text)}
    metered = re.search(rf"\| {re.escape(flow)} \| ?(\d*) ?\| ?(\d*) ?\|", text)
    assert metered is not None
    bill = Bill(int(metered[1] or 0) + extra.reads, int(metered[2]))
    month = COSTS.read_text().partition(f"| {heading} | reads | writes | deletes | |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| \$([\d,.]+) \|$", month, re.MULTILINE)
    for row in rows:
        flows, reads, writes, deletes = (int(cell.replace(",", "")) for cell in row[:4])
        cost = (reads * prices["reads"] + writes * prices["writes"] + deletes * prices["deletes"]) / 100_000

        assert (bill.reads * flows, bill.writes * flows, flows) == (reads, writes, deletes)
        assert f"{cost:,.2f}" == row[4]
    assert ["1,000", "1,000,000"] == [row[0] for row in rows]


def test_other_sums_are_right_and_prices_have_a_date_and_a_source() -> None:
    """They are the sweep of each minute, and the read that a version saves for each step."""
    text = " ".join(COSTS.read_text().split())

    assert "[pricing page][pricing], as of 2025" in text
    assert f"the sweep: {30 * 24 * 60:,} looks a month of 30 days" in text
    assert f"each at least one read, ${43_200 * 0.06 / 100_000:.2f}" in text
    assert f"10 million of them for a million flows, which would cost ${10_000_000 * 0.06 / 100_000:.2f}" in text
