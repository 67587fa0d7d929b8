from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from datetime import timedelta
from typing import get_args

import pytest

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateExecution,
    FlowStateQuery,
    FlowStateSettings,
    FlowStatus,
    Operation,
    PurgeReport,
    SyncFlowStateStore,
)
from firestore_flowstate._operations.deleting import part_names

NOW = timedelta(0)


def told(report: PurgeReport) -> tuple[int, int]:
    """Return how many were deleted, and how many of them had not ended, as a copy of the report says it too."""
    assert (report, report.unfinished) == (deepcopy(report), deepcopy(report).unfinished)
    return int(report), report.unfinished


def flow(name: str = "flow", *, start: int = 1, steps: dict[str, str] | None = None, done: bool = False) -> FlowState:
    state = FlowState.start(name=name)
    state.start_time = start
    state.cache = {step: CacheEntry(value=value) for step, value in (steps or {}).items()}
    state.operation = Operation(name="op", done=done)
    return state


def of_status(status: str) -> FlowState:
    state = flow(done=status in ("done", "failed"))
    if status == "failed":
        state.operation = Operation(name="op", done=True, result=FlowResult(error="no"))
    state.blocked_on_step = BlockedOnStep(name="step") if status == "blocked" else None
    state.executions = [FlowStateExecution(start_time=1, trace_ids=[])] if status == "running" else []
    assert status == state.status
    return state


async def ids(store: FirestoreFlowStateStore) -> list[str]:
    summaries = (await store.list_summaries(FlowStateQuery(limit=300))).summaries
    return sorted(summary.id for summary in summaries)


async def test_purges_what_matches_and_is_old(flow_state_store: FirestoreFlowStateStore) -> None:
    """It purges only what the query matches. A dry run counts the same and deletes nothing."""
    store = flow_state_store
    await store.save_many({f"done-{i:03}": flow(start=i % 7, done=True) for i in range(230)})
    await store.save_many({f"running-{i}": flow() for i in range(3)})
    query = FlowStateQuery(status="done")
    seen: list[int] = []

    assert 230 == await store.purge(query, older_than=NOW, dry_run=True)
    assert 233 == await store.count()
    assert 230 == await store.purge(query, older_than=NOW, progress=seen.append)
    assert ["running-0", "running-1", "running-2"] == await ids(store)
    assert sorted(seen) == seen
    assert 230 == seen[-1]
    assert len(seen) > 1
    assert 0 == await store.purge(query, older_than=NOW)


async def test_spares_what_was_started_or_written_lately(flow_state_store: FirestoreFlowStateStore) -> None:
    """A flow that started long ago and was written a moment ago is not old, nor one that says it starts tomorrow."""
    store = flow_state_store
    await store.save("old start", flow(start=1))
    await store.save("future", FlowState.start())
    assert 0 == await store.purge(older_than=timedelta(hours=1))
    tomorrow = flow(start=FlowState.start().start_time + 86_400_000)  # type: ignore[arg-type]  # whole milliseconds
    await store.save("tomorrow", tomorrow)

    assert 2 == await store.purge(older_than=NOW)
    assert ["tomorrow"] == await ids(store)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_tells_its_progress_after_each_page(flow_state_store: FirestoreFlowStateStore, dry_run: bool) -> None:
    """It does so also if nothing on the page is old: pages of such states take their time, and are billed."""
    store = flow_state_store
    await store.save_many({f"{i:03}": flow(start=i) for i in range(150)})
    lately: list[int] = []
    any_time: list[int] = []
    await store.purge(older_than=timedelta(hours=1), dry_run=dry_run, progress=lately.append)
    await store.purge(older_than=NOW, dry_run=dry_run, progress=any_time.append)

    assert [0, 0] == lately
    assert [100, 150] == any_time


@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_tells_how_many_have_not_ended(flow_state_settings: FlowStateSettings, layout: str) -> None:
    """It counts those that match, also in a dry run, and not those that stay since they are written meanwhile."""
    states = {f"{status}-{i}": of_status(status) for status in get_args(FlowStatus) for i in range(2)}
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": layout})) as store:
        await store.save_many(states)
        ended, blocked = FlowStateQuery(status=["done", "failed"]), FlowStateQuery(status="blocked")

        assert (10, 6) == told(await store.purge(older_than=NOW, dry_run=True))
        assert (4, 0) == told(await store.purge(ended, older_than=NOW, dry_run=True))
        assert (2, 2) == told(await store.purge(blocked, older_than=NOW))
        assert (8, 4) == told(await store.purge(older_than=NOW))


async def test_parts_go_with_their_state(flow_state_settings: FlowStateSettings) -> None:
    """They go together. Expired states go too, though nothing else sees them."""
    settings = flow_state_settings.model_copy(
        update={"compress_over": 2**40, "expire_after": timedelta(microseconds=1), "expire_when": "finished"}
    )
    async with FirestoreFlowStateStore(settings) as store:
        await store.save("large", flow(steps={str(i): "x" * 400_000 for i in range(4)}))
        await store.save("expired", flow(done=True))
        collection, _ = await store._begin()
        assert await part_names(collection, "large", collection.deadline()) != []
        assert await store.load("expired") is None

        assert 2 == await store.purge(older_than=NOW)
        assert await part_names(collection, "large", collection.deadline()) == []
        assert await collection.get("expired", collection.deadline()) is None


async def _resume(store: FirestoreFlowStateStore) -> None:
    await store.update("3", cache={"resumed": CacheEntry(value=1)})


async def _delete(store: FirestoreFlowStateStore) -> None:
    await store.delete("3")


@pytest.mark.parametrize(("others", "left"), [(_resume, ["3"]), (_delete, [])])
async def test_a_flow_that_is_written_meanwhile_stays(
    flow_state_store: FirestoreFlowStateStore,
    others: Callable[[FirestoreFlowStateStore], Awaitable[None]],
    left: list[str],
) -> None:
    """Deletion is conditional on what was read: a flow that resumed stays. What others have deleted is not counted."""
    store = flow_state_store
    await store.save_many({f"{i}": flow() for i in range(5)})
    run_query_at = store._connection.run_query_at

    async def and_then(*args: object, **options: object) -> object:
        answer = await run_query_at(*args, **options)  # type: ignore[arg-type]  # as it was called
        await others(store)
        return answer

    store._connection.run_query_at = and_then  # type: ignore[assignment,method-assign]  # another writer's moment
    assert 4 == await store.purge(older_than=NOW)
    store._connection.run_query_at = run_query_at  # type: ignore[method-assign]  # as it was
    assert left == await ids(store)


async def test_ages_beyond_the_calendar(flow_state_store: FirestoreFlowStateStore) -> None:
    """No state is as old as that, and none is younger than now."""
    store = flow_state_store
    await store.save("flow", flow())

    assert 0 == await store.purge(older_than=timedelta.max)
    with pytest.raises(ValueError, match="older_than is a duration"):
        await store.purge(older_than=timedelta(microseconds=-1))
    assert ["flow"] == await ids(store)


async def test_goes_on_after_a_crash(flow_state_store: FirestoreFlowStateStore) -> None:
    """What was deleted is done. Calling it again does the rest."""
    store = flow_state_store
    await store.save_many({f"{i}": flow(start=i) for i in range(250)})

    def crash(done: int) -> None:
        raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        await store.purge(older_than=NOW, progress=crash)
    left = await store.count()
    assert 0 < left < 250
    assert left == await store.purge(older_than=NOW)
    assert 0 == await store.count()


def test_is_there_for_blocking_code(flow_state_store: FirestoreFlowStateStore) -> None:
    """Scripts do maintenance, and many of them block."""
    with SyncFlowStateStore(flow_state_store) as store:
        store.save("flow", flow())
        assert 1 == store.purge(older_than=NOW)
        assert store.load("flow") is None
