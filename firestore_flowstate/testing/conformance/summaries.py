"""Summaries: what lists show of states without reading payloads."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from ...models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from .states import WIRE, started, with_everywhere, with_steps
from .suite import Suite


class SummaryTests(Suite):
    """The method `list_summaries`."""

    @pytest.mark.asyncio
    async def test_shows_the_least_state(self, store: VersionedFlowStateStore) -> None:
        """A field of the summary that the state does not have is None, zero or empty."""
        state = started(5, flow_id="flow")
        await store.save("id", state)
        [summary] = (await store.list_summaries()).summaries

        assert {
            "id": "id",
            "flow_id": "flow",
            "name": None,
            "status": "scheduled",
            "start_time": 5,
            "blocked_on": None,
            "step_count": 0,
            "last_end_time": None,
            "error_line": None,
            "updated_at": state.updated_at,
            "expire_at": state.expire_at,
            "extra": {},
        } == summary.model_dump(exclude={"size_bytes"})
        assert 0 < summary.size_bytes < 1000

    @pytest.mark.asyncio
    async def test_shows_what_the_state_says(self, store: VersionedFlowStateStore) -> None:
        """The name, the blocked step, the number of steps, the last end, and the first line of the error."""
        state = with_steps("a", "b", "c")
        state.name = "named"
        state.blocked_on_step = BlockedOnStep(name="wait")
        state.executions = [
            FlowStateExecution(start_time=1, end_time=2, trace_ids=[]),
            FlowStateExecution(start_time=3, end_time=4.5, trace_ids=[]),
        ]
        state.operation = Operation(name="op", done=True, result=FlowResult(error="first line\nsecond line"))
        await store.save("id", state)
        [summary] = (await store.list_summaries()).summaries

        assert (summary.name, summary.blocked_on, summary.step_count) == ("named", "wait", 3)
        assert summary.last_end_time == 4.5
        assert summary.status == "failed"
        assert summary.error_line in ("first line", None)  # None under encryption

    @pytest.mark.asyncio
    async def test_shows_scalar_unknown_keys(self, store: VersionedFlowStateStore) -> None:
        """The unknown keys that `where` can ask for, in their types."""
        wire: dict[str, Any] = {
            **WIRE,
            "owner": "me",
            "yes": True,
            "count": 5,
            "share": 0.5,
            "list": [1],
            "map": {"a": 1},
            "__reserved__": 1,
        }
        await store.save("id", FlowState.model_validate(wire))
        [summary] = (await store.list_summaries()).summaries

        assert dict(summary.extra) == {"owner": "me", "yes": True, "count": 5, "share": 0.5}
        assert summary.extra["yes"] is True

    @pytest.mark.asyncio
    async def test_counts_steps_through_partial_writes(self, store: VersionedFlowStateStore) -> None:
        """New steps count, steps that an edit replaces or removes count once or not at all."""
        await store.save("id", with_steps("a", "b"))
        async with store.edit("id") as state:
            state.cache["c"] = state.cache.pop("a")
            state.cache["b"].value = "new"
            state.cache["d"] = state.cache["b"]
        [summary] = (await store.list_summaries()).summaries

        assert summary.step_count == 3

    @pytest.mark.asyncio
    async def test_counts_no_fewer_than_no_steps(self, store: VersionedFlowStateStore) -> None:
        """A write without a read does not know whether what it removes is there: the count ends at zero."""
        await store.save("id", started(1))
        for _ in range(3):
            await store.update("id", remove=["never there"])
        [summary] = (await store.list_summaries()).summaries

        assert summary.step_count == 0

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("there", "cache", "remove", "count"),
        [("ab", "a", "a", 2), ("ab", "ab", "ba", 2), ("ab", "", "aa", 1), ("ab", "c", "aa", 2)],
    )
    async def test_counts_a_step_that_an_update_names_more_than_once(
        self, store: VersionedFlowStateStore, there: str, cache: str, remove: str, count: int
    ) -> None:
        """A step that is removed twice goes once. One that is there, and is removed and set, stays one."""
        await store.save("id", with_steps(*there))
        await store.update("id", cache={step: CacheEntry(value=step) for step in cache}, remove=list(remove))
        [summary] = (await store.list_summaries()).summaries

        assert summary.step_count == count

    @pytest.mark.asyncio
    async def test_grows_with_the_state(self, store: VersionedFlowStateStore) -> None:
        """size_bytes is about the bytes of JSON, also after partial writes."""
        state = started()
        state.input = "x" * 10_000
        await store.save("id", state)
        [before] = (await store.list_summaries()).summaries
        async with store.edit("id") as state:
            state.events_triggered["event"] = "y" * 20_000
        [after] = (await store.list_summaries()).summaries

        assert 10_000 <= before.size_bytes < 12_000
        assert 30_000 <= after.size_bytes < 35_000

    @pytest.mark.asyncio
    async def test_the_size_is_that_of_the_json(self, store: VersionedFlowStateStore) -> None:
        """Creates, saves and edits count the same: names, unknown keys and the fields of the head too."""
        state = with_everywhere({"ключ": ["значение", "\n", None]})
        state.name, state.cache['step "é"'] = "größe", CacheEntry(value=1.5)
        state.events_triggered = {}
        for key, unknown in (("owner", "x" * 1400), ("note", "y" * 1400), ("long", "z" * 5000), ("object", {"a": 1})):
            setattr(state, key, unknown)
        await store.create("id", state)
        sizes = [await _size_bytes(store), _json_bytes(await store.load("id"))]
        async with store.edit("id") as edited:
            for key in ("owner", "note"):
                delattr(edited, key)
            edited.name = None
        sizes += [await _size_bytes(store), _json_bytes(await store.load("id"))]
        async with store.edit("id") as edited:
            del edited.cache["step"]
            edited.events_triggered["event"], edited.blocked_on_step = 1, BlockedOnStep(name="wait")
            edited.owner = "me"
        sizes += [await _size_bytes(store), _json_bytes(await store.load("id"))]
        await store.save("id", edited)
        sizes += [await _size_bytes(store), _json_bytes(edited)]

        assert sizes[::2] == sizes[1::2]

    @pytest.mark.asyncio
    async def test_edits_that_replace_a_step_again_and_again_keep_the_size(
        self, store: VersionedFlowStateStore
    ) -> None:
        """What an edit has counted exactly is not taken off once more, whatever the store does with old values."""
        await store.save("id", with_steps("a", "b"))
        numbers = random.Random(0)
        for _ in range(80):
            async with store.edit("id") as edited:
                edited.cache["a"] = CacheEntry(value=numbers.randbytes(5_000).hex())
        size = await _size_bytes(store)

        assert abs(_json_bytes(await store.load("id")) - size) <= 100

    @pytest.mark.asyncio
    async def test_an_update_counts_what_it_sets(self, store: VersionedFlowStateStore) -> None:
        """What it adds counts as in a save, but for a comma."""
        await store.create("id", started())
        await store.update(
            "id",
            cache={"step": CacheEntry(value=["x"])},
            events_triggered={"event": {}},
            extra={"owner": "me"},
            remove=["nothing"],
        )

        assert abs(_json_bytes(await store.load("id")) - await _size_bytes(store)) <= 2

    @pytest.mark.asyncio
    async def test_the_size_shrinks_with_the_state(self, store: VersionedFlowStateStore) -> None:
        """A value that an edit replaces or removes no longer counts: 80 replacements are not 80 values."""
        state = with_steps("a")
        await store.save("id", state)
        for size in (20_000, 10_000, 5_000):
            async with store.edit("id") as edited:
                edited.cache["a"] = CacheEntry(value="x" * size)
            [summary] = (await store.list_summaries()).summaries
            assert size < summary.size_bytes < size + 1_000
        async with store.edit("id") as edited:
            edited.cache = {}
        [summary] = (await store.list_summaries()).summaries
        assert 0 < summary.size_bytes < 1_000
        value = random.Random(0).randbytes(5_000).hex()  # as large when it is compressed
        for _ in range(80):  # each replaces the one before, and the log is compacted from time to time
            await store.update("id", cache={"a": CacheEntry(value=value)})
        [summary] = (await store.list_summaries()).summaries

        assert 10_000 < summary.size_bytes < 400_000

    @pytest.mark.asyncio
    async def test_pages_as_lists_do(self, store: VersionedFlowStateStore) -> None:
        """The order and the pages are those of `list`, and a token of one serves the other."""
        ids = [f"id-{place}" for place in range(9)]
        await store.save_many({id: started(int(id[-1]) // 4, flow_id=id) for id in ids})
        first = await store.list_summaries(FlowStateQuery(limit=4))
        second = await store.list(FlowStateQuery(limit=4, continuation_token=first.continuation_token))
        third = await store.list_summaries(FlowStateQuery(limit=4, continuation_token=second.continuation_token))

        assert ids[::-1] == [
            *(summary.id for summary in first.summaries),
            *(state.flow_id for state in second.flow_states),
            *(summary.id for summary in third.summaries),
        ]
        assert third.continuation_token is None

    @pytest.mark.asyncio
    async def test_summaries_are_the_readers_own(self, store: VersionedFlowStateStore) -> None:
        """Changing the unknown keys of a summary changes nothing in the store."""
        await store.save("id", FlowState.model_validate({**WIRE, "owner": "me"}))
        [summary] = (await store.list_summaries()).summaries
        if isinstance(summary.extra, dict):
            summary.extra["owner"] = "you"
        [again] = (await store.list_summaries()).summaries

        assert dict(again.extra) == {"owner": "me"}


async def _size_bytes(store: VersionedFlowStateStore) -> int:
    [summary] = (await store.list_summaries()).summaries
    return summary.size_bytes


def _json_bytes(state: FlowState | None) -> int:
    assert state is not None
    text = json.dumps(state.model_dump(by_alias=True), ensure_ascii=False, separators=(",", ":"))
    return len(text.encode())
