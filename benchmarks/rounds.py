"""Paired rounds: contenders take turns within one run, and only ratios within a round are compared.

The machine may be shared and its clock may change: what slows one contender of a round slows the others too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

IN_FLIGHT: Final = 16
"""How many operations of a contender run at once, if a benchmark does not say otherwise."""

QUICK: Final = bool(os.environ.get("BENCHMARK_QUICK"))
"""Whether to measure next to nothing, to see whether the benchmarks still run."""

Operation: TypeAlias = Callable[[int], Awaitable[object]]
"""One operation; called with a number that goes up."""


@dataclass(frozen=True)
class Cost:
    """What an operation cost on average.

    Attributes:
        cpu: Seconds of processor time of this process, all its threads together. The server's are not in it.
        wall: Seconds until it ended, the others in flight at the same time.
    """

    cpu: float
    wall: float


def spent() -> Cost:
    """Return what has been spent so far, for `since`."""
    return Cost(time.process_time(), time.perf_counter())


def since(began: Cost) -> Cost:
    """Return what has been spent since then."""
    now = spent()
    return Cost(now.cpu - began.cpu, now.wall - began.wall)


@dataclass(frozen=True)
class Spread:
    """Figures of many rounds: the median, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Return the spread of the figures."""
        if len(figures) == 1:
            return cls(figures[0], figures[0], figures[0])
        low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


def several(count: int, *, quick: int = 1) -> int:
    """Return the count, or next to nothing if only that is to be done."""
    return quick if QUICK else count


async def take_turns(
    contenders: Mapping[str, Operation], *, rounds: int, seconds: float = 0.1, in_flight: int = IN_FLIGHT
) -> dict[str, list[Cost]]:
    """Return the costs of each contender, one a round. The order of contenders changes from round to round.

    Args:
        contenders: The operation of each contender, by its name.
        rounds: How many rounds.
        seconds: About how much processor time a contender has in a round.
        in_flight: How many operations of a contender run at once. So many it does in a round, however long they take.
    """
    done = dict.fromkeys(contenders, 0)
    counts = {}
    for name, operation in contenders.items():  # warm up, and find out how many take that long
        await mean_cost(operation, 0, in_flight, in_flight)
        cost = await mean_cost(operation, in_flight, in_flight, in_flight)
        done[name] = 2 * in_flight
        counts[name] = in_flight if QUICK else max(in_flight, round(seconds / cost.cpu))
    costs: dict[str, list[Cost]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            costs[name].append(await mean_cost(contenders[name], done[name], counts[name], in_flight))
            done[name] += counts[name]
        order.append(order.pop(0))
    return costs


async def mean_cost(operation: Operation, first: int, count: int, in_flight: int) -> Cost:
    """Return the mean cost of so many operations, with `in_flight` of them at a time."""

    async def worker(offset: int) -> None:
        for index in range(first + offset, first + count, in_flight):
            await operation(index)

    gc.collect()  # no contender pays for the garbage of another, and each pays for its own
    began = spent()
    await asyncio.gather(*(worker(offset) for offset in range(min(in_flight, count))))
    cost = since(began)
    return Cost(cost.cpu / count, cost.wall / count)


def cpu_ratio(costs: Sequence[Cost], to: Sequence[Cost]) -> Spread:
    """Return how many times as much processor time the one took as the other, round by round."""
    return Spread.of([one.cpu / other.cpu for one, other in zip(costs, to, strict=True)])


def wall_ratio(costs: Sequence[Cost], to: Sequence[Cost]) -> Spread:
    """Return how many times as long the one took as the other, round by round."""
    return Spread.of([one.wall / other.wall for one, other in zip(costs, to, strict=True)])


def number(figure: float) -> str:
    """Return a figure with as many digits as it deserves."""
    if figure >= 100:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}"
