"""The tables of docs/scale.md: arithmetic with Firestore's documented limits, and a simulation of shards.

    python benchmarks/scale.py            # print the tables
    python benchmarks/scale.py --write    # put them into docs/scale.md

The same on every machine: seeded, and of the standard library alone. A test compares the tables with the page, and the
simulation of pages with what a store asks of the emulator.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zlib import crc32

PAGE: Final = Path(__file__).parents[1] / "docs" / "scale.md"

SEQUENTIAL_WRITES: Final = 500  # a second, to a collection with a sequential indexed field, or to one shard of it
PLANNED: Final = 0.8  # of that limit: what the busiest of many shards leaves
MOST_SHARDS: Final = 500  # of FlowStateSettings
RAMP_START: Final = 500  # operations a second, to begin with
RAMP_FACTOR: Final = 1.5  # 50% more
RAMP_MINUTES: Final = 5  # after each such number of minutes: Firestore's rule 500/50/5

DISPATCHES: Final = 500  # a second, of a queue of Cloud Tasks
WAKE_READS: Final = 1  # of a wake-up after which a run waits again or ends: the drive loads the run,
WAKE_WRITES: Final = 2  # it claims the run, and suspends or ends it. Each sets wakeAt
READ_PRICE: Final = 0.06 / 100_000  # dollars a read, in the multi-region nam5
WRITE_PRICE: Final = 0.18 / 100_000
TASK_PRICE: Final = 2 * 0.40 / 1_000_000  # dollars a task: its creation and its delivery are an operation each
DAY: Final = 86_400  # seconds

SHARDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 500)
WRITES_A_FLOW: Final = (2, 12, 102)  # a create and an end, with no, 10 and 100 steps between
FLOWS: Final = (100, 1_000, 10_000, 100_000)  # flows started a second
WAKES: Final = (10, 100, 400, 1_000, 10_000)  # runs woken a second
WAITING: Final = 1_000_000  # runs that wait for the same moment
QUEUES: Final = (1, 2, 3, 8, 25)
SECONDS: Final = 600  # for which queues are simulated
LIMITS: Final = (10, 50, 300)
USES: Final = (0.6, 0.8, 0.9, 1.0)
DRAWS: Final = 40_000  # writes that are thrown on shards, for each figure of `balance`
STATES: Final = 20_000  # flow states in the collection that pages are read of
PAGES: Final = 100  # pages that are read for each figure of `reads`
_SPREAD: Final = 2  # standard deviations, as in the store


@dataclass(frozen=True)
class Asked:
    """What a page of a list takes.

    Attributes:
        queries: How many queries it sends.
        documents: How many documents they return.
        billed: How many reads that is: a query without a result is one.
        rounds: How often it waits for queries, which it sends all at once.
    """

    queries: int
    documents: int
    billed: int
    rounds: int


def random_id(source: random.Random) -> str:
    """Return the id of a flow, as random as a UUID."""
    return f"{source.getrandbits(128):032x}"


def shard_of(id: str, shards: int) -> int:
    """Return the shard that a flow is written to."""
    return crc32(id.encode()) % shards


def share(count: int, shards: int) -> int:
    """Return how many documents each shard is asked for, to have the first so many of all of them."""
    if shards <= 1:
        return count
    average = count / shards
    return min(count, math.ceil(average + _SPREAD * math.sqrt(average)))


def read_page(by_shard: Sequence[Sequence[int]], start: int, limit: int) -> Asked:
    """Return what the store asks for a page.

    Args:
        by_shard: The places in the list of the flows in each shard, in order.
        start: The place that the page begins at.
        limit: How many flows it has. Whatever is left over tells that there is another page.
    """
    shards = range(len(by_shard))
    fetched = [bisect_left(places, start) for places in by_shard]  # the index up to which each shard was read
    ready: list[list[int]] = [[] for _ in by_shard]  # the states of each shard that were read and not taken yet
    ended = [False] * len(by_shard)
    queries = documents = billed = rounds = taken = 0

    def fetch(dry: Sequence[int], wanted: int) -> None:
        nonlocal queries, documents, billed, rounds
        for shard in dry:
            found = by_shard[shard][fetched[shard] : fetched[shard] + wanted]
            fetched[shard] += len(found)
            ready[shard] += found
            ended[shard] = len(found) < wanted
            queries, documents, billed = queries + 1, documents + len(found), billed + max(1, len(found))
        # The first query of several is alone: the others are answered as of its time.
        rounds += 2 if queries == len(dry) > 1 else 1

    while (missing := limit - taken) > 0:
        dry = [shard for shard in shards if not ready[shard] and not ended[shard]]
        if dry:  # and with them the shards that run dry before the page is full
            before_last = sorted(place for places in ready for place in places)[: missing - 1]
            if missing > 1:
                last = before_last[-1] if len(before_last) == missing - 1 else math.inf
                dry += [shard for shard in shards if ready[shard] and not ended[shard] and ready[shard][-1] < last]
            fetch(dry, share(missing + 1, len(by_shard)))
        heads = [(places[0], shard) for shard, places in enumerate(ready) if places]
        if not heads:
            break
        ready[min(heads)[1]].pop(0)
        taken += 1
    dry = [shard for shard in shards if not ended[shard]]
    if taken == limit and dry and not any(ready):
        fetch(dry, 1)
    return Asked(queries, documents, billed, rounds)


def capacity() -> list[list[str]]:
    """Return what so many shards carry."""
    rows = [["shards", "writes/s, at most", "planned", *(f"flows/s of {writes} writes" for writes in WRITES_A_FLOW)]]
    for shards in SHARDS:
        planned = PLANNED * SEQUENTIAL_WRITES * shards
        flows = [_number(planned / writes) for writes in WRITES_A_FLOW]
        rows.append([str(shards), _number(SEQUENTIAL_WRITES * shards), _number(planned), *flows])
    return rows


def balance() -> list[list[str]]:
    """Return how many writes a second the busiest shard has, if their average is a share of the limit."""
    rows = [["shards", *(f"average {_number(use * SEQUENTIAL_WRITES)}" for use in USES)]]
    for shards in SHARDS[1:]:
        row = [str(shards)]
        for use in USES:
            source = random.Random(f"balance {shards} {use}")
            writes = round(use * SEQUENTIAL_WRITES * shards)
            seconds = max(1, DRAWS // writes)
            busiest = [
                max(Counter(shard_of(random_id(source), shards) for _ in range(writes)).values())
                for _ in range(seconds)
            ]
            row.append(_number(sum(busiest) / seconds))
        rows.append(row)
    return rows


def reads() -> list[list[str]]:
    """Return the documents that a page reads, and the rounds of queries that it waits for."""
    source = random.Random("reads")
    ids = [random_id(source) for _ in range(STATES)]
    starts = [source.randrange(STATES - max(LIMITS) - 1) for _ in range(PAGES)]
    rows = [["shards", *(f"{what}, page of {limit}" for limit in LIMITS for what in ("reads", "rounds"))]]
    for shards in SHARDS:
        by_shard: list[list[int]] = [[] for _ in range(shards)]
        for place, id in enumerate(ids):
            by_shard[shard_of(id, shards)].append(place)
        row = [str(shards)]
        for limit in LIMITS:
            asked = [read_page(by_shard, start, limit) for start in starts]
            row.append(_number(sum(one.billed for one in asked) / PAGES))
            row.append(f"{sum(one.rounds for one in asked) / PAGES:.1f}")
        rows.append(row)
    return rows


def flows() -> list[list[str]]:
    """Return what so many flows a second take."""
    rows = [["flows/s", "writes each", "writes/s", "shards", "collections", "ramp, minutes"]]
    for rate in FLOWS:
        for each in WRITES_A_FLOW:
            writes = rate * each
            shards = math.ceil(writes / (PLANNED * SEQUENTIAL_WRITES))
            collections = math.ceil(shards / MOST_SHARDS)
            spread = f"{collections} of {math.ceil(shards / collections)}" if collections > 1 else str(shards)
            rows.append(
                [_number(rate), str(each), _number(writes), spread, str(collections), str(ramp_minutes(writes))]
            )
    return rows


def wakes() -> list[list[str]]:
    """Return what so many wake-ups a second take, and cost in a day."""
    rows = [["wake-ups/s", "queues", "reads/s", "commits/s", "shards", "Firestore, a day", "tasks, a day"]]
    for rate in WAKES:
        writes = rate * WAKE_WRITES
        queues = math.ceil(rate / (PLANNED * DISPATCHES))
        shards = math.ceil(writes / (PLANNED * SEQUENTIAL_WRITES))
        firestore = DAY * rate * (WAKE_READS * READ_PRICE + WAKE_WRITES * WRITE_PRICE)
        tasks = DAY * rate * TASK_PRICE
        figures = [_number(figure) for figure in (rate, queues, rate * WAKE_READS, writes, shards)]
        rows.append([*figures, f"${firestore:,.2f}", f"${tasks:,.2f}"])
    return rows


def queues() -> list[list[str]]:
    """Return how long tasks wait in queues that ids are spread over by a hash, at 1,000 wake-ups a second."""
    rows = [["queues", "busiest queue, tasks/s", "longest wait, seconds", f"{WAITING:,} at one moment, minutes"]]
    for count in QUEUES:
        source = random.Random(f"queues {count}")
        waiting, busiest, longest = [0] * count, 0, 0.0
        for _ in range(SECONDS):
            arrived = Counter(shard_of(random_id(source), count) for _ in range(1_000))
            busiest = max(busiest, *arrived.values())
            waiting = [max(0, waiting[queue] + arrived[queue] - DISPATCHES) for queue in range(count)]
            longest = max(longest, max(waiting) / DISPATCHES)
        drain = WAITING / count / DISPATCHES / 60
        wait = "grows" if count * DISPATCHES < 1_000 else f"{longest:.1f}"
        rows.append([str(count), _number(busiest), wait, f"{drain:.1f}"])
    return rows


def ramp_minutes(rate: int) -> int:
    """Return how long a new collection takes to so many operations a second by the rule 500/50/5."""
    minutes, allowed = 0, float(RAMP_START)
    while allowed < rate:
        allowed *= RAMP_FACTOR
        minutes += RAMP_MINUTES
    return minutes


TABLES: Final = {
    "capacity": capacity,
    "balance": balance,
    "reads": reads,
    "flows": flows,
    "wakes": wakes,
    "queues": queues,
}


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table, its figures to the right."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{'--:|' * len(rows[0])}", *body]) + "\n"


def with_tables(text: str) -> str:
    """Return the page with its tables as they are computed now, each between its markers."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(pattern, lambda match: f"{match[1]}{markdown(table())}{match[2]}", text, flags=re.DOTALL)  # noqa: B023  # called at once
        if found != 1:
            raise SystemExit(f"{PAGE.name} has {found} places for the table {name}")
    return text


def _number(figure: float) -> str:
    return f"{round(figure):,}" if figure >= 10 or figure == round(figure) else f"{figure:.1f}"


def main() -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description="The tables of docs/scale.md.")
    parser.add_argument("--write", action="store_true", help="put them into the page")
    if parser.parse_args().write:
        PAGE.write_text(with_tables(PAGE.read_text()))
        return
    for name, table in TABLES.items():
        print(f"{name}\n\n{markdown(table())}")


if __name__ == "__main__":
    main()
