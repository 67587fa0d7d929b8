"""Steps whose functions are not async: they wait for a thread before they begin, and threads that are given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from firestore_flowstate.flows import (
    FlowCancelledError,
    FlowFailedError,
    Flows,
    Retry,
    Run,
    current_run,
    step_threads,
)
from firestore_flowstate.flows.record import record_of
from firestore_flowstate.flows.step_threads import Place, StepThreads
from tests.flows.counting_store import CountingStore


class Nobody:
    """A dispatcher that wakes nobody."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class Busy:
    """The only thread of steps is kept by a run, until it is let go.

    Attributes:
        begun: What the steps note that get the thread later.
    """

    def __init__(self) -> None:
        self._has_begun, self._go_on = threading.Event(), threading.Event()
        self.begun: list[str] = []

    def _hold(self) -> None:
        self._has_begun.set()
        self._go_on.wait(60)

    async def begin(self, flows: Flows) -> None:
        """Have a run take the thread."""

        @flows.flow
        async def holding(run: Run) -> None:
            await run.step("hold", self._hold)

        await flows.start(holding, id="holding")
        self.drive = asyncio.ensure_future(flows.drive("holding"))
        assert await asyncio.to_thread(self._has_begun.wait, 20)

    def let_go(self) -> None:
        """Let the run go on."""
        self._go_on.set()

    def work(self) -> str:
        """Note that a step got the thread."""
        self.begun.append("work")
        return "worked"


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    monkeypatch.setattr(step_threads, "_THREADS", 1)
    busy = Busy()
    yield busy
    busy.let_go()


async def queued(flows: Flows, count: int = 1) -> None:
    """Return when so many steps wait for a thread."""
    while sum(len(places._waiting) for places in flows._engine.pool._places.values()) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_a_cancelled_run_begins_no_step_that_waits_for_a_thread(store: CountingStore, busy: Busy) -> None:
    """The run ends at once, and does not wait for the thread."""
    flows = Flows(store, dispatcher=Nobody())
    await busy.begin(flows)

    @flows.flow
    async def working(run: Run) -> str:
        return await run.step("work", busy.work)

    await flows.start(working, id="x")
    drive = asyncio.ensure_future(flows.drive("x"))
    await asyncio.wait_for(queued(flows), 30)
    await flows.cancel("x", "enough")

    assert "cancelled" == await asyncio.wait_for(drive, 30)
    with pytest.raises(FlowCancelledError):
        await flows.result("x")
    busy.let_go()
    await busy.drive
    assert [] == busy.begun
    await flows.close()


@pytest.mark.parametrize("at_most_once", [False, True])
async def test_no_step_gets_a_thread_in_the_margin_of_a_budget(
    store: CountingStore, busy: Busy, at_most_once: bool
) -> None:
    """The run is handed over at the end of the time for steps. One with ``at_most_once`` leaves no intent."""
    flows = Flows(store, dispatcher=Nobody())
    await busy.begin(flows)

    @flows.flow
    async def working(run: Run) -> str:
        return await run.options(at_most_once=at_most_once).step("work", busy.work)

    await flows.start(working, id="x")

    assert "handed over" == await asyncio.wait_for(flows.drive("x", budget=5.2), 30)
    assert [] == record_of(await store.load("x")).intents
    busy.let_go()
    await busy.drive
    assert [] == busy.begun
    assert "done" == await flows.drive("x")
    assert ["work"] == busy.begun
    await flows.close()


async def test_the_timeout_of_an_outer_step_does_not_count_the_wait_for_a_thread_inside(
    store: CountingStore, busy: Busy
) -> None:
    """The step inside has not begun, so the one around it has not worked."""
    flows = Flows(store, dispatcher=Nobody())
    await busy.begin(flows)

    async def outer() -> str:
        return await current_run().step("inner", busy.work)

    @flows.flow
    async def working(run: Run) -> str:
        return await run.options(timeout=2).step("outer", outer)

    await flows.start(working, id="x")
    drive = asyncio.ensure_future(flows.drive("x"))
    await asyncio.wait_for(queued(flows), 30)
    await asyncio.sleep(3)  # longer than the timeout
    busy.let_go()

    assert "done" == await asyncio.wait_for(drive, 30)
    assert "worked" == await flows.result("x")
    await busy.drive
    await flows.close()


async def test_a_thread_that_was_given_up_is_made_up_for(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Functions that hang after their timeout keep no other step from a thread, up to a limit. A warning names them."""
    monkeypatch.setattr(step_threads, "_THREADS", 1)
    monkeypatch.setattr(step_threads, "_MORE_THREADS", 2)
    flows, go_on, ended = Flows(store, dispatcher=Nobody()), threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        go_on.wait(60)
        ended.release()

    @flows.flow
    async def hanging(run: Run, retry: int) -> None:
        await run.options(timeout=0.5, retry=Retry(retry, first=0)).step("hang", hang)

    @flows.flow
    async def working(run: Run) -> str:
        return await run.step("work", lambda: "worked")

    await flows.start(hanging, 2, id="a")
    assert "failed" == await flows.drive("a")
    await flows.start(working, id="b")
    assert "done" == await asyncio.wait_for(flows.drive("b"), 30)
    assert "The step 'hang' of the run 'a' was given up, and its function goes on" in caplog.text
    await flows.start(hanging, 1, id="c")
    assert "failed" == await flows.drive("c")  # the third: no further thread is made
    await flows.start(working, id="d")
    drive = asyncio.ensure_future(flows.drive("d"))
    await asyncio.wait_for(queued(flows), 30)
    go_on.set()

    assert "done" == await asyncio.wait_for(drive, 30)
    for _ in range(3):
        assert await asyncio.to_thread(ended.acquire, timeout=30)
    await flows.close()
    for id in ("a", "c"):
        with pytest.raises(FlowFailedError):
            await flows.result(id)


async def test_32_threads_that_were_given_up_are_made_up_for_and_no_more() -> None:
    """A step that comes after that waits until a function has ended."""
    threads, go_on, begun = StepThreads(), threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        go_on.wait(60)

    async def hanging() -> tuple[Place, asyncio.Future[None]]:
        place = await asyncio.wait_for(threads.place(lambda _: None), 10)
        calling = asyncio.ensure_future(place.call(threads, hang))
        assert await asyncio.to_thread(begun.acquire, timeout=10)
        return place, calling

    try:
        given_up = [await hanging() for _ in range(32)]
        assert [*range(1, 33)] == [place.leave() for place, _ in given_up]
        working = [await hanging() for _ in range(32)]
        assert 33 == working[0][0].leave()
        coming = asyncio.ensure_future(threads.place(lambda _: None))
        await asyncio.sleep(0.01)
        assert not coming.done()
    finally:
        go_on.set()
    (await asyncio.wait_for(coming, 10)).leave()
    await asyncio.gather(*(calling for _, calling in [*given_up, *working]))
    threads.close()


def test_places_go_to_who_waits_longest_on_any_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One who was cancelled, or whose event loop has ended, is passed over, and its place goes to the next."""
    monkeypatch.setattr(step_threads, "_THREADS", 1)
    threads, got = StepThreads(), list[Any]()

    async def first() -> None:
        place = await threads.place(lambda _: None)
        loop = asyncio.new_event_loop()
        gone = loop.create_task(threads.place(lambda _: None))
        gone._log_destroy_pending = False  # type: ignore[attr-defined]  # its loop ends before it does, as is meant here
        await asyncio.to_thread(lambda: loop.run_until_complete(asyncio.wait([gone], timeout=0.01)))
        waiting = [asyncio.create_task(then(name)) for name in "abc"]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        loop.close()
        place.leave()
        place.leave()
        await asyncio.sleep(0)
        await asyncio.gather(*waiting, return_exceptions=True)

    async def then(name: str) -> None:
        place = await threads.place(lambda waits: got.append((name, waits)))
        got.append(await place.call(threads, lambda: name))

    asyncio.run(first())
    [places] = threads._places.values()
    threads.close()

    assert ["b", "c"] == [each for each in got if isinstance(each, str)]
    assert [(name, waits) for waits in (True, False) for name in "abc"] == sorted(
        (each for each in got if isinstance(each, tuple)), key=lambda each: (not each[1], each[0])
    )
    assert (1, 0, 0) == (places._free, places._given_up, len(places._waiting))
