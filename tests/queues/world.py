"""Processes with flows, a queue, and a clock that is moved for all of them: months go by in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any, Final

import grpc
from google.cloud.tasks_v2 import CloudTasksAsyncClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import Flows
from firestore_flowstate.flows.cloud_tasks import CloudTasks
from firestore_flowstate.testing.virtual_clock import VirtualClock, VirtualTimer
from tests.queues.cloud_tasks_server import CloudTasksServer, Deliver, Faults, post_to

QUEUE: Final = "projects/demo/locations/here/queues/flows"
DAY: Final = 24 * 3600
CALM: Final = 12  # looks in a row, a millisecond apart, at which nothing has happened


class Behind(VirtualClock):
    """A clock that is behind another one."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        super().__init__(0)
        self._clock = clock
        self._behind = seconds

    @property
    def seconds(self) -> float:
        return self._clock.seconds - self._behind

    def now(self) -> int:
        return round(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    def call_later(self, seconds: float, callback: Any, *, background: bool = False) -> VirtualTimer:
        return self._clock.call_later(seconds, callback, background=background)


class Tasks(CloudTasks):
    """Notes the calls that are under way, of all."""

    under_way = 0

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        Tasks.under_way += 1
        try:
            await super().dispatch(id, wake=wake, at=at)
        finally:
            Tasks.under_way -= 1


class World:
    """Two processes' flows and one of a front end, a queue, and the time that they go by."""

    def __init__(self, clock: VirtualClock, server: CloudTasksServer, flows: list[Flows]) -> None:
        self.clock = clock
        self.server = server
        self.hosts, self.outside = flows[:-1], flows[-1]
        self.began = clock.seconds

    async def settle(self) -> None:
        """Return when nothing happens before the clock is moved."""
        calm, before = 0, None
        while calm < CALM:
            server = self.server
            now = (len(server.calls), server.deliveries.total(), server.statuses.total(), server.at_work)
            drives = [drive for flows in self.hosts for drive in flows._engine.drives.values()]
            goes_on = Tasks.under_way or now != before or not all(drive.is_idle for drive in drives)
            calm, before = 0 if goes_on else calm + 1, now
            await asyncio.sleep(0.001)

    async def pass_time(self, days: float) -> None:
        """Let so many days go by since the beginning."""
        end = self.clock.call_later(self.began + days * DAY - self.clock.seconds, lambda: None)
        while True:
            await self.settle()
            if self.clock.seconds >= end.at:
                return
            self.clock.advance()

    async def sweep(self, *, minutes: int) -> None:
        """Let so many minutes go by, with a sweep in each."""
        for _ in range(minutes):
            await self.pass_time((self.clock.seconds - self.began + 60) / DAY)
            await self.hosts[0].sweep()

    def days(self) -> list[float]:
        """Return when tasks were to be delivered, in days since the beginning, in order."""
        moments = [task.schedule_time for task in self.server.created.values()]
        return sorted(round((at.timestamp() - self.began) / DAY, 3) if at else 0.0 for at in moments)


@asynccontextmanager
async def world(
    add: Callable[[Flows], None],
    faults: Faults | None = None,
    *,
    behind: float = 0.0,
    deliver: Deliver | None = None,
    seed: int = 1,
) -> AsyncIterator[World]:
    """Give a world.

    Args:
        add: Adds the flows that the processes know.
        faults: How unkind the queue is.
        behind: How many seconds the clocks of those who drive are behind that of the queue and of the front end.
        deliver: Takes the deliveries, in place of those who drive.
        seed: The seed that the faults are drawn from.
    """
    clock, store = VirtualClock(), MemoryFlowStateStore()
    apps: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            CloudTasksServer(deliver or post_to(apps), faults=faults, clock=clock, seed=seed)
        )
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.grpc_host))
        client = CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        flows: list[Flows] = []
        for number in range(3):
            own = Behind(clock, behind if number < 2 else 0.0)
            tasks = Tasks(QUEUE, "http://any/drive", client=client)
            flows.append(Flows(store, dispatcher=tasks))
            tasks._clock = flows[-1]._engine.clock = own  # type: ignore[assignment]  # SystemClock is its default
            add(flows[-1])
            if number < 2:
                apps[f"host-{number}"] = flows[-1].app(verify=None)
        if deliver is None:
            server._deliver = post_to(apps)
        yield World(clock, server, flows)
        for each in flows:
            await each.close()
