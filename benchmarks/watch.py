"""How long a change takes to reach whoever watches the flow, and what it costs the client.

    python benchmarks/watch.py

100 flows are watched on one loop. Another process changes one after the other, so that its work is not counted: the
latency is from the moment before its update is sent to the yield, by one clock, and so includes the commit.
`told` leaves the commit out: from its reply to the yield, which comes before it if the server is quick.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from typing import Any

from emulators import fresh_emulator
from report import at_most, machine, shown, title
from rounds import Spread, several
from states import S, flow_state

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings

FLOWS = several(100, quick=3)
CHANGES = several(1_000, quick=6)
WARM_UP = several(100, quick=3)
MILLISECONDS = 10  # the target: from sending a change to its yield


def change(settings: FlowStateSettings, numbers: Any) -> None:
    """Change a flow for each number that comes, and tell when it was sent and answered."""

    async def write() -> None:
        async with FirestoreFlowStateStore(settings) as store:
            while (flow := await asyncio.to_thread(numbers.recv)) is not None:
                sent = time.monotonic()
                await store.update(f"id-{flow}", extra={"sent": sent})
                numbers.send((sent, time.monotonic()))

    asyncio.run(write())


async def measure() -> None:
    """Measure and print."""
    emulator = await fresh_emulator()
    with emulator:
        settings = FlowStateSettings(project="demo-benchmarks", emulator_host=emulator.host)
        here, there = multiprocessing.get_context("spawn").Pipe()
        writer = multiprocessing.get_context("spawn").Process(target=change, args=(settings, there))
        async with FirestoreFlowStateStore(settings) as store:
            await store.save_many({f"id-{flow}": flow_state(S) for flow in range(FLOWS)})
            came: asyncio.Queue[float] = asyncio.Queue()
            ready = asyncio.Semaphore(0)

            async def watch(flow: int) -> None:
                async for state in store.watch(f"id-{flow}"):
                    if state is not None and "sent" in (state.model_extra or {}):
                        came.put_nowait(time.monotonic())
                    else:
                        ready.release()

            watches = [asyncio.create_task(watch(flow)) for flow in range(FLOWS)]
            for _ in range(FLOWS):
                await ready.acquire()
            writer.start()
            whole, told, spent = [], [], 0.0
            for number in range(WARM_UP + CHANGES):
                here.send(number % FLOWS)
                busy = time.process_time()
                yielded = await came.get()
                busy = time.process_time() - busy
                sent, answered = await asyncio.to_thread(here.recv)
                if number >= WARM_UP:
                    whole.append((yielded - sent) * 1000)
                    told.append((yielded - answered) * 1000)
                    spent += busy
            here.send(None)
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await asyncio.to_thread(writer.join)
    print()
    at_most(f"{FLOWS} watched flows, milliseconds from sending a change to its yield", Spread.of(whole), MILLISECONDS)
    shown(f"{FLOWS} watched flows, the same at the 99th percentile", percentile(whole))
    shown(f"{FLOWS} watched flows, milliseconds from the reply of a change to its yield", Spread.of(told))
    shown(f"{FLOWS} watched flows, client CPU of a change in milliseconds", spent / CHANGES * 1000)


def percentile(figures: list[float], share: float = 0.99) -> float:
    """Return the figure that this share of the figures does not exceed."""
    return sorted(figures)[min(int(share * len(figures)), len(figures) - 1)]


def main() -> None:
    """Measure."""
    title("Watching: median (quartiles)")
    asyncio.run(measure())
    print()
    print(machine())


if __name__ == "__main__":
    main()
