"""What a step costs in a flow that saves each of its steps: the thousandth beside the tenth.

    python benchmarks/steps.py

One flow after the other writes 1,000 steps of 2 KB, each by `update(id, cache={step: entry}, if_version=version)`,
and outgrows the 1 MiB of a document at about the five hundredth. Every hundred steps or so the writer compacts the log:
it reads the document and writes its steps back as one compressed segment, in a part of its own once there are enough.
So a step is reported twice: as most steps are, by the median, and with its share of compaction, by the mean over whole
hundreds. Processor time is that of this process. Bytes are what TCP carries both ways, counted by a forwarder that
stands between the store and the emulator. That walk is not timed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from emulators import fresh_emulator
from plain import Plain
from report import at_least, at_most, plotted, shown, table, title
from rounds import Spread, cpu_ratio, number, several, take_turns, wall_ratio
from states import Size, step_value, wire_form
from wire import Wire

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._document.version import Version

PROJECT: Final = "demo-benchmarks"
COLLECTION: Final = "flows"
EMPTY: Final = Size("steps", 0, 2_000)
STEPS: Final = several(1_000, quick=100)
FULL_SAVES: Final = several(300, quick=10)
HUNDRED: Final = 100
ROUNDS: Final = several(7)
LOAD_ROUNDS: Final = several(15)
EARLY: Final = slice(0, 20)
LATE: Final = slice(-20, None)
TIMES_STEP: Final = 1.3  # the target: the thousandth step, times the tenth
TIMES_FULL_SAVES: Final = 30  # the target: bytes, times less than with full saves
TIMES_LOAD: Final = 1.5  # the target: a load of many segments, times that of one


@dataclass
class Walk:
    """What the steps of one flow cost, in their order.

    Attributes:
        cpu: Milliseconds of processor time of each.
        sent: Bytes to the emulator.
        received: Bytes from the emulator.
        weights: The weight of the log in the root after each.
        parts: How many parts there are after each.
    """

    cpu: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    received: list[float] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)

    @property
    def wire(self) -> list[float]:
        """Bytes in both directions."""
        return [sent + received for sent, received in zip(self.sent, self.received, strict=True)]

    def before_compactions(self) -> list[int]:
        """Return after how many steps the log was fullest, each time: one step later it was compacted."""
        return [count for count in range(1, len(self.weights)) if self.weights[count] < self.weights[count - 1]]


def settings_for(host: str, **changes: Any) -> FlowStateSettings:
    """Return the settings of a store behind a host."""
    return FlowStateSettings(project=PROJECT, collection=COLLECTION, emulator_host=host, **changes)


async def walk(store: FirestoreFlowStateStore, id: str, steps: int, wire: Wire | None = None) -> Walk:
    """Write so many steps of a flow that is new, and return what they cost."""
    state = FlowState.model_validate(wire_form(EMPTY))
    await store.save(id, state)
    version = state.version
    assert version is not None
    path = f"{COLLECTION}/{id}"
    walked = Walk()
    gc.collect()
    for index in range(steps):
        entry = CacheEntry(value=step_value(EMPTY.step_bytes, 0, index))
        before = (wire.sent, wire.received) if wire is not None else (0, 0)
        began = time.process_time()
        version = await store.update(id, cache={f"step-{index}": entry}, if_version=version)
        walked.cpu.append((time.process_time() - began) * 1e3)
        if wire is not None:
            walked.sent.append(wire.sent - before[0])
            walked.received.append(wire.received - before[1])
        now = Version.from_text(version, path)
        assert now is not None
        walked.weights.append(now.weight)
        walked.parts.append(now.part_count)
    return walked


async def bytes_of_full_saves(host: str, save: Callable[[str], Any], wire: Wire) -> int:
    """Return the bytes of a flow that saves its whole state after each step."""
    before = wire.both
    await save(host)
    return wire.both - before


async def save_whole(host: str, **changes: Any) -> None:
    """Save the whole state after each step, with our store."""
    async with FirestoreFlowStateStore(settings_for(host, **changes)) as store:
        state = FlowState.model_validate(wire_form(EMPTY))
        for index in range(FULL_SAVES):
            state.cache[f"step-{index}"] = CacheEntry(value=step_value(EMPTY.step_bytes, 0, index))
            await store.save("whole", state)


async def save_whole_plainly(wire: Wire) -> Walk:
    """Save the whole state after each step, with Google's client, and return what that costs."""
    form = wire_form(EMPTY)
    plain = Plain(wire.host, project=PROJECT, collection=COLLECTION, states=[form])
    walked = Walk()
    for index in range(FULL_SAVES):
        form["cache"][f"step-{index}"] = {"value": step_value(EMPTY.step_bytes, 0, index)}
        before, began = (wire.sent, wire.received), time.process_time()
        await plain.save(0)
        walked.cpu.append((time.process_time() - began) * 1e3)
        walked.sent.append(wire.sent - before[0])
        walked.received.append(wire.received - before[1])
    await plain.close()
    return walked


async def measure_steps() -> Walk:
    """Measure the steps, print what they cost, and return the walk whose bytes were counted."""
    emulator = await fresh_emulator()
    with emulator:
        async with FirestoreFlowStateStore(settings_for(emulator.host)) as store:
            await walk(store, "first", several(HUNDRED))  # imports, and the emulator's own warming up
            walks = [await walk(store, f"flow-{round}", STEPS) for round in range(ROUNDS)]
        wire = Wire(emulator.host)
        async with FirestoreFlowStateStore(settings_for(wire.host)) as store:
            await store.load("first")  # the connection and its headers
            counted = await walk(store, "counted", STEPS, wire)
        plainly = await save_whole_plainly(wire)
        whole = {
            "the plain client's, native maps": int(sum(plainly.wire)),
            "ours, uncompressed": await bytes_of_full_saves(
                wire.host, lambda host: save_whole(host, compress_over=2**40), wire
            ),
            "ours": await bytes_of_full_saves(wire.host, save_whole, wire),
        }
        wire.close()
    report_steps(walks, counted)
    report_full_saves(counted, whole)
    plot_steps(plainly, counted, walks)
    return counted


def report_steps(walks: list[Walk], counted: Walk) -> None:
    """Print what steps cost by hundreds, and the late ones beside the early."""
    rows = []
    for first in range(0, STEPS, HUNDRED):
        part = slice(first, first + HUNDRED)
        rows.append(
            (
                f"{first + 1:,} to {first + HUNDRED:,}",
                number(statistics.median(statistics.median(one.cpu[part]) for one in walks)),
                number(statistics.median(statistics.mean(one.cpu[part]) for one in walks)),
                f"{statistics.median(counted.wire[part]):,.0f}",
                f"{statistics.mean(counted.wire[part]):,.0f}",
                counted.parts[part][-1],
            )
        )
    table(rows, head=["steps", "CPU ms, median", "with compactions", "bytes, median", "with compactions", "parts"])
    late_cpu = Spread.of([statistics.median(one.cpu[LATE]) / statistics.median(one.cpu[EARLY]) for one in walks])
    at_most("client CPU of a step about the 1,000th, times the 10th", late_cpu, TIMES_STEP)
    late_wire = statistics.median(counted.wire[LATE]) / statistics.median(counted.wire[EARLY])
    at_most("bytes on the wire of a step about the 1,000th, times the 10th", late_wire, TIMES_STEP)
    hundreds = slice(0, HUNDRED), slice(STEPS - HUNDRED, STEPS)
    cpu = [statistics.mean(one.cpu[hundreds[1]]) / statistics.mean(one.cpu[hundreds[0]]) for one in walks]
    at_most("with compactions, CPU of the last hundred steps, times the first hundred", Spread.of(cpu), TIMES_STEP)
    wire = statistics.mean(counted.wire[hundreds[1]]) / statistics.mean(counted.wire[hundreds[0]])
    at_most("with compactions, bytes of the last hundred steps, times the first hundred", wire, TIMES_STEP)


def report_full_saves(counted: Walk, whole: dict[str, int]) -> None:
    """Print the bytes of the first steps beside those of saving the whole state after each."""
    steps = sum(counted.wire[:FULL_SAVES])
    print(f"\n{FULL_SAVES} steps: {steps / 1e6:.2f} MB on the wire, compactions included. Full saves after each:")
    for name, size in whole.items():
        what = f"full saves ({name}) of {FULL_SAVES} steps, {size / 1e6:.1f} MB, times the bytes of updates"
        if name == "ours":  # it is the text that is compared. How far it can be compressed is another matter
            shown(what, size / steps)
        else:
            at_least(what, size / steps, TIMES_FULL_SAVES)


def plot_steps(plainly: Walk, counted: Walk, walks: list[Walk]) -> None:
    """Show what a flow of so many steps costs altogether, and have it plotted."""
    ours_cpu = [statistics.median(one.cpu[index] for one in walks) for index in range(FULL_SAVES)]
    contenders = {
        "plain client": ([size / 1e6 for size in plainly.wire], [ms / 1e3 for ms in plainly.cpu]),
        "update": ([size / 1e6 for size in counted.wire[:FULL_SAVES]], [ms / 1e3 for ms in ours_cpu]),
    }
    for kind, plot, unit in ((0, "bytes", "MB on the wire"), (1, "cpu", "seconds of client CPU")):
        for label, costs in contenders.items():
            sums = list(itertools.accumulate(costs[kind]))
            for steps in (10, 100, 300):
                if steps <= len(sums):
                    shown(f"a flow of {steps} steps, {unit}, {label}", sums[steps - 1])
            plotted(
                f"steps-{plot}", label, x=list(range(len(sums) + 1)), y=[0.0, *sums], x_label="steps of 2 KB",
                y_label=unit, title=f"A flow that saves each of its steps: {unit}",
            )  # fmt: skip


async def measure_loads(counted: Walk) -> None:
    """Measure loads of states in many segments, just before they are compacted, beside the same states in one.

    The one segment is measured twice: compressed, as a save leaves it, and with the same text as the many. The second
    tells what the number of segments does to the time: the emulator, on the same two cores, spends time on bytes too.
    """
    compactions = counted.before_compactions() or [STEPS]
    emulator = await fresh_emulator()
    with emulator:
        async with (
            FirestoreFlowStateStore(settings_for(emulator.host)) as store,
            FirestoreFlowStateStore(settings_for(emulator.host, compress_over=2**40)) as uncompressed,
        ):
            for steps in dict.fromkeys((compactions[0], compactions[-1])):
                await walk(store, "many", steps)
                state = await store.load("many")
                assert state is not None
                assert len(state.cache) == steps
                await store.save("one", state)
                await uncompressed.save("text", state)
                ids = ("many", "one", "text")
                costs = await take_turns({one: lambda _, one=one: store.load(one) for one in ids}, rounds=LOAD_ROUNDS)  # type: ignore[misc]
                where = f"load of {steps:,} steps just before a compaction, times one segment"
                at_most(f"{where}, CPU", cpu_ratio(costs["many"], costs["one"]), TIMES_LOAD)
                at_most(f"{where} of the same text, time", wall_ratio(costs["many"], costs["text"]), TIMES_LOAD)
                shown(f"{where}, compressed, time", wall_ratio(costs["many"], costs["one"]))


def main() -> None:
    """Measure."""
    title(f"Steps of 2 KB, written one by one: median (quartiles) of {ROUNDS} flows")
    counted = asyncio.run(measure_steps())
    print()
    asyncio.run(measure_loads(counted))


if __name__ == "__main__":
    main()
