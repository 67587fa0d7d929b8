"""References of Google's client library, for values of other writers' documents that are references."""

from __future__ import annotations

from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1.async_client import AsyncClient
from google.cloud.firestore_v1.client import Client


def reference(name: str, *, client: Any) -> Any:
    """Return a reference to the document with a resource name.

    Args:
        name: ``projects/P/databases/D/documents/...``.
        client: The client that the reference belongs to, where the caller passed one for the same database.
            Otherwise the reference gets a client of its own, which connects when the reference is used.
    """
    _, project, _, database, _, path = name.split("/", 5)
    if (
        isinstance(client, (AsyncClient, Client))
        and client._database_string == f"projects/{project}/databases/{database}"
    ):  # no public name
        return client.document(path)
    return AsyncClient(project=project, database=database, credentials=AnonymousCredentials()).document(path)  # type: ignore[no-untyped-call]  # google's
