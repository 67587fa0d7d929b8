"""Write an article by a model, have a person approve it, and publish it a day later: a durable flow in FastAPI.

    pip install fastapi uvicorn
    uvicorn --app-dir examples/article app:app

The process may die at any moment, and nothing runs while the article waits. The worker of the next process goes on.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path
from model import make_outline, put_online, write_section
from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore, FlowStateNotFoundError
from firestore_flowstate.flows import Flows, NotWaitingError, Retry, Run

store = FirestoreFlowStateStore()
flows = Flows(store)
Id = Annotated[str, Path(pattern="^[a-z0-9-]{1,99}$")]


class Topic(BaseModel):
    """What to write about."""

    title: str
    embargo: timedelta = timedelta(days=1)


class Approval(BaseModel):
    """What the editor says."""

    ok: bool


@flows.flow
async def article(run: Run, topic: Topic) -> str:
    """Return the address of the article, or that it was rejected."""
    outline = await run.options(retry=Retry(5)).step("outline", make_outline, topic.title)
    sections = await run.options(retry=Retry(5)).map("draft", write_section, outline, at_once=3)
    answer = await run.interrupt("approve", Approval, show=sections, timeout=timedelta(days=3))
    if not answer.ok:
        return "rejected"
    await run.sleep("embargo", topic.embargo)
    return await run.step("publish", put_online, topic.title, sections)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Drive what is due while the app runs. What is under way at its end is handed over."""
    async with store, flows, flows.worker():
        yield


app = FastAPI(lifespan=lifespan)


@app.put("/articles/{id}", status_code=202)
async def write(id: Id, topic: Topic) -> None:
    """Start the article. The same id again changes nothing."""
    await flows.start(article, topic, id=id)


@app.post("/articles/{id}/approval", status_code=202)
async def approve(id: Id, approval: Approval) -> None:
    """Answer the article that waits. It goes on in a moment."""
    try:
        await flows.resume(id, approval, step="approve")
    except (FlowStateNotFoundError, NotWaitingError) as error:
        raise HTTPException(404 if isinstance(error, FlowStateNotFoundError) else 409, str(error)) from error


@app.get("/articles/{id}")
async def show(id: Id) -> dict[str, Any]:
    """Return how far the article is, with what its steps have returned, and what is to be approved."""
    if (state := await store.load(id)) is None:
        raise HTTPException(404, "there is no such article")
    return {"status": state.status, "steps": {step: entry.value for step, entry in state.cache.items()}}
