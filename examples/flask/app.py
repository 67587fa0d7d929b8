"""A durable flow in Flask, which is synchronous, so that it uses the methods of `flows.blocking`.

    gunicorn --chdir examples/flask --workers 4 --threads 8 --timeout 300 app:app

The flows are made when the module is loaded, also if gunicorn forks its workers afterwards: each worker connects at
its first request. Without FLOWS_QUEUE, as on a developer's machine, runs are driven in the process that starts or
answers them.
"""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, abort, request

from firestore_flowstate import FirestoreFlowStateStore, FlowStateDecodeError, FlowStateError
from firestore_flowstate.flows import Dispatcher, Flows, NotWaitingError, Run, UnknownFlowError
from firestore_flowstate.flows.cloud_tasks import CloudTasks
from firestore_flowstate.flows.http import Oidc

QUEUE = os.environ.get("FLOWS_QUEUE", "")  # projects/PROJECT/locations/REGION/queues/flows
URL = os.environ.get("FLOWS_URL", "http://localhost/drive")
ACCOUNT = os.environ.get("FLOWS_ACCOUNT", "nobody@example.com")

app = Flask(__name__)
dispatcher: Dispatcher | None = CloudTasks(QUEUE, URL, service_account=ACCOUNT) if QUEUE else None
flows = Flows(FirestoreFlowStateStore(), dispatcher=dispatcher)
blocking = flows.blocking  # named on the main thread, on which it sets the handler of SIGTERM that hands runs over
oidc = Oidc(audience=URL, service_account=ACCOUNT)


def pack(item: str) -> str:
    """Stand for work. A step may be synchronous too."""
    return f"a box with a {item}"


@flows.flow
async def ship(run: Run, item: str) -> str:
    """Ship an item that somebody confirms."""
    if not await run.interrupt("confirm", bool, show=item):
        return "cancelled"
    return await run.step("pack", pack, item)


@app.post("/orders/<id>")
def order(id: str) -> dict[str, Any]:
    """Start a run under the id. The same again does nothing more."""
    return {"id": blocking.start(ship, request.get_json()["item"], id=id).id}


@app.post("/orders/<id>/confirmation")
def confirm(id: str) -> dict[str, Any]:
    """Answer a run."""
    try:
        blocking.resume(id, request.get_json()["ok"], step="confirm")
    except NotWaitingError:
        abort(409)
    return {"id": id}


@app.get("/orders/<id>")
def show(id: str) -> dict[str, Any]:
    """Show how far a run is."""
    state = blocking.handle(id).state()
    if state is None:
        abort(404)
    return {"status": state.status}


def check_caller() -> None:
    """Refuse who is not the queue. While that cannot be told, the answer is 503, so that the queue tries again."""
    try:
        allowed = oidc.allows(request.headers.get("Authorization"))
    except FlowStateError as error:
        app.logger.warning("%s", error)
        abort(503)
    if not allowed:
        abort(401)


@app.post("/drive")
def drive() -> dict[str, Any]:
    """Go on with a run: what the queue calls. The budget is less than gunicorn's --timeout, here 300."""
    check_caller()
    id = request.get_json()["id"]
    try:
        return {"outcome": blocking.drive(id, budget=240)}
    except (FlowStateDecodeError, UnknownFlowError):  # a sweep tries again; an error would slow the queue down
        app.logger.exception("The run %r cannot be driven.", id)
        return {"outcome": "error"}


@app.post("/sweep")
def sweep() -> dict[str, Any]:
    """Wake what should have been woken: to be called each minute."""
    check_caller()
    return {"dispatched": blocking.sweep()}
