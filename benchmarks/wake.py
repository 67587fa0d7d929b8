"""How fast workers wake runs that are all due at the same moment, and how often they get in each other's way.

    python benchmarks/wake.py

1,000 runs sleep until one moment. Four processes with a worker each, as `flowstate worker` is, look for what is due, as
they always do: nobody tells them. A run then does one step and ends. Its wake delay is from the moment to the step.
A claim is lost if another process claimed the run between the load and the claim. A load is in vain if the run was
driven by another already. All processes and the emulator share the machine, so that runs a second are the machine's.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from emulators import fresh_emulator
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from report import at_most, machine, shown, title
from rounds import several

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings, FlowStateSummary
from firestore_flowstate.flows import Flows, Run

RUNS: Final = several(1_000, quick=12)
PROCESSES: Final = several(4, quick=2)
SETUP: Final = timedelta(seconds=several(60, quick=7))
LOST_PERCENT: Final = 5  # the target: of all claims


class Counted(FirestoreFlowStateStore):
    """Counts the calls that workers make, and what `due` reads."""

    def __init__(self, settings: FlowStateSettings) -> None:
        super().__init__(settings)
        self.calls = Counter[str]()

    async def load(self, id: str, **options: Any) -> FlowState | None:
        """Count, and load."""
        self.calls["loads"] += 1
        return await super().load(id, **options)

    async def update(self, id: str, **changes: Any) -> str:
        """Count, and update."""
        self.calls["writes"] += 1
        return await super().update(id, **changes)

    async def due(self, *arguments: Any, **options: Any) -> Sequence[FlowStateSummary]:
        """Count, and ask."""
        found = await super().due(*arguments, **options)
        self.calls["looks"] += 1
        self.calls["read by looks"] += max(1, len(found))
        return found


class Nowhere:
    """Has nothing driven."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Wake nobody."""

    async def close(self) -> None:
        """Nothing is held."""


def napping(flows: Flows) -> Any:
    """Add the flow: it sleeps until a moment, and tells when it woke."""

    @flows.flow
    async def nap(run: Run, until: datetime) -> float:
        await run.sleep("nap", until=until)
        return await run.step("woken", time.time)

    return nap


def work(settings: FlowStateSettings, pipe: Any) -> None:
    """Drive what is due until told to end. Then tell what was counted."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))

    async def drive() -> Counter[str]:
        store = Counted(settings)
        async with store, Flows(store) as flows:
            napping(flows)
            await store.due(limit=1)
            store.calls.clear()
            async with flows.worker():
                pipe.send("ready")
                await asyncio.to_thread(pipe.recv)
            return store.calls

    pipe.send((asyncio.run(drive()), lost_claims(reader)))


def lost_claims(reader: InMemoryMetricReader) -> int:
    """Return how many claims were lost to others, as the metric of the flows has it."""
    data = reader.get_metrics_data()
    if data is None:
        return 0
    scopes: Any = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    counters: Any = [metric for scope in scopes for metric in scope.metrics if metric.name == "flowstate.claims.lost"]
    return sum(int(point.value) for counter in counters for point in counter.data.data_points)


class TooBusyError(Exception):
    """This machine was not ready for the moment in time."""


async def put_to_sleep(store: FirestoreFlowStateStore, until: datetime) -> None:
    """Have all runs sleep until one moment.

    Raises:
        TooBusyError: It has come already.
    """
    flows = Flows(store, dispatcher=Nowhere())
    nap = napping(flows)
    free = asyncio.Semaphore(32)

    async def sleep(number: int) -> None:
        async with free:
            await flows.start(nap, until, id=f"run-{number}")
            if await flows.drive(f"run-{number}") != "waiting":
                raise TooBusyError  # it would not be woken with the others

    await asyncio.gather(*(sleep(number) for number in range(RUNS)))


async def ready(pipes: Sequence[Any], until: datetime) -> None:
    """Await that all processes look for what is due.

    Raises:
        TooBusyError: The moment has come already.
    """
    for pipe in pipes:
        await asyncio.to_thread(pipe.recv)
    if datetime.now(timezone.utc) >= until:
        raise TooBusyError


async def wake(settings: FlowStateSettings, setup: timedelta) -> tuple[list[float], list[tuple[Counter[str], int]]]:
    """Have all runs woken; return their delays in seconds, in order, and what each process has counted.

    Raises:
        TooBusyError: The time for the setup was too short.
    """
    context = multiprocessing.get_context("spawn")
    pipes: list[Any] = []
    processes: list[Any] = []
    until = datetime.now(timezone.utc) + setup
    async with FirestoreFlowStateStore(settings) as store:
        await put_to_sleep(store, until)
        try:
            for _ in range(PROCESSES):
                here, there = context.Pipe()
                processes.append(context.Process(target=work, args=(settings, there)))
                processes[-1].start()
                pipes.append(here)
            await ready(pipes, until)
            while await store.count(FlowStateQuery(status="done")) < RUNS:  # noqa: ASYNC110  # others write it
                await asyncio.sleep(0.5)
            for pipe in pipes:
                pipe.send("end")
            told = [await asyncio.to_thread(pipe.recv) for pipe in pipes]
        except BaseException:
            for process in processes:
                process.kill()  # it would wait for ever to be told to end
            raise
        finally:
            for process in processes:
                process.join()
        woken = [state.operation.result.response async for state in store.iterate() if state.operation.result]
    return sorted(moment - until.timestamp() for moment in woken), told


async def measure() -> None:
    """Measure and print."""
    emulator = await fresh_emulator()
    with emulator:
        for longer in (1, 4, 16):
            collection = f"wake-{longer}"
            settings = FlowStateSettings(project="demo-benchmarks", collection=collection, emulator_host=emulator.host)
            try:
                delays, told = await wake(settings, SETUP * longer)
            except TooBusyError:
                continue
            print_figures(delays, told)
            return
    raise SystemExit("This machine is too busy.")


def print_figures(delays: Sequence[float], told: Sequence[tuple[Counter[str], int]]) -> None:
    """Print the figures of all processes together."""
    calls = sum((calls for calls, _ in told), Counter[str]())
    lost = sum(lost for _, lost in told)
    shown("runs woken a second", RUNS / delays[-1])
    shown("wake delay p50, seconds", delays[len(delays) // 2])
    shown("wake delay p99, seconds", delays[int(len(delays) * 0.99)])
    at_most("claims lost to others, percent", 100 * lost / (RUNS + lost), LOST_PERCENT)
    shown("loads in vain, percent", 100 * (calls["loads"] - lost - RUNS) / RUNS)
    shown("reads by looks, for each run", calls["read by looks"] / RUNS)


def main() -> None:
    """Measure."""
    title(f"{RUNS:,} runs woken at once by {PROCESSES} processes")
    asyncio.run(measure())
    print()
    print(machine())


if __name__ == "__main__":
    main()
