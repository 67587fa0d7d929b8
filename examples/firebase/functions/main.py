"""A durable flow on Firebase: an article is drafted, a person approves it, and it is published.

    firebase deploy

Nothing runs while a run waits: it is woken by the task queue of `drive`, and by `sweep` if a task was lost. Each
function is served by threads of gunicorn and is synchronous, hence `flows.blocking`. The flows are made when the module
is loaded and connect at the first request, so they stay usable while the function stays warm.
"""

from __future__ import annotations

import logging

from firebase_admin import initialize_app
from firebase_functions import https_fn, options, scheduler_fn, tasks_fn
from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore, FlowStateDecodeError
from firestore_flowstate.flows import Flows, NotWaitingError, Retry, Run, UnknownFlowError
from firestore_flowstate.flows.firebase import FirebaseTasks

LOG = logging.getLogger(__name__)

app = initialize_app()
flows = Flows(FirestoreFlowStateStore.from_app(app), dispatcher=FirebaseTasks("drive", app=app))


class Approval(BaseModel):
    """What a person says to a draft."""

    ok: bool


async def write_draft(topic: str) -> str:
    """Stand for a call of a model."""
    return f"All about {topic}."


async def put_online(draft: str) -> str:
    """Stand for a call of another service."""
    return f"https://example.com/{draft.removesuffix('.').rpartition(' ')[2]}"


@flows.flow
async def publish(run: Run, topic: str) -> str:
    """Publish an article on the topic, if somebody approves of it within three days."""
    run.progress(stage="writing")
    draft = await run.options(retry=Retry(5)).step("draft", write_draft, topic)
    run.progress(stage="approve?", draft=draft[:300])  # a field of the document: it holds 1,499 bytes
    answer = await run.interrupt("approve", Approval, show=draft, timeout=3 * 24 * 3600)
    if not answer.ok:
        run.progress(stage="rejected")
        return "rejected"
    run.progress(stage="publishing")
    url = await run.options(retry=Retry(5)).step("publish", put_online, draft)
    run.progress(stage="published", url=url)
    return url


@https_fn.on_call()
def start(request: https_fn.CallableRequest) -> str:
    """Start a run for the user who calls. Return its id."""
    uid = _user(request)
    return flows.blocking.start(publish, request.data["topic"], extra={"owner": uid}).id


@https_fn.on_call()
def approve(request: https_fn.CallableRequest) -> None:
    """Answer a run of the user who calls."""
    uid, id = _user(request), request.data["id"]
    state = flows.blocking.handle(id).state()
    if state is None or getattr(state, "owner", None) != uid:
        raise https_fn.HttpsError(https_fn.FunctionsErrorCode.NOT_FOUND, "You have no such run")
    try:
        flows.blocking.resume(id, {"ok": request.data["ok"]}, step="approve")
    except NotWaitingError:
        raise https_fn.HttpsError(https_fn.FunctionsErrorCode.FAILED_PRECONDITION, "It was answered already") from None


@tasks_fn.on_task_dispatched(timeout_sec=540, concurrency=4, retry_config=options.RetryConfig(max_attempts=10))
def drive(request: tasks_fn.CallableRequest) -> None:
    """Go on with a run: what the queue calls. Its name has no underscore, since names of queues have none.

    An instance gets as many requests as it has threads: four for each processor. One that waited for a thread would be
    cut off before the end of its budget.
    """
    try:
        flows.blocking.drive(request.data["id"], budget=530)
    except (FlowStateDecodeError, UnknownFlowError):  # a sweep tries again; an error would slow the queue down
        LOG.exception("The run %r cannot be driven.", request.data["id"])


@scheduler_fn.on_schedule(schedule="every 1 minutes", timeout_sec=300)
def sweep(event: scheduler_fn.ScheduledEvent) -> None:
    """Wake what should have been woken: runs whose task was lost, or whose process has died."""
    flows.blocking.sweep()


def _user(request: https_fn.CallableRequest) -> str:
    if request.auth is None:
        raise https_fn.HttpsError(https_fn.FunctionsErrorCode.UNAUTHENTICATED, "Sign in first")
    uid: str = request.auth.uid
    return uid
