"""Durable flows in a function that functions-framework serves over ASGI: it awaits `flows.drive`."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import functions_framework.aio
from google.auth.credentials import AnonymousCredentials
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksRestTransport

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.cloud_tasks import CloudTasks

transport = CloudTasksRestTransport(
    host=os.environ["QUEUE_HOST"], url_scheme="http", credentials=AnonymousCredentials()
)
tasks = CloudTasks(
    "projects/demo/locations/here/queues/flows", os.environ["DRIVE_URL"], client=CloudTasksClient(transport=transport)
)
flows = Flows(FirestoreFlowStateStore(), dispatcher=tasks, lease=timedelta(seconds=2))


async def work(seconds: float) -> float:
    print(f"working for {seconds} s", flush=True)
    await asyncio.sleep(seconds)
    return seconds


@flows.flow
async def working(run: Run, seconds: list[float]) -> list[float]:
    return [await run.step("work", work, each) for each in seconds]


@functions_framework.aio.http
async def drive(request: Any) -> dict[str, Any]:
    """Go on with a run: what the queue calls."""
    body = await request.json()
    return {"outcome": await flows.drive(body["id"], budget=6)}


@functions_framework.aio.http
async def drive_long(request: Any) -> dict[str, Any]:
    """Go on with a run for longer than a test takes."""
    body = await request.json()
    return {"outcome": await flows.drive(body["id"], budget=3600)}
