"""What a call costs in addition if the store has no channel on the caller's loop, and hops to the background loop.

    python benchmarks/hop.py

`direct` is a store inside `async with store`, `default` the same without it, `blocking` the default behind
SyncFlowStateStore. They take turns call by call, one call at a time, so that each is as long on a busy machine as the
others. States are of size S.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping

from emulators import fresh_emulator
from report import at_most, machine, table, title
from rounds import Spread, cpu_ratio, several, take_turns
from states import S, flow_state

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings, SyncFlowStateStore

CALLS = several(1_500, quick=3)
WARM_UP = several(50, quick=1)
ROUNDS = several(15)
EXTRA_MICROSECONDS = 100  # the target is the larger of this and the share below
EXTRA_SHARE = 0.1  # of a direct call


async def one_by_one(contenders: Mapping[str, Callable[[], Awaitable[object]]]) -> dict[str, list[float]]:
    """Return the microseconds of each call, the contenders taking turns call by call."""
    took: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    for index in range(CALLS + WARM_UP):
        for name, call in contenders.items():
            started = time.perf_counter()
            await call()
            passed = time.perf_counter() - started
            if index >= WARM_UP:  # after the first connection and the first imports
                took[name].append(passed * 1e6)
    return took


def blocking(call: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """Return a call for `one_by_one` that blocks. It is made on a running loop, as if none were running."""

    async def blocked() -> object:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)  # otherwise the blocking store refuses to block the loop
        try:
            return call()
        finally:
            asyncio._set_running_loop(loop)

    return blocked


async def measure() -> None:
    """Measure and print."""
    emulator = await fresh_emulator()
    with emulator:
        settings = FlowStateSettings(project="demo-benchmarks", emulator_host=emulator.host)
        direct, default = FirestoreFlowStateStore(settings), FirestoreFlowStateStore(settings)
        wrapper = SyncFlowStateStore(FirestoreFlowStateStore(settings))
        state = flow_state(S)
        rows, extras = [], {}
        async with direct:
            for operation in ("save", "load"):
                arguments = ("id", state) if operation == "save" else ("id",)
                took = await one_by_one(
                    {
                        "direct": lambda: getattr(direct, operation)(*arguments),  # noqa: B023  # called in this turn
                        "default": lambda: getattr(default, operation)(*arguments),  # noqa: B023  # as above
                        "blocking": blocking(lambda: getattr(wrapper, operation)(*arguments)),  # noqa: B023  # as above
                    }
                )
                spreads = {name: Spread.of(figures) for name, figures in took.items()}
                for name, spread in spreads.items():
                    extra = spread.median - spreads["direct"].median
                    rows.append(
                        [
                            f"{operation} S {name}",
                            spread,
                            f"{extra:+.0f}",
                            f"{spread.median / spreads['direct'].median:.2f}",
                        ]
                    )
                extras[operation] = (spreads["default"].median - spreads["direct"].median, spreads["direct"].median)
            table(rows, head=["one call at a time", "microseconds", "more", "times"])
            costs = await take_turns(
                {"direct": lambda _: direct.load("id"), "default": lambda _: default.load("id")}, rounds=ROUNDS
            )
        await default.close()
        await asyncio.to_thread(wrapper.close)
    print(f"  16 calls in flight, client CPU, default to direct: {cpu_ratio(costs['default'], costs['direct'])}\n")
    for operation, (extra, direct_median) in extras.items():
        limit = max(EXTRA_MICROSECONDS, EXTRA_SHARE * direct_median)
        at_most(f"{operation} S, microseconds more per call on one long-lived loop", extra, limit)


def main() -> None:
    """Measure."""
    title("The hop to the background loop: median (quartiles)")
    asyncio.run(measure())
    print()
    print(machine())


if __name__ == "__main__":
    main()
