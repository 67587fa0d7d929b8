"""What all drives of a `Flows` share."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

from firestore_flowstate import VersionedFlowStateStore
from firestore_flowstate.errors import shown

from .clock import Clock
from .dispatch.waking import early_name, wake_name
from .errors import UnknownFlowError
from .retry import Retry
from .values import Values

if TYPE_CHECKING:
    from .claiming import Claim
    from .dispatch import Dispatcher
    from .driving import Drive
    from .flow import Flow
    from .image import Image
    from .telemetry import Telemetry

LOG: Final = logging.getLogger("firestore_flowstate.flows")
_STEP_THREADS: Final = 32
_DELIVERY_MILLISECONDS: Final = 1_000
"""What a queue may need from the time of a task to its handler, and more."""
_LAST_MOMENT: Final = 253_402_300_799_999
"""The last one that `datetime` knows, at the end of the year 9999, in milliseconds since the epoch."""


@dataclass
class Engine:
    """What all drives of a `Flows` share.

    Attributes:
        store: Where the runs are.
        dispatcher: What wakes them.
        clock: The time.
        lease: How long a claim lasts, in milliseconds.
        version: The version of the code.
        max_recoveries: How often a run may be taken over in a row without a new result.
        retry: When steps are tried again that have no Retry of their own.
        telemetry: Spans and counters.
        values: Types and JSON.
        flows: The flows that this process knows, by name.
        drives: The drives that go on in this process, by the id of the run.
        wakers: Who waits in this process for a run to move, by its id.
        drives_here: Drives a claimed run in this process, if the dispatcher is the one in this process.
        is_closing: What is driven is handed over.
        workers: How many workers look for what is due.
        parked: What functions wait for that do not take CancelledError for an answer.
        leftovers: Tasks of functions that did not end when they were cancelled, so that nobody collects them.
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
    wakers: dict[str, set[Callable[[], None]]] = field(default_factory=dict)
    leftovers: set[asyncio.Task[Any]] = field(default_factory=set)
    parked: set[asyncio.Future[None]] = field(default_factory=set)
    drives_here: Callable[[Claim], None] | None = None
    is_closing: bool = False
    workers: int = 0
    _pool: ThreadPoolExecutor | None = None
    _process: int = field(default_factory=os.getpid)

    def flow(self, name: str | None, *, id: str) -> Flow[Any, Any]:
        """Return the flow of the name.

        Raises:
            UnknownFlowError: This process has none.
        """
        flow = self.flows.get(name) if name is not None else None
        if flow is None:
            raise UnknownFlowError(
                f"The run {id!r} is of the flow {name!r}, which this process does not know: import the module that "
                f"defines it. It knows {', '.join(sorted(self.flows)) or 'none'}.",
                flow_id=id,
                name=name,
            )
        return flow

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads of synchronous steps. They are not asyncio's, which others' work may use up."""
        self.check_process()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_STEP_THREADS, thread_name_prefix="flow-step")
        return self._pool

    def check_process(self) -> None:
        """Leave to a parent what it drives: a forked child has none of its threads and tasks."""
        if self._process != os.getpid():
            self._process, self._pool = os.getpid(), None
            self.drives.clear()
            self.wakers.clear()
            self.leftovers.clear()

    def moved(self, id: str) -> None:
        """Tell those who wait in this process that the run has moved."""
        for waker in list(self.wakers.get(id, ())):
            waker()

    def poke(self, id: str) -> None:
        """Have a drive of the run in this process look at what is stored."""
        drive = self.drives.get(id)
        if drive is not None:
            drive.poke()
        self.moved(id)

    async def dispatch(self, id: str, wake: int, *, at: int | None = None) -> None:
        """Have the run driven: now, or at a time in milliseconds since the epoch, unless no clock ever shows that."""
        if at is not None and at > _LAST_MOMENT:  # others can write any number as `wakeAt`
            return
        moment = None if at is None else datetime.fromtimestamp(at / 1000, timezone.utc)
        await self.dispatcher.dispatch(id, wake=wake_name(wake, now=self.clock.now()), at=moment)

    async def dispatch_again(self, id: str, wake: int) -> None:
        """Have a run driven that was perhaps woken for a moment still to come, by a queue whose clock is ahead.

        The queue takes no second task for that moment. Another is made for when this clock shows it, by the queue's,
        however long a delivery takes.
        """
        early = max(0, wake - self.clock.now())
        at = datetime.fromtimestamp((wake + early + max(early, _DELIVERY_MILLISECONDS)) / 1000, timezone.utc)
        await self.dispatcher.dispatch(id, wake=early_name(wake), at=at)

    async def woken(self, id: str, wake: int | None) -> None:
        """Have a run looked at that was written to from outside: by its drive here, and from `wake` on by another."""
        self.poke(id)
        if wake is not None:
            await self.dispatch(id, wake)

    async def finish(self, image: Image) -> None:
        """Do what is left to do after a run has ended."""
        from .knocking import finish_todo  # which cancels runs, for which there is something left to do

        await finish_todo(self, image)

    def close(self) -> None:
        """End the threads."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def lease_in_milliseconds(lease: timedelta) -> int:
    """Return the lease in milliseconds.

    Raises:
        TypeError: It is not a timedelta.
        ValueError: It is too short to be kept.
    """
    if not isinstance(lease, timedelta):
        raise TypeError(f"lease is a timedelta, not {shown(lease)}")
    if lease < timedelta(seconds=1):
        raise ValueError(f"lease is at least 1 second, since a driver must extend it over a network; not {lease}")
    return int(lease / timedelta(milliseconds=1))
