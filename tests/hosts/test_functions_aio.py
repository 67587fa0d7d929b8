"""Durable flows under functions-framework's aio, which takes an async function and has no lifespan."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from pathlib import Path

import httpx
from google.auth.credentials import AnonymousCredentials
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksRestTransport
from google.cloud.tasks_v2.types import Task

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows import Flows
from firestore_flowstate.flows.cloud_tasks import CloudTasks
from tests.hosts.serving import NO_KEEPING, Server
from tests.queues.cloud_tasks_server import CloudTasksServer
from tests.support.ports import Port

QUEUE = "projects/demo/locations/here/queues/flows"


async def test_a_function_awaits_drives(
    host_environment: dict[str, str], flow_state_settings: FlowStateSettings
) -> None:
    """Twenty runs are driven at once on its one loop. One that outlasts a request goes on in the next."""
    settings = flow_state_settings.model_copy(
        update={"project": host_environment["GOOGLE_CLOUD_PROJECT"], "collection": "genkit-flows"}
    )
    expected = {f"run-{number}": [0.01, 0.02] for number in range(19)} | {"long": [0.7] * 4}
    port = Port()
    url = f"http://{port.host}/"

    async def deliver(task: Task) -> int:
        request = task.http_request
        return (await http.post(request.url, content=request.body, headers=dict(request.headers))).status_code

    async with httpx.AsyncClient(timeout=60, limits=NO_KEEPING) as http, CloudTasksServer(deliver) as queue:
        variables = {**host_environment, "QUEUE_HOST": queue.http_host, "DRIVE_URL": url}
        source = str(Path(__file__).with_name("functions_flows.py"))
        options = ("--target", "drive", "--source", source, "--port", "{port}", "--host", "127.0.0.1", "--asgi")
        with Server("functions_framework", *options, environment=variables, port=port) as server:
            await asyncio.to_thread(server.wait)
            transport = CloudTasksRestTransport(
                host=queue.http_host, url_scheme="http", credentials=AnonymousCredentials()
            )
            tasks = CloudTasks(QUEUE, url, client=CloudTasksClient(transport=transport))
            async with FirestoreFlowStateStore(settings) as store, Flows(store, dispatcher=tasks) as flows:
                await asyncio.gather(*(flows.start("working", each, id=id) for id, each in expected.items()))
                results = await asyncio.gather(*(flows.result(id, timeout=60) for id in expected))
                long = await store.load("long")
            transport.close()

    assert list(expected.values()) == results
    assert {200} == set(queue.statuses)
    assert long is not None
    assert len(long.executions) > 1


async def test_sigterm_hands_over(host_environment: dict[str, str], flow_state_settings: FlowStateSettings) -> None:
    """SIGTERM comes in mid-drive, and nothing has entered the flows. The step in flight is recorded within 10 s."""
    settings = flow_state_settings.model_copy(
        update={"project": host_environment["GOOGLE_CLOUD_PROJECT"], "collection": "genkit-flows"}
    )
    told: list[str] = []

    async def deliver(task: Task) -> int:
        told.append(json.loads(task.http_request.body)["id"])
        return 200

    async with CloudTasksServer(deliver) as queue, FirestoreFlowStateStore(settings) as store:
        variables = {**host_environment, "QUEUE_HOST": queue.http_host, "DRIVE_URL": "http://127.0.0.1:1/"}
        source = str(Path(__file__).with_name("functions_flows.py"))
        options = ("--target", "drive_long", "--source", source, "--port", "{port}", "--host", "127.0.0.1", "--asgi")
        await Flows(store, dispatcher=Nowhere()).start("working", [0.1, 2.0, 3600.0], id="x")
        with Server("functions_framework", *options, environment=variables) as server:
            await asyncio.to_thread(server.wait)
            answer, _ = await server.ended_while("/", {"id": "x"}, says="working for 2.0 s", within=10)
        await queue.quiet()
        state = await store.load("x")

    assert {"outcome": "handed over"} == answer.json()
    assert state is not None
    assert {"work", "work-1"} == set(state.cache)
    assert "owner" not in state.operation.metadata["run"]
    assert state.wakeAt <= time.time() * 1000
    assert ["x"] == told


class Nowhere:
    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Wake nobody."""

    async def close(self) -> None:
        """Nothing is held."""
