"""What goes over the wire beside the messages: the same as from Google's own client."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.firestore import AsyncClient
from google.cloud.firestore_v1 import types

from firestore_flowstate import __version__
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.errors import BackendError
from firestore_flowstate.settings import FlowStateSettings
from tests.rpc.scripted_server import ScriptedServer, status

PARENT = "projects/demo-scripted/databases/other db/documents"
NAME = f"{PARENT}/c d/ä+b=%&"
DATABASE = "projects/demo-scripted/databases/other db"


async def ours(connection: Connection, method: str) -> None:
    deadline = Deadline.after(5)
    await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    query = messages.StructuredQuery(from_=[{"collection_id": "c d"}])
    calls: dict[str, Any] = {
        "Commit": lambda: connection.commit([messages.Write(delete=NAME)], deadline=deadline, flow_id="a"),
        "GetDocument": lambda: connection.get(NAME, deadline=deadline),
        "BatchGetDocuments": lambda: connection.batch_get([NAME], deadline=deadline),
        "RunQuery": lambda: connection.run_query(PARENT, query, deadline=deadline),
        "RunAggregationQuery": lambda: connection.count(PARENT, query, deadline=deadline),
    }
    await calls[method]()


async def theirs(client: AsyncClient, method: str) -> None:
    api = client._firestore_api
    sends: dict[str, tuple[Any, dict[str, Any]]] = {
        "Commit": (api.commit, {"database": DATABASE, "writes": [types.Write(delete=NAME)]}),
        "GetDocument": (api.get_document, {"name": NAME}),
        "BatchGetDocuments": (api.batch_get_documents, {"database": DATABASE, "documents": [NAME]}),
        "RunQuery": (api.run_query, {"parent": PARENT}),
        "RunAggregationQuery": (api.run_aggregation_query, {"parent": PARENT}),
    }
    send, request = sends[method]
    answer = await send(request=request, metadata=client._rpc_metadata, retry=None)
    async for _ in answer:
        pass


@pytest.mark.parametrize("method", ["Commit", "GetDocument", "BatchGetDocuments", "RunQuery", "RunAggregationQuery"])
async def test_metadata_is_what_google_sends(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Routing header, resource prefix and authorization are byte for byte those of the generated client."""
    server.answer(status("UNIMPLEMENTED"))
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server.host)
    settings = FlowStateSettings(project="demo-scripted")
    settings = FlowStateSettings.model_construct(**{**vars(settings), "database": "other db"})  # to be quoted: no id is
    connection = Connection(settings)
    client = AsyncClient(project="demo-scripted", database="other db")
    with pytest.raises(BackendError):
        await ours(connection, method)
    with pytest.raises(GoogleAPICallError):
        await theirs(client, method)
    await connection.close()
    await client._firestore_api.transport.close()

    [our, their] = server.calls
    assert method == our.method == their.method
    for header in ("x-goog-request-params", "google-cloud-resource-prefix", "authorization"):
        assert their.metadata[header] == our.metadata[header]
    assert f"firestore-flowstate/{__version__}" in our.metadata["x-goog-api-client"]
    their_parts = their.metadata["x-goog-api-client"].split()
    assert {part for part in their_parts if part.startswith(("gl-python", "grpc"))} <= set(
        our.metadata["x-goog-api-client"].split()
    )
