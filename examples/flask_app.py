"""A Flask app that keeps flow states.

    gunicorn --chdir examples --workers 4 --preload flask_app:app

The store is made when the module is loaded, also if gunicorn forks its workers afterwards: each worker connects
at its first request.
"""

from __future__ import annotations

from typing import Any

from flask import Flask, abort

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateExistsError,
    SyncFlowStateStore,
)

app = Flask(__name__)
store = SyncFlowStateStore(FirestoreFlowStateStore())


@app.put("/runs/<id>")
def start(id: str) -> dict[str, Any]:
    """Start a flow under the id. Answer 409 if there is one, which goes on."""
    try:
        store.create(id, FlowState.start(name="order", flow_id=id))
    except FlowStateExistsError:
        abort(409)
    return {"id": id}


@app.put("/runs/<id>/steps/<step>")
def run_step(id: str, step: str) -> dict[str, Any]:
    """Note that a step has run. Several workers may do so at once."""
    state = store.modify(id, lambda state: state.cache.update({step: CacheEntry(value=True)}))
    return {"steps": len(state.cache)}


@app.get("/runs/<id>")
def show(id: str) -> dict[str, Any]:
    """Show how far a flow is."""
    state = store.load(id)
    if state is None:
        abort(404)
    return {"status": state.status, "steps": list(state.cache)}
