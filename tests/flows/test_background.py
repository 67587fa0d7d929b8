"""Drives that nobody awaits: what becomes of them while the store cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import StoreUnavailableError
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.clock import SystemClock
from firestore_flowstate.flows.dispatch import InProcess
from firestore_flowstate.flows.record import ended_of
from firestore_flowstate.testing.durability.host import PAST_THE_LEASE, HostClock
from tests.flows.counting_store import CountingStore
from tests.flows.test_closing import NoTasks
from tests.flows.test_waits import blocked


class OutOfReach(CountingStore):
    """A store that cannot be loaded from for so many times.

    Attributes:
        failures: How many loads fail from now on.
    """

    failures = 0

    async def load(self, id: str, **options: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailableError("out of reach", outcome_unknown=False)
        return await super().load(id, **options)


async def test_a_drive_that_cannot_reach_the_store_is_tried_again(
    store: CountingStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This process tries again after pauses that double, and needs neither an answer nor a worker nor a sweep."""
    from firestore_flowstate.flows import background

    monkeypatch.setattr(background, "_FIRST_PAUSE_MILLISECONDS", 2)
    caplog.set_level(logging.WARNING, "firestore_flowstate.flows")
    out_of_reach = OutOfReach(store.store)
    flows = Flows(out_of_reach)

    @flows.flow
    async def asks(run: Run) -> int:
        return await run.interrupt("a", int)

    await flows.start(asks, id="x")
    await blocked(out_of_reach, "x")
    await store.store.update("x", events_triggered={"a": 7})
    out_of_reach.failures = 3
    await flows._engine.dispatch("x", 1)
    while out_of_reach.failures:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)

    assert 7 == await flows.result("x", timeout=5)
    await flows.close()
    paused = [line for line in caplog.messages if "is tried again in" in line]
    assert 3 == len(paused)
    assert not [line for line in caplog.messages if "cannot be driven." in line]


class Hanging(CountingStore):
    """A store that stores, and whose reply to the writes of these numbers never comes: a create has the number 0.

    Attributes:
        hangs: The numbers.
        stored: Set when the reply to such a write is waited for.
    """

    def __init__(self, store: Any, *hangs: int) -> None:
        super().__init__(store)
        self.stored = asyncio.Event()
        self.hangs = hangs
        self.faults = dict.fromkeys(hangs, self._hang)

    async def _hang(self, update: Callable[[], Awaitable[str]]) -> str:
        await update()
        self.stored.set()
        await asyncio.Event().wait()
        return ""

    async def create(self, id: str, state: Any, **options: Any) -> None:
        await super().create(id, state, **options)
        if 0 in self.hangs:
            self.hangs = ()
            self.stored.set()
            await asyncio.Event().wait()


async def given_up(awaited: Coroutine[Any, Any, Any], when: asyncio.Event) -> None:
    """Await until then, and cancel it, as a request whose client goes away."""
    task = asyncio.ensure_future(awaited)
    await asyncio.wait_for(when.wait(), 30)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def moved_on(clock: HostClock, store: CountingStore, id: str) -> None:
    """Move the clock on until the run has ended."""
    while ended_of(await store.load(id)) is None:
        clock.move(1)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("during", ["a step", "the write that starts it", "the claim"])
async def test_a_run_whose_caller_has_given_up_is_driven_when_its_lease_has_ended(
    store: CountingStore, during: str
) -> None:
    """Nobody extends the lease, and this process goes on with the run when others might take it over."""
    hanging = Hanging(store.store, *{"the write that starts it": [0], "the claim": [1]}.get(during, []))
    flows = Flows(hanging)
    clock = flows._engine.clock = HostClock()
    began, attempts = asyncio.Event(), list[int]()

    async def work() -> int:
        attempts.append(1)
        began.set()
        if during == "a step" and len(attempts) == 1:
            await asyncio.Event().wait()
        return 7

    @flows.flow
    async def working(run: Run) -> int:
        return await run.step("work", work)

    if during == "the claim":
        others = Flows(store, dispatcher=NoTasks())
        others._engine.flows.update(flows._engine.flows)
        others._engine.clock = clock
        await others.start(working, id="x")
        await given_up(flows.drive("x"), hanging.stored)
    else:
        await given_up(flows.run(working, id="x"), began if during == "a step" else hanging.stored)
    clock.move(PAST_THE_LEASE)

    assert 7 == await flows.result("x", timeout=30)
    await flows.close()


async def test_a_run_is_driven_again_after_an_error_that_its_caller_got(store: CountingStore) -> None:
    """As the error of a store that is not one of this package's."""
    flows = Flows(store)
    clock = flows._engine.clock = HostClock()

    async def work() -> int:
        return 7

    @flows.flow
    async def working(run: Run) -> int:
        return await run.step("work", work)

    async def broken(update: Callable[[], Awaitable[str]]) -> str:
        raise OSError("broken")

    store.faults[1] = broken
    with pytest.raises(OSError, match="broken"):
        await flows.run(working, id="x")
    clock.move(PAST_THE_LEASE)

    assert 7 == await flows.result("x", timeout=30)
    await flows.close()


async def test_a_run_that_is_suspended_while_its_caller_gives_up_is_woken(store: CountingStore) -> None:
    """The last write is stored, and its wake time is this process's to wait for."""
    flows = Flows(store)
    clock = flows._engine.clock = HostClock()
    ending = asyncio.Event()

    @flows.flow
    async def sleeping(run: Run) -> int:
        try:
            await run.sleep("nap", 3600)
        finally:
            if not ending.is_set():
                ending.set()
                await asyncio.Event().wait()
        return 7

    await given_up(flows.run(sleeping, id="x"), ending)
    clock.move(3600)

    await asyncio.wait_for(moved_on(clock, store, "x"), 30)
    assert 7 == await flows.result("x")
    await flows.close()


async def test_closing_forgets_what_was_to_be_tried_again(store: CountingStore) -> None:
    """No timer of a drive that was to be tried again is left in the process."""
    out_of_reach = OutOfReach(store.store)
    flows = Flows(out_of_reach)

    @flows.flow
    async def asks(run: Run) -> int:
        return await run.interrupt("a", int)

    await flows.start(asks, id="x")
    await blocked(out_of_reach, "x")
    out_of_reach.failures = 1
    await flows._engine.dispatch("x", 1)
    while out_of_reach.failures:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)
    timers = flows._engine.dispatcher._timers  # type: ignore[attr-defined]  # of the dispatcher in this process
    assert ["x"] == [id for id, _ in timers]
    await flows.close()

    assert not timers


class Woken:
    """The dispatcher of this process, with what it woke."""

    clock = SystemClock()
    is_closing = False
    workers = 0

    def __init__(self) -> None:
        self.ids = list[str]()
        self.dispatcher = InProcess(self._drive, lambda: self)

    async def _drive(self, id: str) -> None:
        self.ids.append(id)

    async def wake(self, seconds: float) -> None:
        """Have the run woken after so many seconds, at a wake time of one name."""
        at = datetime.now(timezone.utc) + timedelta(seconds=seconds)
        await self.dispatcher.dispatch("x", wake="1-0", at=at)

    async def until_woken(self) -> None:
        """Have the run woken soon, and return when it was."""
        await self.wake(0.01)
        while not self.ids:  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0.001)


def test_a_timer_of_an_event_loop_that_has_ended_wakes_nobody() -> None:
    """So a run that is looked at on the next loop gets another timer there."""
    woken = Woken()
    asyncio.run(woken.wake(3600))
    asyncio.run(asyncio.wait_for(woken.until_woken(), 30))

    assert ["x"] == woken.ids


async def test_a_timer_that_a_fork_inherited_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run that is looked at in the child gets another timer there."""
    woken = Woken()
    await woken.wake(3600)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    await asyncio.wait_for(woken.until_woken(), 30)

    assert ["x"] == woken.ids
    await woken.dispatcher.close()


async def test_a_wake_time_has_one_timer_on_all_loops_that_run() -> None:
    """A look at the run makes no second one, on whichever loop of the process."""
    woken = Woken()
    await woken.wake(1.0)
    await woken.wake(1.0)
    await asyncio.to_thread(lambda: asyncio.run(woken.wake(1.0)))
    assert [("x", "1-0")] == [*woken.dispatcher._timers]
    while woken.dispatcher._timers:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)  # in which a second timer would wake it too

    assert ["x"] == woken.ids
