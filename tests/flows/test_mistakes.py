"""Mistakes of an application, each with its clear end."""

from __future__ import annotations

import asyncio

import pytest

from firestore_flowstate.flows import FlowFailedError, Flows, Run
from tests.flows.counting_store import CountingStore
from tests.flows.test_waits import blocked


async def test_a_timeout_of_asyncio_around_a_step_cancels_it_unrecorded(flows: Flows, store: CountingStore) -> None:
    """The function goes on, and nothing of the step is stored; `options(timeout=)` would have recorded a failure."""
    cancelled: list[bool] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    @flows.flow
    async def impatient(run: Run) -> str:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run.step("slow", slow), 0.01)
        return await run.step("next", str, 1)

    assert "1" == await flows.run(impatient, id="x")
    assert [True] == cancelled
    assert ["next"] == list((await store.load("x")).cache)


async def test_a_step_that_changed_its_arguments_is_noticed_on_a_replay(flows: Flows, store: CountingStore) -> None:
    """The next step of its branch was called with what a replay does not have: the run fails, and names that step."""

    async def grow(items: list[int]) -> None:
        items.append(2)

    async def use(items: list[int]) -> int:
        return len(items)

    @flows.flow
    async def growing(run: Run) -> int:
        async def branch() -> int:
            items = [1]
            await run.step("grow", grow, items)
            return await run.step("use", use, items)

        [number] = await asyncio.gather(branch())
        return number + await run.interrupt("more", int)

    await flows.start(growing, id="x")
    await blocked(store, "x")
    await flows.resume("x", 1)

    with pytest.raises(FlowFailedError, match=r"FlowCodeChangedError: .*'use'.* of other arguments"):
        await flows.result("x", timeout=5)
