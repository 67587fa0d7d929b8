"""Steps of durable flows beside bare updates, the floor, and DBOS."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from dbos_process import DbosProcess
from emulators import fresh_emulator
from floor import Floor
from report import at_most, plotted, shown, table
from rounds import Cost, Spread, cpu_ratio, several, wall_ratio
from states import S, flow_state, step_value, wire_form

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.telemetry import Telemetry

PROJECT: Final = "demo-benchmarks"
COLLECTION: Final = "flows"
STEPS: Final = several(20, quick=2)
"""How many steps of a run are measured. The run has those of size S besides."""
AT_ONCE: Final = several(16, quick=2)  # runs of a contender
ROUNDS: Final = several(31)
ROUNDS_OF_ONE: Final = several(15)
VALUES: Final = [step_value(S.step_bytes, 0, index) for index in range(S.steps + STEPS)]
SETTLED_SECONDS: Final = 0.05
"""How long a run waits before a meeting, so that its last result is stored by then."""
TIMES_UPDATE: Final = 1.5  # the target: a durable step, times a bare update
TIMES_SILENT: Final = 1.05  # the target: a durable step, times one without any telemetry


class Meeting:
    """A point at which all runs of a round wait for each other, so that between two such points they do steps alone."""

    def __init__(self, parties: int, *, tidy: bool = False) -> None:
        self._left = parties
        self._tidy = tidy
        self._complete = asyncio.Event()
        self.at = (0.0, 0.0)

    async def join(self) -> None:
        """Wait for the others. Note the time at which the last one came."""
        await asyncio.sleep(SETTLED_SECONDS)
        self._left -= 1
        if not self._left:
            if self._tidy:  # so that garbage from before is not collected while steps are measured
                gc.collect()
            self.at = time.process_time(), time.perf_counter()
            self._complete.set()
        await self._complete.wait()


def between(first: Meeting, last: Meeting, steps: int) -> Cost:
    """Return the mean cost of the steps between two meetings, without the wait before the second."""
    return Cost((last.at[0] - first.at[0]) / steps, (last.at[1] - first.at[1] - SETTLED_SECONDS) / steps)


async def give(index: int) -> Any:
    """Return a result of a step."""
    return VALUES[index]


class Steps:
    """The contenders: each does the same steps, of so many runs at once."""

    def __init__(self, store: FirestoreFlowStateStore, host: str) -> None:
        self.store = store
        self.floor = Floor(
            host, project=PROJECT, collection=COLLECTION, states=[wire_form(S, number) for number in range(AT_ONCE)]
        )
        self._flows = {"durable step": Flows(store), "without telemetry": Flows(store)}
        self._flows["without telemetry"]._engine.telemetry = Telemetry()
        self._meetings: tuple[Meeting, Meeting]
        self._declared = {name: self._declare(flows) for name, flows in self._flows.items()}
        self._round = 0

    def _declare(self, flows: Flows) -> Any:
        @flows.flow
        async def steps(run: Run) -> None:
            for index in range(S.steps):
                await run.step(f"step-{index}", give, index)
            await self._meetings[0].join()
            for index in range(S.steps, S.steps + STEPS):
                await run.step(f"step-{index}", give, index)
            await self._meetings[1].join()

        return steps

    async def run(self, name: str, at_once: int) -> Cost:
        """Return the mean cost of a step of a contender."""
        self._round += 1
        self._meetings = Meeting(at_once, tidy=True), Meeting(at_once)
        if name == "floor":
            work: Callable[[int], Awaitable[None]] = self._floor
        elif name == "bare update":
            work = self._update
        else:
            work = lambda _: self._flows[name].run(self._declared[name])  # noqa: E731  # it closes over the name
        await asyncio.gather(*(work(number) for number in range(at_once)))
        return between(*self._meetings, STEPS * at_once)

    async def _floor(self, number: int) -> None:
        await self._meetings[0].join()
        for _ in range(STEPS):
            await self.floor.save(number)  # a document of its own, as the others have
        await self._meetings[1].join()

    async def _update(self, number: int) -> None:
        id, state = f"bare-{self._round}-{number}", flow_state(S)
        await self.store.save(id, state)
        version = state.version
        assert version is not None
        await self._meetings[0].join()
        for index in range(S.steps, S.steps + STEPS):
            entry = CacheEntry(value=VALUES[index])
            version = await self.store.update(id, cache={f"step-{index}": entry}, if_version=version)
        await self._meetings[1].join()

    async def close(self) -> None:
        """Close what is not the store."""
        for flows in self._flows.values():
            await flows.close()
        await self.floor.close()


async def measure_steps(others: Mapping[str, DbosProcess]) -> None:
    """Measure steps of many runs at once, and of one beside DBOS."""
    emulator = await fresh_emulator()
    with emulator:
        settings = FlowStateSettings(project=PROJECT, collection=COLLECTION, emulator_host=emulator.host)
        async with FirestoreFlowStateStore(settings) as store:
            steps = Steps(store, emulator.host)
            ours = ["floor", "bare update", "durable step", "without telemetry"]
            together = await in_turn({name: lambda name=name: steps.run(name, AT_ONCE) for name in ours}, ROUNDS)  # type: ignore[misc]
            alone = await in_turn(
                {name: lambda name=name: steps.run(name, 1) for name in ours[:3]}
                | {name: lambda one=one: asyncio.to_thread(one.steps) for name, one in others.items()},
                ROUNDS_OF_ONE,
            )
            await steps.close()
    report_steps(together, alone)


async def in_turn(contenders: Mapping[str, Callable[[], Awaitable[Cost]]], rounds: int) -> dict[str, list[Cost]]:
    """Return the costs of each contender, one a round, after one that does not count."""
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    order = list(contenders)
    for round in range(rounds + 1):
        for name in order:
            cost = await contenders[name]()
            if round:
                costs[name].append(cost)
        order.append(order.pop(0))
    return costs


def report_steps(together: Mapping[str, Sequence[Cost]], alone: Mapping[str, Sequence[Cost]]) -> None:
    """Print what steps cost, and have it plotted."""
    rows = []
    for costs, how in ((together, f"{AT_ONCE} runs at once"), (alone, "one run")):
        for name, own in costs.items():
            cpu, wall = (Spread.of([getattr(cost, kind) * 1e3 for cost in own]) for kind in ("cpu", "wall"))
            rows.append((f"{name}, {how}", f"{cpu.median:.3f}", f"{wall.median:.3f}"))
    table(rows, head=["", "CPU ms", "time ms"])
    step, update = together["durable step"], together["bare update"]
    at_most(
        f"a durable step S, times a bare update, CPU, {AT_ONCE} runs at once", cpu_ratio(step, update), TIMES_UPDATE
    )
    shown("a durable step S, times the floor, CPU", cpu_ratio(step, together["floor"]))
    at_most(
        "a durable step S, times one without any telemetry, CPU",
        cpu_ratio(step, together["without telemetry"]),
        TIMES_SILENT,
    )
    for name in [name for name in alone if name.startswith("DBOS")]:
        shown(f"a step of {name}, times a durable step S, CPU", cpu_ratio(alone[name], alone["durable step"]))
        shown(f"a step of {name}, times a durable step S, time", wall_ratio(alone[name], alone["durable step"]))
    for kind, label in (("cpu", "client CPU"), ("wall", "time")):
        medians = [Spread.of([getattr(cost, kind) * 1e6 for cost in own]).median for own in alone.values()]
        plotted(
            "flow-step", label, y=medians, ticks=list(alone), x_label="one run, one step after the other",
            y_label="microseconds a step", title="A durable step of 100 bytes",
        )  # fmt: skip
