"""docs/scale.md says what its simulation computes, and the simulation asks what a store asks."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateQuery, FlowStateSettings
from firestore_flowstate._operations.streams import share
from tests.support.query_log import QueryLog, Rounds, query_log

__all__ = ["query_log"]  # a fixture

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scale() -> Iterator[ModuleType]:
    """The simulation."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import scale

        yield scale
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_the_page_has_the_tables_of_the_simulation(scale: ModuleType) -> None:
    """`python benchmarks/scale.py --write` changes nothing."""
    page = scale.PAGE.read_text()

    assert page == scale.with_tables(page)


def test_its_constants_are_those_of_the_store(scale: ModuleType) -> None:
    """They are the most shards that settings take, and what each of them is asked for."""
    assert FlowStateSettings(shards=scale.MOST_SHARDS).shards == scale.MOST_SHARDS
    with pytest.raises(ValueError, match="less than or equal to 500"):
        FlowStateSettings(shards=scale.MOST_SHARDS + 1)
    for shards in scale.SHARDS:
        assert [share(count, shards) for count in range(1, 302)] == [scale.share(n, shards) for n in range(1, 302)]


def test_a_wake_up_costs_what_is_metered(scale: ModuleType) -> None:
    """It costs what the row of docs/costs.md says, which tests/flows/test_bills.py meters."""
    costs = (scale.PAGE.parent / "costs.md").read_text()

    assert f"| the drive after that, to the end | {scale.WAKE_READS} | {scale.WAKE_WRITES} |" in costs


@pytest.mark.parametrize(("shards", "limit"), [(1, 10), (8, 10), (8, 50), (100, 50)])
async def test_a_store_reads_what_the_simulation_reads(
    scale: ModuleType, flow_state_settings: FlowStateSettings, query_log: QueryLog, shards: int, limit: int
) -> None:
    """Documents, queries and rounds of queries are the same, page by page to the last."""
    source = random.Random(7)
    ids = [scale.random_id(source) for _ in range(230)]
    by_shard: list[list[int]] = [[] for _ in range(shards)]
    for place, id in enumerate(ids):
        by_shard[scale.shard_of(id, shards)].append(place)
    settings = flow_state_settings.model_copy(update={"shards": shards})
    seen: list[tuple[int, int, int]] = []
    expected = []
    async with FirestoreFlowStateStore(settings) as store:
        await store.save_many({id: started(id, -place) for place, id in enumerate(ids)})
        query = FlowStateQuery(limit=limit)
        while True:
            rounds = Rounds(query_log)
            page = await store.list(query)
            seen.append((len(query_log.queries), sum(query_log.documents), rounds.count))
            asked = scale.read_page(by_shard, limit * len(expected), limit)
            expected.append((asked.queries, asked.documents, asked.rounds))
            if page.continuation_token is None:
                break
            query = FlowStateQuery(limit=limit, continuation_token=page.continuation_token)

    assert -(-len(ids) // limit) == len(seen)
    assert expected == seen


def started(id: str, start_time: int) -> FlowState:
    state = FlowState.start(flow_id=id)
    state.start_time = start_time
    return state
