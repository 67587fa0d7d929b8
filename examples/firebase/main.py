"""Functions for Firebase that keep flow states: started by signed-in users, continued by a task queue.

    functions-framework --source examples/firebase/main.py --target start_run

Each function is served by threads of gunicorn and is synchronous, hence the blocking store. It is made when the
module is loaded and connects at the first request, so it stays usable while the function stays warm.
"""

from __future__ import annotations

import json

from firebase_admin import initialize_app
from firebase_functions import https_fn, tasks_fn

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, Operation, SyncFlowStateStore

store = SyncFlowStateStore(FirestoreFlowStateStore.from_app(initialize_app()))


@https_fn.on_call()
def start_run(request: https_fn.CallableRequest) -> str:
    """Start a flow for the user who calls; return its id."""
    if request.auth is None:
        raise https_fn.HttpsError(https_fn.FunctionsErrorCode.UNAUTHENTICATED, "Sign in first")
    state = FlowState.start(name="order", input=request.data)
    state.owner = request.auth.uid  # an unknown key is kept, and security rules can ask for it
    store.create(state.flow_id, state)
    return state.flow_id


@tasks_fn.on_task_dispatched()
def run_step(request: tasks_fn.CallableRequest) -> None:
    """Run one step of a flow, and keep its first result, however often the queue delivers the task.

    A delivery after that does nothing. Two at once both do the work: what must not happen twice, such as a payment,
    needs a key of its own that makes the service do it once.
    """
    id, step = request.data["id"], request.data["step"]
    state = store.load(id)
    if state is not None and step in state.cache:
        return
    result = request.data["amount"] * 2  # the work: not in `keep`, which is called again where others were first

    def keep(state: FlowState) -> None:
        state.cache.setdefault(step, CacheEntry(value=result))
        state.operation = Operation(name=state.flow_id, done=len(state.cache) == request.data["steps"])

    store.modify(id, keep)


@https_fn.on_request()
def show_run(request: https_fn.Request) -> https_fn.Response:
    """Show how far a flow is."""
    state = store.load(request.args["id"])
    if state is None:
        return https_fn.Response("there is no such run", status=404)
    steps = {step: entry.value for step, entry in state.cache.items()}
    return https_fn.Response(json.dumps({"status": state.status, "steps": steps}), mimetype="application/json")
