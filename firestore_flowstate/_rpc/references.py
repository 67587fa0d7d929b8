"""The types that Google's client library has for Firestore's values, and references to documents.

Importing this imports that library, which takes longer than all else up to a first save. A store of native documents
does so when it connects; another one when it first reads such a value of a native document.
"""

from __future__ import annotations

from typing import Any

from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import GeoPoint
from google.cloud.firestore_v1.async_client import AsyncClient
from google.cloud.firestore_v1.client import Client
from google.cloud.firestore_v1.vector import Vector

__all__ = ["DatetimeWithNanoseconds", "GeoPoint", "Vector", "reference"]


def reference(name: str, *, client: Any) -> Any:
    """Return a reference to the document with a resource name.

    Args:
        name: ``projects/P/databases/D/documents/...``.
        client: The client that the reference belongs to, if the caller passed one for the same database.
            Otherwise the reference gets a client of its own, which connects when the reference is used.
    """
    _, project, _, database, _, path = name.split("/", 5)
    if (
        isinstance(client, (AsyncClient, Client))
        and client._database_string == f"projects/{project}/databases/{database}"
    ):  # no public name
        return client.document(path)
    return AsyncClient(project=project, database=database, credentials=AnonymousCredentials()).document(path)  # type: ignore[no-untyped-call]  # google's
