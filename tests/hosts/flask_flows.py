"""Durable flows in Flask, woken by the queue of the tests. Tests kill the workers."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

from flask import Flask, request
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
app = Flask(__name__)
flows = Flows(FirestoreFlowStateStore(), dispatcher=tasks, lease=timedelta(seconds=2))
blocking = flows.blocking
budget = float(os.environ.get("BUDGET", "6"))  # seconds


def work(seconds: float) -> float:
    print(f"working for {seconds} s", flush=True)
    time.sleep(seconds)
    return seconds


@flows.flow
async def working(run: Run, seconds: list[float]) -> list[float]:
    return [await run.step("work", work, each) for each in seconds]


@app.post("/start/<id>")
def start(id: str) -> dict[str, Any]:
    return {"id": blocking.start(working, request.get_json(), id=id).id}


@app.post("/drive")
def drive() -> dict[str, Any]:
    return {"outcome": blocking.drive(request.get_json()["id"], budget=budget)}


@app.post("/sweep")
def sweep() -> dict[str, Any]:
    return {"dispatched": blocking.sweep()}
