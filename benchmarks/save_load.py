"""Client CPU of save and load, against the floor and against Google's client with native maps.

    python benchmarks/save_load.py [S] [M] [L]

`floor`, `compressing` and `plain` are what their modules say. `direct` is our store inside `async with store`,
`default` the same store without it, so each call hops to a background loop. `uncompressed` is `direct` with a
`compress_over` that nothing exceeds. Loads give whole states, every value decoded.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence

from emulators import fresh_emulator
from floor import CompressingFloor, Floor
from plain import Plain
from report import at_least, at_most, shown, table, title
from rounds import QUICK, Cost, Operation, Spread, cpu_ratio, several, take_turns
from states import SIZES, Size, wire_form

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings

PROJECT = "demo-benchmarks"
COLLECTION = "flows"
STATES = 16  # different ones of each size, so that no cache helps
ROUNDS = {"S": several(31), "M": several(31), "L": several(15)}
FLOOR_LIMITS = {"save": {"S": 1.6, "M": 2.1, "L": 4.0}, "load": {"S": 1.5, "M": 2.2, "L": 8.0}}
UNCOMPRESSED_LIMITS = {"L": 2.6}  # of a save, times the floor
COMPRESSING_LIMITS = {"L": 1.15}  # of a save, times the floor that compresses
PLAIN_LIMITS = {"S": 3.0, "M": 20.0, "L": 30.0}


class Ours:
    """Our store, saving and loading the same states."""

    def __init__(self, name: str, settings: FlowStateSettings, states: Sequence[FlowState]) -> None:
        self.store = FirestoreFlowStateStore(settings)
        self._ids = [f"{name}-{number}" for number in range(len(states))]
        self._states = states

    async def save(self, index: int) -> None:
        """Save one of the states."""
        number = index % len(self._ids)
        await self.store.save(self._ids[number], self._states[number])

    async def load(self, index: int) -> object:
        """Load one of the states that were saved."""
        return await self.store.load(self._ids[index % len(self._ids)])


async def measure(size: Size) -> dict[str, dict[str, list[Cost]]]:
    """Return the costs by operation and contender."""
    wire = [wire_form(size, number) for number in range(STATES)]
    states = [FlowState.model_validate(form) for form in wire]
    emulator = await fresh_emulator()
    with emulator:
        settings = FlowStateSettings(project=PROJECT, collection=COLLECTION, emulator_host=emulator.host)
        floor = Floor(emulator.host, project=PROJECT, collection=COLLECTION, states=wire)
        compressing = CompressingFloor(emulator.host, project=PROJECT, collection=COLLECTION, states=wire)
        plain = Plain(emulator.host, project=PROJECT, collection=COLLECTION, states=wire)
        direct = Ours("direct", settings, states)
        default = Ours("default", settings, states)
        large = Ours("large", settings.model_copy(update={"compress_over": 2**40}), states)
        async with direct.store, large.store:
            contenders: dict[str, Floor | CompressingFloor | Plain | Ours] = {
                "floor": floor,
                "compressing": compressing,
                "direct": direct,
                "default": default,
                "uncompressed": large,
                "plain": plain,
            }
            saves: Mapping[str, Operation] = {name: one.save for name, one in contenders.items()}
            loads: Mapping[str, Operation] = {name: one.load for name, one in contenders.items()}
            rounds = ROUNDS[size.name]
            costs = {"save": await take_turns(saves, rounds=rounds), "load": await take_turns(loads, rounds=rounds)}
        await default.store.close()
        await floor.close()
        await compressing.close()
        await plain.close()
    return costs


def report(size: Size, costs: Mapping[str, Mapping[str, Sequence[Cost]]]) -> None:
    """Print the costs and how they compare."""
    rows = []
    for operation, by_name in costs.items():
        for name, own in by_name.items():
            row: list[object] = [f"{operation} {size.name} {name}"]
            row.append(f"{Spread.of([cost.cpu * 1e3 for cost in own]).median:.3f}")
            row.append("1" if name == "floor" else cpu_ratio(own, by_name["floor"]))
            row.append("1" if name == "plain" else cpu_ratio(by_name["plain"], own))
            rows.append(row)
    table(rows, head=["", "CPU ms", "times the floor", "times less than plain"])
    for operation, by_name in costs.items():
        floor = cpu_ratio(by_name["direct"], by_name["floor"])
        at_most(f"{operation} {size.name}, times the floor", floor, FLOOR_LIMITS[operation][size.name])
        uncompressed = cpu_ratio(by_name["uncompressed"], by_name["floor"])
        _figure(f"{operation} {size.name} uncompressed, times the floor", uncompressed, UNCOMPRESSED_LIMITS, size)
        above = cpu_ratio(by_name["direct"], by_name["compressing"])
        _figure(f"{operation} {size.name}, times the floor that compresses", above, COMPRESSING_LIMITS, size)
    for operation, by_name in costs.items():
        what = f"{operation} {size.name}, times less than the plain client"
        less = cpu_ratio(by_name["plain"], by_name["direct"])
        if operation == "save":
            at_least(what, less, PLAIN_LIMITS[size.name])
        else:
            shown(what, less)


def _figure(what: str, figure: Spread, limits: Mapping[str, float], size: Size) -> None:
    """Print a figure, with its limit if it is a save of a size that has one."""
    if what.startswith("save") and size.name in limits:
        at_most(what, figure, limits[size.name])
    else:
        shown(what, figure)


def main() -> None:
    """Measure the sizes named on the command line, or all."""
    title("Client CPU of save and load, 16 calls in flight: median (quartiles) of paired rounds")
    for size in SIZES:
        if size.name in (sys.argv[1:] or ("S" if QUICK else "SML")):
            report(size, asyncio.run(measure(size)))


if __name__ == "__main__":
    main()
