"""Many flow states at once: save_many, load_many and delete_many beside one call after another.

    python benchmarks/bulk.py

States of size S. `plain` is Google's client with native maps, one document after the other, as a loop with `await` in
it does. `one by one` is our store used in that way. All figures are for one state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from emulators import fresh_emulator
from plain import Plain
from report import at_least, shown, table, title
from rounds import Cost, Operation, Spread, cpu_ratio, mean_cost, number, several, wall_ratio
from states import S, wire_form

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings

PROJECT: Final = "demo-benchmarks"
MANY: Final = several(500, quick=3)
ONE_BY_ONE: Final = several(50, quick=3)
ROUNDS: Final = several(21)
WARM_UP: Final = several(3, quick=0)
SAVE_MANY: Final = 12  # the target: times less than the plain client

CONTENDERS: Final = {"plain": ONE_BY_ONE, "one by one": ONE_BY_ONE, "together": MANY}
"""How many states each of them handles in a round."""


def one_after_another(work: Callable[[int], Awaitable[object]]) -> Operation:
    """Return an operation that does the work for some states, one after the other."""

    async def each(_: int) -> None:
        for index in range(ONE_BY_ONE):
            await work(index)

    return each


def operations(ours: FirestoreFlowStateStore, plain: Plain) -> dict[str, dict[str, Operation]]:
    """Return what is measured and by whom. What is saved is loaded afterwards, and then deleted."""
    alone = {f"alone-{number}": FlowState.model_validate(wire_form(S, number)) for number in range(ONE_BY_ONE)}
    together = {f"together-{number}": FlowState.model_validate(wire_form(S, number)) for number in range(MANY)}
    ids = list(alone)
    return {
        "save": {
            "plain": one_after_another(plain.save),
            "one by one": one_after_another(lambda index: ours.save(ids[index], alone[ids[index]])),
            "together": lambda _: ours.save_many(together),
        },
        "load": {
            "plain": one_after_another(plain.load),
            "one by one": one_after_another(lambda index: ours.load(ids[index])),
            "together": lambda _: ours.load_many(together),
        },
        "delete": {
            "plain": one_after_another(plain.delete),
            "one by one": one_after_another(lambda index: ours.delete(ids[index])),
            "together": lambda _: ours.delete_many(together),
        },
    }


async def measure() -> dict[str, dict[str, list[Cost]]]:
    """Return the costs of a state by operation and contender, one a round."""
    emulator = await fresh_emulator()
    with emulator:
        settings = FlowStateSettings(project=PROJECT, collection="ours", emulator_host=emulator.host)
        forms = [wire_form(S, number) for number in range(ONE_BY_ONE)]
        plain = Plain(emulator.host, project=PROJECT, collection="plain", states=forms)
        async with FirestoreFlowStateStore(settings) as ours:
            work = operations(ours, plain)
            costs: dict[str, dict[str, list[Cost]]] = {name: {who: [] for who in CONTENDERS} for name in work}
            order = list(CONTENDERS)
            for round in range(WARM_UP + ROUNDS):
                for name, by_whom in work.items():
                    for who in order:
                        cost = await mean_cost(by_whom[who], 0, 1, 1)
                        if round >= WARM_UP:
                            costs[name][who].append(Cost(cost.cpu / CONTENDERS[who], cost.wall / CONTENDERS[who]))
                order.append(order.pop(0))
        await plain.close()
    return costs


def report(costs: dict[str, dict[str, list[Cost]]]) -> None:
    """Print what a state costs and how they compare."""
    rows = [
        [
            f"{name}, {who}",
            number(Spread.of([cost.wall * 1e3 for cost in own]).median),
            number(Spread.of([cost.cpu * 1e3 for cost in own]).median),
            "1" if who == "plain" else wall_ratio(by_whom["plain"], own),
            "1" if who == "plain" else cpu_ratio(by_whom["plain"], own),
        ]
        for name, by_whom in costs.items()
        for who, own in by_whom.items()
    ]
    table(rows, head=["a state", "ms", "CPU ms", "times faster than plain", "times less CPU"])
    for name, by_whom in costs.items():
        ratio = wall_ratio(by_whom["plain"], by_whom["together"])
        what = f"{name}_many of {MANY} S, times faster than the plain client one by one"
        if name == "save":
            at_least(what, ratio, SAVE_MANY)
        else:
            shown(what, ratio)


def main() -> None:
    """Measure."""
    title("Many states at once: median (quartiles) of paired rounds")
    report(asyncio.run(measure()))


if __name__ == "__main__":
    main()
