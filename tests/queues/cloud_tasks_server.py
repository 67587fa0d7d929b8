"""A server that speaks the Cloud Tasks API, over gRPC and over HTTP, and delivers as that does: at least once.

What it does beside the documented API is what Google says of production: a name is refused while its task is there and
for a day after; a delivery that does not get a 2xx comes again after a pause that doubles; some deliveries come twice,
some late, and so in another order; a handler that takes longer than the deadline is called again meanwhile; errors
slow down the whole queue.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import uvicorn
from google.api_core.exceptions import from_grpc_status
from google.cloud.tasks_v2.types import CreateTaskRequest, GetQueueRequest, Queue, Task
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firestore_flowstate.flows.clock import Clock, SystemClock

SERVICE = "google.cloud.tasks.v2.CloudTasks"
MOST_AHEAD_SECONDS = 30 * 24 * 3600
NAME_IS_USED_SECONDS = 24 * 3600
Deliver = Callable[[Task], Awaitable[int]]


@dataclass
class Faults:
    """How unkind the queue is.

    Attributes:
        duplicates: The share of deliveries that come twice.
        late: Up to how many seconds a delivery is late.
        refusals: The next calls that create a task, which are answered by these statuses instead; 14 after it was
            created all the same, as if the answer had been lost.
        deadline: Seconds after which a delivery is given up and comes again; None: what the task says.
        backoff: Seconds before a failed delivery comes again, doubled each time.
        slowdown: Seconds for which an error keeps all deliveries back.
        hangs: Whether calls get no answer, for as long as it says so.
        answer: The status that calls get, for as long as it is there: 5 if the queue was deleted, 7 without permission.
        is_paused: Whether nothing is delivered, for as long as it says so.
    """

    duplicates: float = 0.0
    late: float = 0.0
    refusals: list[int] = field(default_factory=list)
    deadline: float | None = None
    backoff: float = 0.1
    slowdown: float = 0.0
    hangs: bool = False
    answer: int | None = None
    is_paused: bool = False


class RefusedError(Exception):
    """The API answers by an error."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class CloudTasksServer:
    """The queue, and its API at `grpc_host` and `http_host`.

    Args:
        deliver: Calls a task's handler, and returns the status of its answer.
        faults: How unkind the queue is.
        seed: The seed that the faults are drawn from.
        clock: The time that it goes by.

    Attributes:
        created: The tasks by their names. A name that was used again has the last one.
        ended: When the last delivery of a task has succeeded, in seconds.
        counts: How many tasks have had a name.
        queues: The states of the queues that can be looked at, by their names.
        calls: The names of the tasks that calls were to create.
        deliveries: How often a task was delivered.
        statuses: How often a handler has answered by a status. 504 is an answer that did not come.
        at_work: How many deliveries wait for their answer.
    """

    def __init__(
        self, deliver: Deliver, *, faults: Faults | None = None, seed: int = 1, clock: Clock | None = None
    ) -> None:
        self.created: dict[str, Task] = {}
        self.ended: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.at_work = 0
        self.queues: dict[str, str] = {}
        self.calls: list[str] = []
        self.deliveries: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.faults = faults or Faults()
        self._deliver = deliver
        self._random = random.Random(seed)
        self._going: set[asyncio.Task[None]] = set()
        self._waiting: set[asyncio.Task[None]] = set()
        self._slow_until = 0.0
        self._clock = clock or SystemClock()
        self._grpc = grpc.aio.server()
        self.grpc_host = ""
        self.http_host = ""

    async def __aenter__(self) -> CloudTasksServer:
        handler = grpc.unary_unary_rpc_method_handler(
            self._create_by_grpc,
            request_deserializer=CreateTaskRequest.deserialize,
            response_serializer=Task.serialize,
        )
        looking = grpc.unary_unary_rpc_method_handler(
            self._get_by_grpc,
            request_deserializer=GetQueueRequest.deserialize,
            response_serializer=Queue.serialize,
        )
        handlers = {"CreateTask": handler, "GetQueue": looking}
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.grpc_host = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        await self._grpc.start()
        path = "/v2/projects/{project}/locations/{location}/queues/{queue}"
        app = Starlette(
            routes=[
                Route(f"{path}/tasks", self._create_by_http, methods=["POST"]),
                Route(path, self._get_by_http, methods=["GET"]),
            ]
        )
        self._http = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
        self._serving = asyncio.ensure_future(self._http._serve())
        while not self._http.started:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)
        self.http_host = f"127.0.0.1:{self._http.servers[0].sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for going in self._going:
            going.cancel()
        await asyncio.gather(*self._going, return_exceptions=True)
        self._http.should_exit = True
        await self._serving
        await self._grpc.stop(None)

    async def quiet(self) -> None:
        """Wait until all that is due has been delivered."""
        while self._going:
            await asyncio.wait(self._going, return_when=asyncio.FIRST_COMPLETED)

    def purge(self) -> None:
        """Delete the tasks that wait, as ``gcloud tasks queues purge`` does. Their names stay used."""
        for going in self._waiting:
            going.cancel()
        for name in self.created:
            self.ended.setdefault(name, self._now())

    # The API

    async def _create_by_grpc(self, request: CreateTaskRequest, context: Any) -> Task:
        try:
            await self._hang(request.task.name)
            return self._create(request)
        except RefusedError as refused:
            await context.abort(refused.code, refused.message)
            raise

    async def _create_by_http(self, request: Request) -> Response:
        parts = request.path_params
        parent = f"projects/{parts['project']}/locations/{parts['location']}/queues/{parts['queue']}"
        task = Task.from_json(json.dumps((await request.json())["task"]))
        try:
            await self._hang(task.name)
            created = self._create(CreateTaskRequest(parent=parent, task=task))
        except RefusedError as refused:
            return _refused(refused)
        return Response(Task.to_json(created, use_integers_for_enums=False), media_type="application/json")

    async def _hang(self, name: str) -> None:
        if self.faults.hangs:
            self.calls.append(name)
            while self.faults.hangs:  # noqa: ASYNC110  # tests set it, from any thread
                await asyncio.sleep(0.05)
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "too late")

    async def _get_by_grpc(self, request: GetQueueRequest, context: Any) -> Queue:
        try:
            return self._get(request.name)
        except RefusedError as refused:
            await context.abort(refused.code, refused.message)
            raise

    async def _get_by_http(self, request: Request) -> Response:
        parts = request.path_params
        name = f"projects/{parts['project']}/locations/{parts['location']}/queues/{parts['queue']}"
        try:
            queue = self._get(name)
        except RefusedError as refused:
            return _refused(refused)
        return Response(Queue.to_json(queue, use_integers_for_enums=False), media_type="application/json")

    def _get(self, name: str) -> Queue:
        self._refuse()
        if name not in self.queues:
            raise RefusedError(grpc.StatusCode.NOT_FOUND, "Requested entity was not found.")
        return Queue(name=name, state=self.queues[name])

    def _refuse(self) -> None:
        refusal = self.faults.refusals.pop(0) if self.faults.refusals else None
        if refusal is not None:
            raise RefusedError(_CODES[refusal], "refused by the test")

    def _create(self, request: CreateTaskRequest) -> Task:
        task = request.task
        self.calls.append(task.name)
        if self.faults.answer is not None:
            raise RefusedError(_CODES[self.faults.answer], "refused by the test")
        refusal = self.faults.refusals.pop(0) if self.faults.refusals else None
        if refusal is not None and refusal != 14:
            raise RefusedError(_CODES[refusal], "refused by the test")
        self._check(request)
        self.created[task.name] = task
        self.ended.pop(task.name, None)
        self.counts[task.name] += 1
        self._begin(task)
        if refusal is not None:
            raise RefusedError(_CODES[refusal], "the answer is lost")
        return task

    def _check(self, request: CreateTaskRequest) -> None:
        task = request.task
        if not task.name.startswith(f"{request.parent}/tasks/"):
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the task's name is not in the queue")
        used = self.ended.get(task.name, self._now()) + NAME_IS_USED_SECONDS > self._now()
        if task.name in self.created and used:
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, "the task exists, or existed")
        if len(Task.serialize(task)) > 100 * 1024:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the task is larger than 100 KB")
        if self._ahead(task) > MOST_AHEAD_SECONDS:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the task is more than 30 days ahead")
        if not 15 <= task.dispatch_deadline.total_seconds() <= 1800:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "the deadline is 15 s to 30 min")

    # Deliveries

    def _begin(self, task: Task) -> None:
        copies = 2 if self._random.random() < self.faults.duplicates else 1
        for _ in range(copies):
            going = asyncio.ensure_future(self._go(task, self._random.uniform(0, self.faults.late)))
            for tasks in (self._going, self._waiting):
                tasks.add(going)
                going.add_done_callback(tasks.discard)

    async def _go(self, task: Task, late: float) -> None:
        if (seconds := max(0.0, self._ahead(task)) + late) > 0:
            await self._clock.sleep(seconds)
        pause, here = self.faults.backoff, asyncio.current_task()
        assert here is not None
        while True:
            if (slow := self._slow_until - self._now()) > 0:
                await self._clock.sleep(slow)
            while self.faults.is_paused:
                await self._clock.sleep(self.faults.backoff)
            self._waiting.discard(here)
            self.deliveries[task.name] += 1
            self.at_work += 1
            # A handler that is given up goes on, as over a connection that is cut.
            delivery = asyncio.ensure_future(self._deliver(task))
            deadline = self.faults.deadline or task.dispatch_deadline.total_seconds()
            status = 504
            with suppress(asyncio.TimeoutError, httpx.HTTPError):
                status = await asyncio.wait_for(asyncio.shield(delivery), deadline)
            self.at_work -= 1
            self.statuses[status] += 1
            if 200 <= status < 300:
                self.ended[task.name] = self._now()
                return
            self._waiting.add(here)
            self._slow_until = self._now() + self.faults.slowdown
            await self._clock.sleep(pause)
            pause *= 2

    def _now(self) -> float:
        return self._clock.now() / 1000

    def _ahead(self, task: Task) -> float:
        moment = task.schedule_time
        return float(moment.timestamp() - self._now()) if moment else 0.0


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _refused(refused: RefusedError) -> Response:
    status = from_grpc_status(refused.code, "").code or 500
    error = {"code": status, "message": refused.message, "status": refused.code.name}
    return JSONResponse({"error": error}, status)


def post_to(apps: dict[str, Any]) -> Deliver:
    """Return what calls handlers in this process: ASGI applications, by the hosts of their addresses.

    The host ``any`` stands for each in turn, as a load balancer takes them.
    """
    clients = {
        host: httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), timeout=60)
        for host, app in apps.items()
    }
    numbers = itertools.count()

    async def deliver(task: Task) -> int:
        request = task.http_request
        host = httpx.URL(request.url).host
        if host == "any":
            host = list(clients)[next(numbers) % len(clients)]
        answer = await clients[host].post(request.url, content=request.body, headers=dict(request.headers))
        return answer.status_code

    return deliver
