"""What all drives of a `Flows` share."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from firestore_flowstate import FlowState, VersionedFlowStateStore
from firestore_flowstate.errors import shown

from .clock import Clock
from .dispatch import Dispatcher
from .dispatch.wake_names import early_name, later_name, wake_name
from .errors import UnknownFlowError
from .flow import Flow
from .json_round_trip import Values
from .lease import Claim
from .readiness import look_at
from .record import wake_at
from .retry import Retry
from .step_threads import StepThreads
from .telemetry import Telemetry

if TYPE_CHECKING:
    from .driving import Drive

LOG: Final = logging.getLogger("firestore_flowstate.flows")
_DELIVERY_MILLISECONDS: Final = 1_000
"""More than a queue needs from the time of a task until its handler is called."""
_ENDING_MILLISECONDS: Final = 10_000
"""How long a process goes on after SIGTERM: platforms end it after this time."""
_LAST_MOMENT: Final = 253_402_300_799_999
"""The last moment that `datetime` can hold, at the end of the year 9999, in milliseconds since the epoch."""


@dataclass
class Engine:
    """What all drives of a `Flows` share.

    Attributes:
        store: The store that keeps the runs.
        dispatcher: What wakes the runs.
        clock: What tells the time.
        lease: How long a claim lasts, in milliseconds.
        version: The version of the code.
        max_recoveries: How often a run may be taken over in a row without a new result.
        retry: When steps without a Retry of their own are tried again; None: never.
        telemetry: What makes spans and metrics.
        values: What turns values into JSON and back.
        flows: The flows that this process knows, by name.
        drives: The drives that go on in this process, by the id of the run.
        claiming: The ids of the runs that this process is claiming, with the event loop that does so, by a key for
            each claim, until the drive is in `drives`.
        wakers: What to call when this process has written to a run, by the id of the run.
        pool: The threads of synchronous steps.
        drives_here: Drives a claimed run in this process; None: the dispatcher is one that others share.
        is_closing: Whether the runs that are driven here are being handed over. Meanwhile none is claimed.
        workers: How many workers look for runs that are due.
        parked: The futures of functions that called the run on and on after its end, and that now wait for ever.
        leftovers: Tasks of functions that did not end when they were cancelled. They are kept here, since an event loop
            does not keep its tasks from being collected.
    """

    store: VersionedFlowStateStore
    dispatcher: Dispatcher
    clock: Clock
    lease: int
    version: str | None
    max_recoveries: int
    retry: Retry | None
    telemetry: Telemetry
    values: Values = field(default_factory=Values)
    flows: dict[str, Flow[Any, Any]] = field(default_factory=dict)
    drives: dict[str, Drive] = field(default_factory=dict)
    claiming: dict[object, tuple[str, asyncio.AbstractEventLoop]] = field(default_factory=dict)
    wakers: dict[str, set[Callable[[], None]]] = field(default_factory=dict)
    leftovers: set[asyncio.Task[Any]] = field(default_factory=set)
    parked: set[asyncio.Future[None]] = field(default_factory=set)
    pool: StepThreads = field(default_factory=StepThreads)
    drives_here: Callable[[Claim], None] | None = None
    is_closing: bool = False
    workers: int = 0
    _process: int = field(default_factory=os.getpid)

    def flow(self, name: str | None, *, id: str) -> Flow[Any, Any]:
        """Return the flow of the name, for the run of the id.

        Raises:
            UnknownFlowError: This process has no flow of that name.
        """
        flow = self.flows.get(name) if name is not None else None
        if flow is None:
            raise UnknownFlowError(
                f"The run {id!r} is of the flow {name!r}, which this process does not know: import the module that "
                f"defines it. The process knows {', '.join(sorted(self.flows)) or 'no flow'}.",
                flow_id=id,
                name=name,
            )
        return flow

    def check_process(self) -> None:
        """In a forked child, forget the parent's drives: the child has none of its tasks."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self.drives.clear()
            self.claiming.clear()
            self.wakers.clear()
            self.leftovers.clear()

    @contextmanager
    def claims(self, id: str) -> Iterator[None]:
        """Note within this context that the process is claiming the run."""
        key = object()
        self.claiming[key] = id, asyncio.get_running_loop()
        try:
            yield
        finally:
            self.claiming.pop(key, None)

    def has(self, id: str) -> bool:
        """Return whether this process drives the run, or is claiming it."""
        is_claiming = any(id == each and not loop.is_closed() for each, loop in list(self.claiming.values()))
        return is_claiming or self.driven(id) is not None

    def driven(self, id: str) -> Drive | None:
        """Return the drive of the run in this process; None: there is none, or its event loop was closed under it."""
        drive = self.drives.get(id)
        if drive is not None and drive.loop.is_closed():
            self.forget(drive)
            return None
        return drive

    def forget(self, drive: Drive) -> None:
        """Forget a drive whose event loop was closed. Nothing of it goes on, and its run is left to the lease."""
        if self.drives.get(drive.id) is drive:
            del self.drives[drive.id]

    def moved(self, id: str) -> None:
        """Tell those who wait in this process that it has written to the run."""
        for waker in list(self.wakers.get(id, ())):
            waker()

    def poke(self, id: str) -> None:
        """Have the drive of the run in this process, if there is one, load what is stored."""
        drive = self.driven(id)
        if drive is not None:
            drive.poke()
        self.moved(id)

    async def dispatch(self, id: str, wake: int, *, at: int | None = None, elsewhere: bool = False) -> None:
        """Have the run driven.

        Args:
            id: The id of the run.
            wake: The wake time that the dispatch is named by, in milliseconds since the epoch.
            at: When, in milliseconds since the epoch; None: now. After the year 9999 nothing is dispatched.
            elsewhere: Whether another process is to drive the run: then a dispatcher that drives here is not told.
        """
        if elsewhere and self.drives_here is not None:
            return
        if at is not None and at > _LAST_MOMENT:  # others can write any number as `wakeAt`
            return
        moment = None if at is None else datetime.fromtimestamp(at / 1000, timezone.utc)
        await self.dispatcher.dispatch(id, wake=wake_name(wake, now=self.clock.now()), at=moment)

    async def dispatch_again(self, id: str, wake: int) -> None:
        """Have a run driven once more that a queue whose clock is ahead may have woken too early.

        The name of the wake time is then used up, and the queue takes no second task of it. So a task of another name
        is made, for a later time: later by the time that the run came too early, since the queue's clock is ahead by as
        much at least, and by as much again, at least 1 s, since the delivery took a part of what it is ahead.

        Args:
            id: The id of the run.
            wake: The wake time, in milliseconds since the epoch.
        """
        early = max(0, wake - self.clock.now())
        at = datetime.fromtimestamp((wake + early + max(early, _DELIVERY_MILLISECONDS)) / 1000, timezone.utc)
        await self.dispatcher.dispatch(id, wake=early_name(wake), at=at)

    async def dispatch_elsewhere(self, id: str, wake: int | None) -> None:
        """Have a run that is due driven when this process, which is to end, has ended: in 10 to 20 s.

        The task that was delivered here has used up the name of the wake time, and a process that is to end may be
        asked more than once. So the name has the moment, of which there is one in 10 s.

        Args:
            id: The id of the run.
            wake: The wake time, in milliseconds since the epoch; None: none is stored.
        """
        now = self.clock.now()
        at = (now // _ENDING_MILLISECONDS + 2) * _ENDING_MILLISECONDS
        moment = datetime.fromtimestamp(at / 1000, timezone.utc)
        await self.dispatcher.dispatch(id, wake=later_name(now if wake is None else wake, at), at=moment)

    async def woken(self, id: str, wake: int | None, *, elsewhere: bool = False) -> None:
        """Have a run looked at that this process has written to: by its drive here, and by a new drive.

        Args:
            id: The id of the run.
            wake: The wake time that was stored, in milliseconds since the epoch; None: no new drive is needed.
            elsewhere: Whether another process is to make the new drive, as of `dispatch`.
        """
        self.poke(id)
        if wake is not None:
            await self.dispatch(id, wake, elsewhere=elsewhere)

    async def told(self, id: str, state: FlowState, *, elsewhere: bool = False) -> None:
        """Have a run looked at that somebody owns, and that this process has written to or is asked for.

        A drive of it here looks at once. Another owner may have died: the run is dispatched if others may claim it by
        now, else looked at when they may.

        Args:
            id: The id of the run.
            state: The state as it was loaded.
            elsewhere: Whether another process is to make a new drive, as of `dispatch`.
        """
        self.poke(id)
        look, wake = look_at(id, state, now=self.clock.now(), lease=self.lease), wake_at(state)
        if self.has(id):
            return
        if look.at is not None:
            await self.look_later(id, look.at, elsewhere=elsewhere)
        elif look.what == "due" and wake is not None:
            await self.dispatch(id, wake, elsewhere=elsewhere)

    async def look_later(self, id: str, at: int, *, elsewhere: bool = False) -> None:
        """Have this process look at a run that nobody may be driving any more, unless it has a queue.

        A queue is not told, since a sweep finds such runs. With the dispatcher of this process nothing is awaited here,
        so that it can be called by what is being cancelled.

        Args:
            id: The id of the run.
            at: When, in milliseconds since the epoch.
            elsewhere: Whether this process is to leave the run to others.
        """
        if self.drives_here is not None:
            await self.dispatch(id, at, at=at, elsewhere=elsewhere)

    def close(self) -> None:
        """Let the threads of steps end when they have done what was given to them."""
        self.pool.close()


def lease_in_milliseconds(lease: timedelta) -> int:
    """Return the lease in milliseconds.

    Raises:
        TypeError: The lease is not a timedelta.
        ValueError: The lease is less than 1 s: a driver must extend it over a network.
    """
    if not isinstance(lease, timedelta):
        raise TypeError(f"lease is a timedelta, not {shown(lease)}")
    if lease < timedelta(seconds=1):
        raise ValueError(f"lease is at least 1 second, since a driver must extend it over a network; not {lease}")
    return int(lease / timedelta(milliseconds=1))
