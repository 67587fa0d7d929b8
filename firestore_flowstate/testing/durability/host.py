"""A process that drives runs, for tests: the test moves its clock, and can do something at each of its writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from ...flows import Flows, NotWaitingError
from ...flows.record import ended_of, record_of, wake_at
from ...models import FlowState
from ...store import VersionedFlowStateStore
from ..virtual_clock import VirtualClock
from .journal import Event, Journal
from .samples import FLOWS
from .watched_store import WatchedStore

LEASE_SECONDS: Final = 60.0  # the default of `Flows`
PAST_THE_LEASE: Final = 2 * LEASE_SECONDS
"""Seconds after which others may claim a run that was claimed once: more than the lease and the grace together."""
PATIENCE_SECONDS: Final = 30.0
"""How long a test waits for something that must come."""


class HostClock(VirtualClock):
    """A clock that the test moves."""

    def move(self, seconds: float) -> None:
        """Move the clock, and make the calls that are due by then, as in a process that runs."""
        self._seconds += seconds
        due = [timer for at, _, timer in sorted(self._timers, key=lambda each: each[:2]) if at <= self._seconds]
        self._timers = [each for each in self._timers if each[0] > self._seconds]
        for timer in due:
            if not timer.is_cancelled:
                timer.callback()

    def jump(self, seconds: float) -> None:
        """Move the clock, and make no calls, as in a process that was stopped, or whose event loop is blocked."""
        self._seconds += seconds


class Told:
    """A dispatcher that notes its calls in the journal, and drives nothing."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Note the call."""
        self._journal.note("task", id, wake=wake, at=None if at is None else at.timestamp())

    async def close(self) -> None:
        """Do nothing."""


class Host:
    """A process over the store that knows the samples, and drives the runs that the test names.

    Args:
        store: The store of all hosts.
        journal: The journal of all hosts.
        seconds: How far the clock of this host is ahead of the machine's.
        max_recoveries: As `Flows` takes it.

    Attributes:
        clock: The clock of this host.
        flows: The flows of this host.
        store: The store that its flows write through, with a hook before and after each write.
    """

    def __init__(
        self, store: VersionedFlowStateStore, journal: Journal, *, seconds: float = 0.0, max_recoveries: int = 10
    ) -> None:
        self.journal = journal
        self.store = WatchedStore(store, journal)
        watched: Any = self.store
        self.flows = Flows(
            watched,
            dispatcher=Told(journal),
            lease=timedelta(seconds=LEASE_SECONDS),
            max_recoveries=max_recoveries,
        )
        self.clock = HostClock()
        self.clock.jump(seconds)
        self.flows._engine.clock = self.clock
        self.flows._engine.flows.update(FLOWS._engine.flows)

    def drive(self, id: str, *, budget: float | None = None) -> asyncio.Task[str]:
        """Begin to drive the run. Return the task, whose result is how the drive ended."""
        return asyncio.ensure_future(self.flows.drive(id, budget=budget))

    async def answer(self, id: str, key: str, value: Any) -> None:
        """Answer the run, and note that this was a success."""
        await self.flows.resume(id, value, step=key)
        self.journal.note("told", id, key=key, value=value)

    def at_write(self, matches: Callable[[Event], bool], do: Callable[[], Awaitable[None]], *, after: bool) -> None:
        """Call `do` once, before or after the next write that matches."""

        async def hook(write: Event) -> None:
            if not is_done and matches(write):
                is_done.append(True)
                await do()

        is_done: list[bool] = []
        if after:
            self.store.after = hook
        else:
            self.store.before = hook


def writes(key: str) -> Callable[[Event], bool]:
    """Return a function that tells whether a write stores the result of the key."""
    return lambda write: key in write.get("changes", {}).get("cache", {})


def is_final(write: Event) -> bool:
    """Return whether a write is the last one of a drive, which leaves the run without an owner."""
    record = write.get("changes", {}).get("record")
    return record is not None and record.get("owner") is None and "blocked_on_step" in write["changes"]["names"]


def is_claim(write: Event) -> bool:
    """Return whether a write claims the run."""
    changes = write.get("changes", {})
    owned = changes.get("record", {}).get("owner") is not None
    return owned and "executions" in changes["names"] and "blocked_on_step" not in changes["names"]


async def until(condition: Callable[[], object | Awaitable[object]]) -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: It does not hold within 30 s.
    """
    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert asyncio.get_running_loop().time() < deadline, f"the condition does not hold after {PATIENCE_SECONDS} s"
        await asyncio.sleep(0.001)


async def begun(journal: Journal, key: str, times: int = 1) -> None:
    """Return when the step has begun `times` times."""
    await until(lambda: times <= len(begins(journal, key)))


def begins(journal: Journal, key: str) -> list[Event]:
    """Return the lines of the journal in which the step begins."""
    return [event for event in journal.events() if event["what"] == "begin" and event["key"] == key]


async def stored(host: Host, id: str) -> FlowState:
    """Return the run as it is stored, and note that in the journal."""
    state = await host.store.load(id)
    assert state is not None, f"the run {id} is gone"
    return state


async def is_suspended(host: Host, id: str) -> bool:
    """Return whether the run waits, and nobody drives it."""
    state = await stored(host, id)
    record = record_of(state)
    return record.owner is None and bool(record.waits) and ended_of(state) is None


async def drive_on(host: Host, id: str) -> str:
    """Drive the run, and move the clock whenever nothing else can happen."""
    drive = host.drive(id)
    while not drive.done():
        await asyncio.wait([drive], timeout=0.001)
        driven = host.flows._engine.drives.get(id)
        if driven is not None and driven.is_idle:
            host.clock.advance()
    return drive.result()


async def finish(host: Host, *ids: str, answers: dict[str, Any] | None = None) -> None:
    """Drive runs to their end, move the clock as far as that needs, and answer their interrupts.

    Raises:
        AssertionError: A run has not ended, and nothing will have it go on.
    """
    for id in ids:
        for _ in range(100):
            outcome = await drive_on(host, id)
            state = await stored(host, id)
            if ended_of(state) is not None and not record_of(state).todo:
                break
            given = False
            for key, wait in record_of(state).waits.items():
                if wait.kind == "child" and wait.child is not None and wait.until is not None and not wait.knocked:
                    await finish(host, wait.child, answers=answers)
                elif wait.kind == "interrupt" and key in (answers or {}) and key not in state.events_triggered:
                    with suppress(NotWaitingError):  # somebody else was faster
                        await host.answer(id, key, (answers or {})[key])
                    given = True
            wake = wake_at(await stored(host, id))
            assert given or wake is not None, f"nothing has {id} go on: {record_of(state)}"
            if wake is not None and wake > host.clock.now():
                host.clock.move((wake - host.clock.now()) / 1000 + (PAST_THE_LEASE if outcome == "busy" else 0))
        else:
            raise AssertionError(f"{id} does not end")
