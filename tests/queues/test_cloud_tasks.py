"""Runs woken by Cloud Tasks, whose API a server of the tests speaks."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.tasks_v2 import CloudTasksAsyncClient, CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import (
    CloudTasksGrpcAsyncIOTransport,
    CloudTasksGrpcTransport,
    CloudTasksRestTransport,
)
from google.cloud.tasks_v2.types import Task

from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import DispatchError, Flows, Retry, Run
from firestore_flowstate.flows.cloud_tasks import CloudTasks
from firestore_flowstate.flows.dispatch import next_hop, wake_name
from tests.queues.cloud_tasks_server import CloudTasksServer, Faults, post_to

QUEUE = "projects/demo/locations/here/queues/flows"
DAY = 24 * 3600 * 1000
LEASE = timedelta(seconds=2)


@asynccontextmanager
async def client_of(server: CloudTasksServer, kind: str) -> AsyncIterator[Any]:
    """Give a client of Google's for the server."""
    if kind == "grpc asyncio":
        channel = grpc.aio.insecure_channel(server.grpc_host)
        yield CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
        await channel.close()
    elif kind == "grpc":
        with grpc.insecure_channel(server.grpc_host) as blocking_channel:
            yield CloudTasksClient(transport=CloudTasksGrpcTransport(channel=blocking_channel))
    else:
        transport = CloudTasksRestTransport(
            host=server.http_host, url_scheme="http", credentials=AnonymousCredentials()
        )
        yield CloudTasksClient(transport=transport)
        transport.close()


async def delivered(_: Task) -> int:
    return 200


@pytest.fixture
async def server() -> AsyncIterator[CloudTasksServer]:
    async with CloudTasksServer(delivered) as server:
        yield server


@pytest.fixture(params=["http", "grpc", "grpc asyncio"])
async def tasks(request: pytest.FixtureRequest, server: CloudTasksServer) -> AsyncIterator[CloudTasks]:
    """The dispatcher, over each of Google's transports."""
    async with client_of(server, request.param) as client:
        tasks = CloudTasks(QUEUE, "https://shop.test/drive", service_account="flows@shop.test", client=client)
        yield tasks
        await tasks.close()


async def test_a_task_carries_the_id_alone(tasks: CloudTasks, server: CloudTasksServer) -> None:
    """It has a token for its address, and the longest deadline that a queue allows."""
    await tasks.dispatch("order/ä", wake="1000-0")
    [(name, task)] = server.created.items()

    assert name.startswith(f"{QUEUE}/tasks/")
    assert {"id": "order/ä"} == json.loads(task.http_request.body)
    assert ("https://shop.test/drive", "POST") == (task.http_request.url, task.http_request.http_method.name)
    token = task.http_request.oidc_token
    assert ("flows@shop.test", "https://shop.test/drive") == (token.service_account_email, token.audience)
    assert timedelta(minutes=30) == task.dispatch_deadline
    assert not task.schedule_time


async def test_one_wake_time_is_one_task(tasks: CloudTasks, server: CloudTasksServer) -> None:
    """It stays one long after it has run. Another wake time, or another run, is another task."""
    for _ in range(3):
        await tasks.dispatch("a", wake="1000-0")
        await server.quiet()
    await asyncio.gather(*(tasks.dispatch("a", wake="2000-0") for _ in range(5)))
    await tasks.dispatch("b", wake="1000-0")

    assert (3, 9) == (len(server.created), len(server.calls))


@pytest.mark.parametrize("refusals", [[14], [8, 13, 10], [14, 14]])
async def test_what_passes_is_tried_again(tasks: CloudTasks, server: CloudTasksServer, refusals: list[int]) -> None:
    """A lost answer is tried again too: the name is taken then, which is what was wanted."""
    server.faults.refusals = list(refusals)
    await tasks.dispatch("a", wake="1000-0")

    assert 1 == len(server.created)


async def test_what_does_not_pass_is_an_error(tasks: CloudTasks, server: CloudTasksServer) -> None:
    """The error comes at once, names the run's id, and keeps the cause."""
    server.faults.refusals = [7]
    with pytest.raises(DispatchError, match=r"'a'.*refused by the test") as caught:
        await tasks.dispatch("a", wake="1000-0")

    assert ("a", 1) == (caught.value.flow_id, len(server.calls))
    assert 403 == caught.value.__cause__.code


async def test_a_queue_that_hangs(tasks: CloudTasks, server: CloudTasksServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again for a while. However many dispatch at once, none waits for others first."""
    with monkeypatch.context() as impatient:
        impatient.setattr("firestore_flowstate.flows.cloud_tasks.CALL_SECONDS", 0.3)
        impatient.setattr("firestore_flowstate.flows.cloud_tasks.RETRY_SECONDS", 1.0)
        server.faults.hangs = True
        dispatches = [asyncio.ensure_future(tasks.dispatch(f"run-{number}", wake="1-0")) for number in range(40)]
        done, pending = await asyncio.wait(dispatches, timeout=20)
        server.faults.hangs = False
    errors = [dispatch.exception() for dispatch in done]
    await tasks.dispatch("run-0", wake="1-0")

    assert not pending
    assert {DispatchError} == {type(error) for error in errors}
    assert {f"run-{number}" for number in range(40)} == {getattr(error, "flow_id", None) for error in errors}
    assert 1 < Counter(server.calls).most_common(1)[0][1] <= 5
    assert 1 == len(server.created)


async def test_a_queue_that_delivers_is_well(tasks: CloudTasks, server: CloudTasksServer) -> None:
    """The check looks at it, and makes no task."""
    server.queues[QUEUE] = "RUNNING"
    server.faults.refusals = [14]
    await tasks.check()

    assert ({}, []) == (server.created, server.calls)


@pytest.mark.parametrize(
    ("state", "refusals", "told"),
    [
        (None, [], "There is no queue projects/demo.*create it"),
        ("PAUSED", [], "is paused, so that it wakes nothing: gcloud tasks queues resume"),
        ("DISABLED", [], "is disabled"),
        ("RUNNING", [7], r"cannot be checked: these credentials need roles/cloudtasks\.viewer"),
        ("RUNNING", [12], "cannot be reached: .*refused by the test"),
    ],
)
async def test_a_queue_that_wakes_nothing_is_an_error(
    tasks: CloudTasks, server: CloudTasksServer, state: str | None, refusals: list[int], told: str
) -> None:
    """The error tells apart a queue that is missing, paused, not allowed or out of order."""
    server.queues.update({} if state is None else {QUEUE: state})
    server.faults.refusals = list(refusals)
    with pytest.raises(DispatchError, match=told):
        await tasks.check()


async def test_several_queues_by_a_hash(server: CloudTasksServer) -> None:
    """The code of docs/scale.md spreads ids evenly. A wake time is one task, whoever asks."""
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "class Queues" in block]
    found: dict[str, Any] = {}
    exec(code, found)  # noqa: S102  # the page of ours
    names = [f"{QUEUE}-{number}" for number in range(3)]
    server.queues.update(dict.fromkeys(names, "RUNNING"))
    async with client_of(server, "grpc asyncio") as client:
        dispatchers = [
            found["Queues"](*(CloudTasks(name, "https://shop.test/drive", client=client) for name in names))
            for _ in range(2)
        ]
        for queues in dispatchers:
            await queues.check()
            for number in range(300):
                await queues.dispatch(f"run-{number}", wake="1000-0")
            await queues.close()
    spread = Counter(name.rpartition("/tasks/")[0] for name in server.created)

    assert 300 == len(server.created)
    assert set(names) == set(spread)
    assert min(spread.values()) > 80


def test_hops_are_the_same_for_all() -> None:
    """Whoever names a wake time alike asks for the same moment, at most 30 days ahead. Each hop has another name."""
    wake, now = 200 * DAY, 0
    names, moments = [], []
    while now < wake:
        moment = next_hop(wake, now=now)
        assert 0 < moment - now < 30 * DAY
        assert (moment, wake_name(wake, now=now)) == (next_hop(wake, now=now + 1), wake_name(wake, now=now + 1))
        names.append(wake_name(wake, now=now))
        moments.append(moment)
        now = moment - 500  # a clock that is behind
        if moment == wake:
            break

    assert 7 == len(set(names)) == len(names)
    assert sorted(set(moments)) == moments
    assert wake == moments[-1]


async def test_a_far_wake_time_is_reached_in_hops(tasks: CloudTasks, server: CloudTasksServer) -> None:
    """A queue takes tasks 30 days ahead."""
    now = datetime.now(timezone.utc)
    await tasks.dispatch("a", wake="1-0", at=now + timedelta(days=1))
    await tasks.dispatch("a", wake="2-6", at=now + timedelta(days=200))
    near, hop = (task.schedule_time for task in server.created.values())

    assert abs(near - (now + timedelta(days=1))) < timedelta(seconds=1)
    assert abs(hop - (now + timedelta(days=200 - 6 * 29))) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("queue", "url", "account"),
    [
        ("flows", "https://x/drive", None),
        (QUEUE, "/drive", None),
        (QUEUE, "http://x/drive", "a@b"),
        (QUEUE, "https://x/drive", ""),
        (QUEUE, "https://x/drive", "notanemail"),
        (QUEUE, "https://x/drive", "flows@shop.test\n"),
        (QUEUE + "\n", "https://x/drive", None),
        (QUEUE + " q", "https://x/drive", None),
        (QUEUE + "_b", "https://x/drive", None),
        (QUEUE + "x" * 100, "https://x/drive", None),
        ("projects/p /locations/l/queues/q", "https://x/drive", None),
        (QUEUE, "https://", None),
        (QUEUE, "https:///drive", None),
        (QUEUE, "https://:80/drive", None),
        (QUEUE, "https:// x y", None),
        (QUEUE, "https://x/drive\n", None),
        (QUEUE, "https://x/dri ve", None),
        (QUEUE, "https://x/drive#f", None),
        (QUEUE, "https://x:port/drive", None),
        (QUEUE, "https://[::1/drive", None),
        (QUEUE, "https://x/é", None),
    ],
    ids=ascii,
)
def test_addresses_are_looked_at_early(queue: str, url: str, account: str | None) -> None:
    """A token is not sent in the clear."""
    with pytest.raises(ValueError):
        CloudTasks(queue, url, service_account=account)


@pytest.mark.parametrize("queue", [QUEUE, "projects/shop.test:p-1/locations/europe-west1/queues/Q-1"])
@pytest.mark.parametrize("url", ["https://x", "https://shop.test:8443/a/drive?b=c%20d", "http://[::1]:80/drive"])
def test_addresses_that_are_taken(queue: str, url: str) -> None:
    """A project may be one of a domain, and an address may have a port and a query."""
    tasks = CloudTasks(queue, url)

    assert (queue, url) == (tasks.queue, tasks.url)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"queue": None}, "queue is a text, not None"),
        ({"url": None}, "url is a text, not None"),
        ({"service_account": 5}, "service_account is a text or None, not 5"),
        ({"client": "x"}, "client is a CloudTasksClient or CloudTasksAsyncClient, or None, not 'x'"),
    ],
)
def test_an_argument_of_another_type_is_named(changes: dict[str, Any], says: str) -> None:
    """The error names it. It may be None, if it comes from a variable that is not set."""
    with pytest.raises(TypeError, match=says):
        CloudTasks(**({"queue": QUEUE, "url": "https://x/drive"} | changes))


class Noting(CloudTasks):
    """Notes for which wake times it was asked."""

    def __init__(self, asked: set[tuple[str, str]], client: Any) -> None:
        super().__init__(QUEUE, "http://any/drive", client=client)
        self.asked = asked

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        self.asked.add((id, wake))
        await super().dispatch(id, wake=wake, at=at)


def shop(flows: Flows, begun: Counter[str]) -> None:
    """Add the flow of the runs below: 3 steps, one of which fails once, an answer, a sleep, and two in parallel."""

    @flows.flow(name="shop")
    async def shop(run: Run, item: str) -> list[Any]:
        async def once(name: str) -> str:
            begun[f"{run.id}:{name}"] += 1
            await asyncio.sleep(0)
            return f"{item} {name}"

        async def failing() -> str:
            begun[f"{run.id}:failing"] += 1
            if begun[f"{run.id}:failing"] == 1:
                raise OSError("not yet")
            return "at last"

        first = await run.step("first", once, "first")
        second = await run.options(retry=Retry(3, first=0.01, jitter=False)).step("failing", failing)
        answer = await run.interrupt("approve", bool)
        await run.sleep("nap", 7.0)
        both = await asyncio.gather(run.step("left", once, "left"), run.step("right", once, "right"))
        return [first, second, answer, *both]


async def wait_for_status(flows: Flows, id: str, blocked_on: str) -> None:
    while True:
        state = await flows.store.load(id)
        run = state.operation.metadata["run"] if state is not None else {"owner": "?"}
        if state is not None and "owner" not in run and blocked_on in run.get("waits", {}):
            return
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["http", "grpc asyncio"])
async def test_a_run_takes_a_task_for_each_of_its_wake_times(kind: str) -> None:
    """They are its start, the answer and the end of its sleep: three, however many processes take deliveries."""
    await check_runs(kind, Faults(), runs=1, tasks_each=3)


async def test_an_unkind_queue() -> None:
    """It has duplicates, delays, lost answers, refusals and cut deliveries. Each run ends right, each step runs once.

    There is one task for each wake time, however often and by however many it is asked for. A delivery that finds the
    run busy asks for one more, at the end of the lease.
    """
    faults = Faults(duplicates=0.5, late=0.3, refusals=[14, 8, 13, 14, 10], deadline=0.25, slowdown=0.02)
    server = await check_runs("grpc asyncio", faults, runs=12, tasks_each=None)

    assert server.deliveries.total() > len(server.created)


async def check_runs(kind: str, faults: Faults, *, runs: int, tasks_each: int | None) -> CloudTasksServer:
    """Have runs driven by two processes' flows behind the queue, and check how each ends."""
    store, begun, asked = MemoryFlowStateStore(), Counter[str](), set[tuple[str, str]]()
    apps: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(CloudTasksServer(post_to(apps), faults=faults))
        client = await stack.enter_async_context(client_of(server, kind))
        both = [Flows(store, dispatcher=Noting(asked, client), lease=LEASE) for _ in range(2)]
        for number, flows in enumerate(both):
            shop(flows, begun)
            apps[f"host-{number}"] = flows.app(verify=None)
        server._deliver = post_to(apps)
        outside = Flows(store, dispatcher=Noting(asked, client))
        handles = [await outside.start("shop", f"item-{number}", id=f"run-{number}") for number in range(runs)]

        async def answer(id: str) -> None:
            await wait_for_status(outside, id, "approve")
            await outside.resume(id, True, step="approve", key="an answer")

        await asyncio.gather(*(answer(handle.id) for handle in handles))
        results = await asyncio.gather(*(handle.result(timeout=60) for handle in handles))
        await asyncio.gather(*(server._going))
        for flows in (*both, outside):
            await flows.close()
    expected = [
        [f"item-{number} first", "at last", True, f"item-{number} left", f"item-{number} right"]
        for number in range(runs)
    ]

    assert expected == results
    assert {1} == {count for key, count in begun.items() if not key.endswith("failing")}
    assert {2} == {count for key, count in begun.items() if key.endswith("failing")}
    assert len(asked) == len(server.created)
    if tasks_each is not None:
        assert runs * tasks_each == len(server.created)
    return server
