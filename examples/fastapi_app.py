"""A FastAPI app that keeps flow states, with a router that shows their status.

    uvicorn --app-dir examples fastapi_app:app

The lifespan enters the store on the loop that serves the requests, so that calls go over a channel of that loop, and
closes it at the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateExistsError,
    FlowStateQuery,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the store open while the app runs."""
    async with FirestoreFlowStateStore() as app.state.flow_states:
        yield


def flow_states(request: Request) -> FirestoreFlowStateStore:
    """Return the store of the app."""
    store: FirestoreFlowStateStore = request.app.state.flow_states
    return store


Store = Annotated[FirestoreFlowStateStore, Depends(flow_states)]
app = FastAPI(lifespan=lifespan)
status = APIRouter(prefix="/status")


@app.put("/runs/{id}")
async def start(id: str, store: Store) -> dict[str, Any]:
    """Start a flow under the id. Answer 409 if there is one, which goes on."""
    try:
        await store.create(id, FlowState.start(name="order", flow_id=id))
    except FlowStateExistsError:
        raise HTTPException(409, "there is such a run already") from None
    return {"id": id}


@app.put("/runs/{id}/steps/{step}")
async def run_step(id: str, step: str, store: Store) -> dict[str, Any]:
    """Note that a step has run. Several requests may do so at once."""
    state = await store.modify(id, lambda state: state.cache.update({step: CacheEntry(value=True)}))
    return {"steps": len(state.cache)}


@status.get("")
async def runs(store: Store, token: str | None = None) -> dict[str, Any]:
    """Show a page of runs, newest first, without reading what their steps returned."""
    page = await store.list_summaries(FlowStateQuery(continuation_token=token))
    return {"runs": {run.id: run.status for run in page.summaries}, "next": page.continuation_token}


@status.get("/{id}")
async def run(id: str, store: Store) -> dict[str, Any]:
    """Show how far a flow is."""
    state = await store.load(id)
    if state is None:
        raise HTTPException(404, "there is no such run")
    return {"status": state.status, "steps": list(state.cache)}


app.include_router(status)
