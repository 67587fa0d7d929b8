"""Spans of OpenTelemetry, with its own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from firestore_flowstate import FirestoreFlowStateStore, FlowState, SyncFlowStateStore
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.errors import BackendError
from tests.rpc.scripted_server import ScriptedServer, reply, status
from tests.support.spans import spans

__all__ = ["spans"]  # a fixture


async def get(connection: Connection, seconds: float) -> Any:
    deadline = Deadline.after(seconds)
    return await connection.get(f"{await connection.documents(deadline)}/c/a", deadline=deadline)


async def test_one_span_covers_all_attempts(
    spans: InMemorySpanExporter, server: ScriptedServer, to_server: Connection
) -> None:
    """A call that is tried again has one span, below the caller's, with names that tools know."""
    await to_server.documents(Deadline.after(10))
    from firestore_flowstate._rpc import messages

    server.answer(status("UNAVAILABLE"), reply(messages.Document()))
    with trace.get_tracer("test").start_as_current_span("caller") as caller:
        await get(to_server, 10)

    [span, _caller] = spans.get_finished_spans()
    assert "Firestore/GetDocument" == span.name
    assert caller.get_span_context().span_id == span.parent.span_id
    assert {
        "rpc.system": "grpc",
        "rpc.service": "google.firestore.v1.Firestore",
        "rpc.method": "GetDocument",
        "db.namespace": "projects/demo-scripted/databases/(default)",
    } == dict(span.attributes)
    assert span.status.is_ok


@pytest.mark.parametrize("method", ["load", "iterate", "edit"])
def test_spans_cross_from_blocking_code(
    spans: InMemorySpanExporter, flow_state_store: FirestoreFlowStateStore, method: str
) -> None:
    """What a blocking call sends has its span below that of the thread that blocks, though another thread sends it."""
    with SyncFlowStateStore(flow_state_store) as store:
        store.save("a", FlowState.start())
        spans.clear()
        with trace.get_tracer("test").start_as_current_span("caller") as caller:
            if method == "load":
                store.load("a")
            elif method == "iterate":
                list(store.iterate())
            else:
                with store.edit("a") as state:
                    state.name = "changed"

    *calls, _caller = spans.get_finished_spans()
    assert {"load": 1, "iterate": 1, "edit": 2}[method] == len(calls)
    assert {caller.get_span_context().span_id} == {span.parent.span_id for span in calls}


@pytest.mark.parametrize(("code", "is_ok"), [("NOT_FOUND", True), ("PERMISSION_DENIED", False), ("UNAVAILABLE", False)])
async def test_failures_are_in_the_span(
    spans: InMemorySpanExporter, server: ScriptedServer, to_server: Connection, code: str, is_ok: bool
) -> None:
    """A span names the status that the call ended in. A missing document is not an error."""
    server.answer(status(code))
    if is_ok:
        await get(to_server, 10)
    else:
        with pytest.raises(BackendError):
            await get(to_server, 2)  # UNAVAILABLE is tried until then

    [span] = spans.get_finished_spans()
    assert code == span.attributes["error.type"]
    assert is_ok == span.status.is_ok
