"""How a channel to Firestore itself shows who calls: TLS, and a token with each call.

Only this module needs google.auth's transports, which take as long to import as grpc: it is imported for production
alone.
"""

from __future__ import annotations

from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own
from google.auth.credentials import with_scopes_if_required
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request

from .target import SCOPES, Target

_AUDIENCE: Final = "firestore.googleapis.com"  # of tokens that service accounts sign themselves, whatever the endpoint


def channel_credentials(target: Target) -> Any:
    """Return grpc's credentials for a channel to the target, as Google's generated client composes them."""
    credentials = with_scopes_if_required(target.credentials, None, default_scopes=SCOPES)  # type: ignore[no-untyped-call]  # google.auth is typed in part
    try:
        plugin = AuthMetadataPlugin(credentials, Request(), default_host=_AUDIENCE, suppress_metrics_header=True)  # type: ignore[no-untyped-call]  # as above
    except TypeError:  # an older google.auth, which sends a second x-goog-api-client
        plugin = AuthMetadataPlugin(credentials, Request(), default_host=_AUDIENCE)  # type: ignore[no-untyped-call]  # as above
    chain, key = target.certificate or (None, None)
    ssl = grpc.ssl_channel_credentials(certificate_chain=chain, private_key=key)
    return grpc.composite_channel_credentials(ssl, grpc.metadata_call_credentials(plugin))
