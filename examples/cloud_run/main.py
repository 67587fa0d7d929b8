"""A durable flow on Cloud Run: FastAPI in uvicorn, woken by Cloud Tasks. The commands that set it up: deploy.sh.

    FIRESTORE_EMULATOR_HOST=127.0.0.1:8080 uvicorn --app-dir examples/cloud_run main:app

Without FLOWS_QUEUE, as on a developer's machine, runs are driven in this process. Anybody may call /orders: let your
own sign-in look at who does. Oidc looks at who calls /flows.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Dispatcher, Flows, NotWaitingError, Retry, Run
from firestore_flowstate.flows.cloud_tasks import CloudTasks
from firestore_flowstate.flows.http import Oidc

QUEUE = os.environ.get("FLOWS_QUEUE", "")  # projects/PROJECT/locations/REGION/queues/flows
URL = os.environ.get("FLOWS_URL", "http://localhost/flows/drive")
ACCOUNT = os.environ.get("FLOWS_ACCOUNT", "nobody@example.com")

dispatcher: Dispatcher | None = CloudTasks(QUEUE, URL, service_account=ACCOUNT) if QUEUE else None
flows = Flows(FirestoreFlowStateStore(), dispatcher=dispatcher)


class Order(BaseModel):
    """What is ordered."""

    item: str
    cents: int


async def charge(order: Order) -> str:
    """Stand for a call of another service."""
    return f"receipt for {order.cents} cents"


@flows.flow
async def buy(run: Run, order: Order) -> str:
    """Charge an order that somebody confirms within a week."""
    if not await run.interrupt("confirm", bool, show=order, timeout=timedelta(days=7)):
        return "cancelled"
    return await run.options(retry=Retry(5)).step("charge", charge, order)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the store and the flows open while the app runs. SIGTERM hands runs over."""
    async with flows.store, flows:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/flows", flows.app(verify=Oidc(audience=URL, service_account=ACCOUNT), budget=timedelta(minutes=4)))


@app.post("/orders/{id}")
async def order(id: str, order: Order) -> dict[str, str]:
    """Start a run under the id. The same again does nothing more."""
    return {"id": (await flows.start(buy, order, id=id)).id}


@app.post("/orders/{id}/confirmation")
async def confirm(id: str, ok: bool) -> None:
    """Answer a run."""
    try:
        await flows.resume(id, ok, step="confirm")
    except NotWaitingError:
        raise HTTPException(409, "it was confirmed already") from None


@app.get("/orders/{id}")
async def show(id: str) -> dict[str, str]:
    """Show how far a run is."""
    state = await flows.handle(id).state()
    if state is None:
        raise HTTPException(404, "there is no such order")
    return {"status": state.status}
