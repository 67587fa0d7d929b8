"""Pages of a list: summaries, and whole documents, against Google's client with native maps.

    python benchmarks/listing.py

A page has 100 flow states, newest start first. The plain client asks for the same page as an app would without a
store, `order_by("startTime", DESCENDING).limit(100)`, and makes a dict of each document. One page is
asked for at a time. Bytes are what TCP carries both ways for one page, counted by a forwarder in a pass of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from emulators import fresh_emulator
from google.cloud.firestore import Query
from plain import Plain
from report import at_least, plotted, shown, table, title
from rounds import QUICK, Cost, Operation, Spread, cpu_ratio, number, several, take_turns, wall_ratio
from states import L, M, S, Size, wire_form
from wire import Wire

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings

PROJECT: Final = "demo-benchmarks"
PAGE: Final = several(100, quick=3)
ROUNDS: Final = {"S": several(11), "M": several(11), "L": several(5)}
SUMMARIES_AT_L: Final = 100  # the target: times less than the plain client
WHOLE_AT_M: Final = 7  # the target: times less than the plain client


def settings_for(host: str) -> FlowStateSettings:
    """Return the settings of our store behind a host."""
    return FlowStateSettings(project=PROJECT, collection="ours", emulator_host=host)


def pages(ours: FirestoreFlowStateStore, plain: Plain) -> dict[str, Operation]:
    """Return what asks for a page, by contender."""
    query = FlowStateQuery(limit=PAGE)
    newest = plain.collection.order_by("startTime", direction=Query.DESCENDING).limit(PAGE)

    async def summaries(_: int) -> object:
        page = (await ours.list_summaries(query)).summaries
        assert len(page) == PAGE
        return page

    async def whole(_: int) -> object:
        page = (await ours.list(query)).flow_states
        assert len(page) == PAGE
        return page

    async def plainly(_: int) -> object:
        page = [document.to_dict() async for document in newest.stream()]
        assert len(page) == PAGE
        return page

    return {"list_summaries": summaries, "list": whole, "plain": plainly}


async def measure(size: Size) -> tuple[dict[str, list[Cost]], dict[str, int]]:
    """Return the costs of pages, and the bytes of one, by contender."""
    wire_forms = [wire_form(size, number) for number in range(PAGE)]
    emulator = await fresh_emulator()
    with emulator:
        plain = Plain(emulator.host, project=PROJECT, collection="plain", states=wire_forms)
        async with FirestoreFlowStateStore(settings_for(emulator.host)) as ours:
            for index, form in enumerate(wire_forms):
                await plain.save(index)
                await ours.save(form["flowId"], FlowState.model_validate(form))
            costs = await take_turns(pages(ours, plain), rounds=ROUNDS[size.name], in_flight=1)
        await plain.close()
        sizes = await bytes_of_pages(emulator.host)
    return costs, sizes


async def bytes_of_pages(host: str) -> dict[str, int]:
    """Return the bytes of a page on the wire, by contender."""
    wire = Wire(host)
    plain = Plain(wire.host, project=PROJECT, collection="plain", states=[])
    sizes = {}
    async with FirestoreFlowStateStore(settings_for(wire.host)) as ours:
        await ours.load("nothing")  # the connections and their headers
        await plain.collection.document("nothing").get()
        for name, ask in pages(ours, plain).items():
            before = wire.both
            await ask(0)
            sizes[name] = wire.both - before
    await plain.close()
    wire.close()
    return sizes


def report(size: Size, costs: Mapping[str, Sequence[Cost]], sizes: Mapping[str, int]) -> None:
    """Print what pages cost and how they compare."""
    rows = [
        [
            f"{PAGE} {size.name}, {name}",
            number(Spread.of([cost.wall * 1e3 for cost in own]).median),
            number(Spread.of([cost.cpu * 1e3 for cost in own]).median),
            f"{sizes[name]:,}",
        ]
        for name, own in costs.items()
    ]
    table(rows, head=["a page", "ms", "CPU ms", "bytes"])
    plain = costs["plain"]
    for name in ("list_summaries", "list"):
        limit = {("list_summaries", "L"): SUMMARIES_AT_L, ("list", "M"): WHOLE_AT_M}.get((name, size.name))
        for unit, ratio in (("time", wall_ratio(plain, costs[name])), ("CPU", cpu_ratio(plain, costs[name]))):
            what = f"{name} of {PAGE} {size.name}, times less {unit} than whole documents by the plain client"
            if limit is None:
                shown(what, ratio)
            else:
                at_least(what, ratio, limit)
        shown(f"{name} of {PAGE} {size.name}, times fewer bytes", sizes["plain"] / sizes[name])


def main() -> None:
    """Measure."""
    title("Pages of a list, one at a time: median (quartiles) of paired rounds")
    times: dict[str, list[float]] = {}
    sizes = (S, M) if QUICK else (S, M, L)
    for size in sizes:
        costs, wire = asyncio.run(measure(size))
        report(size, costs, wire)
        for name, own in costs.items():
            times.setdefault(name, []).append(Spread.of([cost.wall * 1e3 for cost in own]).median)
    for name, label in (("plain", "plain client"), ("list", "list"), ("list_summaries", "list_summaries")):
        for size, time in zip(sizes, times[name], strict=True):
            shown(f"a page of {PAGE} {size.name}, ms, {label}", time)
        plotted(
            "pages", label, ticks=[f"{size.name}: {size.steps} steps\nof {size.step_bytes:,} bytes" for size in sizes],
            y=times[name], x_label="states", y_label="ms", title=f"Time of a page of {PAGE} states, ms",
        )  # fmt: skip


if __name__ == "__main__":
    main()
