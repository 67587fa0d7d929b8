"""Credentials: which database they lead to, and how a channel to it shows who calls, by TLS and a token with each call.

It alone needs google.auth's transports, which take as long to import as grpc. So it is imported for production alone,
and not for the emulator.
"""

from __future__ import annotations

from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own
from google.auth.credentials import with_scopes_if_required
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request

from ..settings import FlowStateSettings
from . import fork
from .call_errors import credentials_error
from .database import SCOPES, Database, database_of_settings

_AUDIENCE: Final = "firestore.googleapis.com"  # of tokens that service accounts sign themselves, whatever the endpoint


def database_with_credentials(settings: FlowStateSettings, client: Any) -> Database:
    """Return the database that the client, the settings or the environment name. Blocks while google.auth looks for it.

    Raises:
        AccessDeniedError: There are no credentials, or they cannot be read.
        BackendError: Nothing names a project.
        FlowStateError: The client is of a kind that no store can use.
    """
    try:
        if client is None:
            return database_of_settings(settings)
        with fork.held_off():  # the import of Google's client library takes 0.2 s
            from .client import database_of_client
        return database_of_client(settings, client)
    except (GoogleAuthError, OSError, ValueError) as error:
        raise credentials_error(error) from error


def channel_credentials(database: Database) -> Any:
    """Return grpc's credentials for a channel to the database, as Google's generated client composes them."""
    credentials = with_scopes_if_required(database.credentials, None, default_scopes=SCOPES)  # type: ignore[no-untyped-call]  # google.auth is typed in part
    try:
        plugin = AuthMetadataPlugin(credentials, Request(), default_host=_AUDIENCE, suppress_metrics_header=True)  # type: ignore[no-untyped-call]  # as above
    except TypeError:  # an older google.auth, which sends a second x-goog-api-client
        plugin = AuthMetadataPlugin(credentials, Request(), default_host=_AUDIENCE)  # type: ignore[no-untyped-call]  # as above
    chain, key = database.certificate or (None, None)
    ssl = grpc.ssl_channel_credentials(certificate_chain=chain, private_key=key)
    return grpc.composite_channel_credentials(ssl, grpc.metadata_call_credentials(plugin))
