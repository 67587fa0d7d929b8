"""Drives that nobody awaits: what becomes of them while the store cannot be reached."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import StoreUnavailableError
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.clock import SystemClock
from firestore_flowstate.flows.dispatch import InProcess
from tests.flows.counting_store import CountingStore
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
