"""Google's client library: what a caller passes as `client`, and the types of Firestore's values that JSON has not.

Importing this module imports that library (0.2 s), which takes longer than all else up to a first save. A store that
was given a client, or whose layout is native, imports it when it connects. Any other store does when it first reads
such a value of a native document.
"""

from __future__ import annotations

from typing import Any

from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore_v1 import GeoPoint
from google.cloud.firestore_v1.async_client import AsyncClient
from google.cloud.firestore_v1.base_client import BaseClient
from google.cloud.firestore_v1.client import Client
from google.cloud.firestore_v1.vector import Vector

from ..errors import FlowStateError
from ..settings import FlowStateSettings
from .database import Database, emulator_database, production_database

__all__ = ["DatetimeWithNanoseconds", "GeoPoint", "Vector", "database_of_client", "is_customized", "reference"]


def database_of_client(settings: FlowStateSettings, client: Any) -> Database:
    """Return the database of a Client, AsyncClient or firebase_admin App. What the client names wins over the settings.

    Raises:
        FlowStateError: The client is of another kind, or a synchronous one with a transport of its own, which
            no store can use.
        BackendError: Nothing names a project.
        google.auth.exceptions.GoogleAuthError: The credentials of a firebase_admin App cannot be read.
    """
    if isinstance(client, BaseClient):
        if not isinstance(client, AsyncClient) and is_customized(client):
            raise FlowStateError(
                "the Client passed has a transport of its own, which is synchronous: pass an AsyncClient instead"
            )
        return _database_of_firestore_client(client)
    if all(hasattr(client, name) for name in ("project_id", "credential", "options")):
        return _database_of_app(settings, client)
    raise FlowStateError(
        "client must be a google.cloud.firestore AsyncClient or Client or a firebase_admin App, "
        f"not {type(client).__name__}"
    )


def is_customized(client: Any) -> bool:
    """Return whether the client has a transport or methods of its own, so that a store cannot make another one like it.

    Without this check a test that passes a client with a fake transport could reach production: the store would open
    channels of its own from the client's project and credentials.
    """
    if not isinstance(client, BaseClient):
        return False
    google = AsyncClient if isinstance(client, AsyncClient) else Client
    for name in ("_firestore_api", "_firestore_api_helper", "_emulator_channel", "_target"):
        if getattr(type(client), name) is not getattr(google, name) or name in vars(client):
            return True
    api = client._firestore_api_internal
    # The client keeps the transport that it makes as `_transport`. Any other is somebody's own.
    return api is not None and getattr(api, "transport", None) is not getattr(client, "_transport", None)


def _database_of_firestore_client(client: Any) -> Database:
    if client._emulator_host:
        host = client._emulator_host.removeprefix("http://").rstrip("/")
        return Database(project=client.project, id=client._database, endpoint=host, is_emulator=True)
    if client._emulator_host is not None:
        raise FlowStateError(
            "the client passed was made with FIRESTORE_EMULATOR_HOST set to nothing, which leaves it without "
            "credentials and without an address: unset the variable, or name an emulator"
        )
    options = client._client_options
    return production_database(
        project=client.project,
        database=client._database,
        endpoint=getattr(options, "api_endpoint", None),
        credentials=client._credentials,
    )


def _database_of_app(settings: FlowStateSettings, app: Any) -> Database:
    if settings.emulator_host is not None:
        return emulator_database(settings, settings.emulator_host, project=_named_by_app(app) or settings.project)
    return production_database(
        project=app.project_id or settings.project,
        database=settings.database,
        endpoint=settings.endpoint,
        credentials=app.credential.get_credential(),
    )


def _named_by_app(app: Any) -> str | None:
    """Return the app's project without looking for credentials, which the emulator does not need."""
    named = app.options.get("projectId")
    if not named and type(app.credential).__name__ != "ApplicationDefault":
        named = getattr(app.credential, "project_id", None)
    return named or None


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
