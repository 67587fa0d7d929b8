"""Watching: a flow state, or the first page of a list, now and after each change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import pytest

from ...errors import InvalidFlowIdError, InvalidQueryError
from ...models import CacheEntry, FlowState, FlowStateExecution, Operation
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .states import started, with_steps
from .suite import Suite

T = TypeVar("T")

PATIENCE: Final = 20.0  # seconds that a change may take to come, on a busy machine


async def soon(watch: AsyncIterator[T]) -> T:
    """Return the next item of a watch, which must come within 20 s."""
    return await asyncio.wait_for(anext(watch), PATIENCE)


async def close(watch: AsyncIterator[Any]) -> None:
    """End a watch."""
    await watch.aclose()  # type: ignore[attr-defined]  # all stores return generators


class WatchTests(Suite):
    """The methods `watch` and `watch_list`."""

    @pytest.mark.asyncio
    async def test_watch_yields_the_state_now_and_after_each_change(self, store: VersionedFlowStateStore) -> None:
        """The state is as a load returns it, with its version, whatever has changed it. It is None if there is none."""
        watch = store.watch("id")
        assert await soon(watch) is None
        await store.create("id", with_steps("a"))
        seen = [await soon(watch)]
        expected = [await store.load("id")]
        for change in (
            lambda: store.update("id", cache={"b": CacheEntry(value=[1.0, None])}),
            lambda: store.update("id", extra={"wakeAt": 5}),
            lambda: store.save("id", started()),
        ):
            await change()
            seen.append(await soon(watch))
            expected.append(await store.load("id"))
        await store.delete("id")
        gone = await soon(watch)
        await close(watch)

        assert exactly(expected) == exactly(seen)
        assert [state and state.version for state in expected] == [state and state.version for state in seen]
        assert gone is None

    @pytest.mark.asyncio
    async def test_watch_never_misses_the_last_state(self, store: VersionedFlowStateStore) -> None:
        """A watcher that is slow sees the last state, and may miss those in between."""
        await store.save("id", started())
        watch = store.watch("id")
        await soon(watch)
        version = ""
        for number in range(30):
            version = await store.update("id", extra={"number": number})
        seen: list[FlowState] = []
        while not seen or seen[-1].version != version:
            state = await soon(watch)
            assert state is not None
            seen.append(state)
        await close(watch)

        assert {"number": 29} == seen[-1].model_extra
        assert len(seen) <= 30

    @pytest.mark.asyncio
    async def test_watch_tells_of_its_own_flow_only(self, store: VersionedFlowStateStore) -> None:
        """Each of many watches at once yields its own flow, and closing one does not disturb the others."""
        ids = [f"id-{number}" for number in range(8)]
        watches = {id: store.watch(id) for id in ids}
        for id in ids:
            assert await soon(watches[id]) is None
        await close(watches.pop("id-0"))
        for id in reversed(ids):
            await store.save(id, started(flow_id=id))
        seen = {id: await soon(watch) for id, watch in watches.items()}
        for watch in watches.values():
            await close(watch)

        assert {id: id for id in ids[1:]} == {id: state.flow_id for id, state in seen.items() if state is not None}

    @pytest.mark.asyncio
    async def test_watch_yields_nothing_if_nothing_changes(self, store: VersionedFlowStateStore) -> None:
        """Neither a write to another flow nor a read is a change."""
        await store.save("id", started())
        watch = store.watch("id")
        await soon(watch)
        coming = asyncio.ensure_future(soon(watch))
        await store.save("other", started())
        await store.load("id")
        await asyncio.wait([coming], timeout=0.3)
        is_silent = not coming.done()
        version = await store.update("id", cache={"a": CacheEntry()})
        state = await coming
        await close(watch)

        assert is_silent
        assert state is not None
        assert version == state.version

    @pytest.mark.asyncio
    async def test_a_watch_whose_first_step_is_given_up_begins_with_the_next(
        self, store: VersionedFlowStateStore
    ) -> None:
        """It goes on whenever its first step was stopped, also while the store was asking the server for the state."""
        await store.save("id", started())
        for number in range(40):
            for watch in (store.watch("id"), store.watch_list()):
                first = asyncio.ensure_future(_next(watch))
                for _ in range(number):  # at another moment of its way each time
                    await asyncio.sleep(0)
                first.cancel()
                await asyncio.wait([first])
                if first.cancelled():
                    await soon(watch)
                await close(watch)

    @pytest.mark.asyncio
    async def test_watch_bears_a_timeout_around_a_step(self, store: VersionedFlowStateStore) -> None:
        """The timeout does not end the watch: a watcher that stops waiting goes on later, and misses nothing."""
        await store.save("id", started())
        watch, pages = store.watch("id"), store.watch_list()
        for each in (watch, pages):
            await soon(each)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(each), 0.05)
        for number in range(20):
            coming = [asyncio.ensure_future(_next(each)) for each in (watch, pages)]
            await asyncio.sleep(0)
            version = await store.update("id", extra={"number": number})
            for _ in range(number):  # each time the wait is stopped at another moment
                await asyncio.sleep(0)
            for task in coming:
                task.cancel()
            await asyncio.wait(coming)
            state: Any
            page: Any
            state, page = [
                await soon(each) if task.cancelled() else task.result()
                for each, task in zip((watch, pages), coming, strict=True)
            ]
            while state.version != version:
                state = await soon(watch)
            while page[0].updated_at != state.updated_at:
                page = await soon(pages)
        await close(watch)
        await close(pages)

    @pytest.mark.asyncio
    async def test_watch_is_over_when_it_was_closed(self, store: VersionedFlowStateStore) -> None:
        """It is over whether it had begun or not. A second close does nothing. Two watchers cannot share one watch."""
        await store.save("id", started())
        for number, each in enumerate((store.watch("id"), store.watch_list())):
            await soon(each)
            coming = asyncio.ensure_future(soon(each))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await anext(each)
            await store.update("id", extra={"number": number})
            assert await coming
            for _ in range(2):
                await close(each)
                assert [] == [item async for item in each]
        for each in (store.watch("id"), store.watch_list()):
            await close(each)
            assert [] == [item async for item in each]

    @pytest.mark.asyncio
    async def test_watch_yields_a_state_of_its_own(self, store: VersionedFlowStateStore) -> None:
        """A change of a yielded state changes neither the store nor what another watch yields."""
        state = with_steps("a")
        await store.save("id", state)
        before = exactly(state)
        watches = [store.watch("id"), store.watch("id")]
        first, second = [await soon(watch) for watch in watches]
        assert first is not None
        first.cache["b"] = CacheEntry(value=1)
        first.cache["a"].value = ["changed"]
        for watch in watches:
            await close(watch)

        assert before == exactly(second)
        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_watch_list_yields_the_page_now_and_after_each_change(self, store: VersionedFlowStateStore) -> None:
        """The page is that of `list_summaries`: states come, change, move and go."""
        watch = store.watch_list()
        pages = [await soon(watch)]
        expected: list[Any] = [[]]
        for change in (
            lambda: store.save("a", _at(1, "a")),
            lambda: store.save("b", _at(2, "b")),
            lambda: store.update("a", executions=[FlowStateExecution(trace_ids=[])]),
            lambda: store.update("a", extra={"key": "value"}),
            lambda: store.save("a", _at(3, "a")),
            lambda: store.delete("b"),
        ):
            await change()
            pages.append(await soon(watch))
            expected.append((await store.list_summaries()).summaries)
        await close(watch)

        assert [list(page) for page in expected] == [list(page) for page in pages]

    @pytest.mark.asyncio
    async def test_watch_list_keeps_to_its_filters_and_limit(self, store: VersionedFlowStateStore) -> None:
        """A state that does not match, or is behind the page, changes nothing. If one leaves, the next comes in."""
        for number in range(4):
            await store.save(f"id-{number}", _at(number, f"id-{number}", name="mine" if number else "other"))
        await store.save("newest", _at(9, "newest", name="other"))
        watch = store.watch_list(FlowStateQuery(name="mine", limit=2))
        first = await soon(watch)
        await store.update("id-0", cache={"a": CacheEntry()})
        await store.update("id-1", cache={"a": CacheEntry()})
        await store.delete("id-3")
        second = await soon(watch)
        await close(watch)

        assert ["id-3", "id-2"] == [summary.id for summary in first]
        assert ["id-2", "id-1"] == [summary.id for summary in second]

    @pytest.mark.asyncio
    async def test_watch_list_by_status(self, store: VersionedFlowStateStore) -> None:
        """A flow comes and goes as its status changes."""
        await store.save("id", started())
        watch = store.watch_list(FlowStateQuery(status="done"))
        pages = [await soon(watch)]
        await store.update("id", operation=Operation(name="op", done=True))
        pages.append(await soon(watch))
        await store.update("id", operation=Operation(name="op", done=False))
        pages.append(await soon(watch))
        await close(watch)

        assert [[], ["id"], []] == [[summary.id for summary in page] for page in pages]

    @pytest.mark.asyncio
    async def test_watch_refuses_what_it_cannot_watch(self, store: VersionedFlowStateStore) -> None:
        """It refuses at the call an id that cannot name a document, and a page that is not the first."""
        await store.save_many({id: started(flow_id=id) for id in ("a", "b")})
        token = (await store.list_summaries(FlowStateQuery(limit=1))).continuation_token
        for id in ("", "a/b", ".."):
            with pytest.raises(InvalidFlowIdError):
                store.watch(id)
        with pytest.raises(InvalidQueryError, match="first page"):
            store.watch_list(FlowStateQuery(limit=1, continuation_token=token))


async def _next(watch: AsyncIterator[T]) -> T:
    return await anext(watch)


def _at(start_time: int, flow_id: str, **fields: Any) -> Any:
    state = started(flow_id=flow_id)
    state.start_time = start_time
    for name, value in fields.items():
        setattr(state, name, value)
    return state
