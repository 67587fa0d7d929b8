"""Which database a store talks to, and with what credentials."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own

from .._version import __version__
from ..errors import BackendError
from ..settings import FlowStateSettings

_EMULATOR_PROJECT: Final = "demo-flowstate"
SCOPES: Final = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/datastore",
)

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Database:
    """A database, its address, and the credentials to show there.

    Attributes:
        project: The id of its project.
        id: Its id.
        endpoint: ``host:port``.
        is_emulator: Whether the endpoint is an emulator: no TLS, and a fixed token in place of credentials.
        credentials: google.auth credentials; None on the emulator.
        certificate: The client certificate to show and its key, both in PEM, if the environment asks for one.
        name: Its resource name.
        documents: The resource name that the names of all its documents start with.
    """

    project: str
    id: str
    endpoint: str
    is_emulator: bool = False
    credentials: Any = field(default=None, repr=False)
    certificate: tuple[bytes, bytes] | None = field(default=None, repr=False)
    name: str = field(init=False, repr=False)
    documents: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"projects/{self.project}/databases/{self.id}")
        object.__setattr__(self, "documents", f"{self.name}/documents")

    def metadata(self) -> Metadata:
        """Return the metadata that every call carries, apart from the routing header."""
        client = f"firestore-flowstate/{__version__} gl-python/{platform.python_version()} grpc/{grpc.__version__}"
        metadata = (("google-cloud-resource-prefix", self.name), ("x-goog-api-client", client))
        # The emulator's owner passes all security rules, as credentials do in production.
        return (*metadata, ("authorization", "Bearer owner")) if self.is_emulator else metadata


def database_of_settings(settings: FlowStateSettings) -> Database:
    """Return the database that the settings and the environment name. Blocks while google.auth looks for credentials.

    Raises:
        BackendError: Nothing names a project.
        google.auth.exceptions.GoogleAuthError: There are no credentials, or they cannot be read.
    """
    if settings.emulator_host is not None:
        return emulator_database(settings, settings.emulator_host, project=settings.project)
    import google.auth  # for production alone

    credentials, project = google.auth.default(scopes=SCOPES)
    return production_database(
        project=settings.project or project,
        database=settings.database,
        endpoint=settings.endpoint,
        credentials=_self_signing(credentials),
    )


def emulator_database(settings: FlowStateSettings, host: str, *, project: str | None) -> Database:
    """Return a database of an emulator, which needs no credentials and takes any project."""
    return Database(project=project or _EMULATOR_PROJECT, id=settings.database, endpoint=host, is_emulator=True)


def production_database(*, project: str | None, database: str, endpoint: str | None, credentials: Any) -> Database:
    """Return a database of Firestore itself, or for what stands at `endpoint` in its place.

    Raises:
        BackendError: The project is not known.
        google.auth.exceptions.MutualTLSChannelError: The client certificate asked for cannot be read.
    """
    if not project:
        raise BackendError(
            "no Google Cloud project is named: set FLOWSTATE_PROJECT or GOOGLE_CLOUD_PROJECT, "
            "or pass FlowStateSettings(project=...)"
        )
    certificate = _client_certificate()
    host = endpoint or _usual_host(credentials, with_certificate=certificate is not None)
    return Database(
        project=project,
        id=database,
        endpoint=host if ":" in host else f"{host}:443",
        credentials=credentials,
        certificate=certificate,
    )


def _client_certificate() -> tuple[bytes, bytes] | None:
    if os.environ.get("GOOGLE_API_USE_CLIENT_CERTIFICATE") != "true":  # the switch of Google's own clients
        return None
    from google.auth.transport import mtls  # as above

    if not mtls.has_default_client_cert_source():  # type: ignore[no-untyped-call]  # google.auth is typed in part
        return None
    chain, key = mtls.default_client_cert_source()()  # type: ignore[no-untyped-call]  # as above
    return chain, key


def _usual_host(credentials: Any, *, with_certificate: bool) -> str:
    universe = getattr(credentials, "universe_domain", None) or "googleapis.com"
    if with_certificate and os.environ.get("GOOGLE_API_USE_MTLS_ENDPOINT", "auto") != "never":
        return f"firestore.mtls.{universe}"
    return f"firestore.{universe}"


def _self_signing(credentials: Any) -> Any:
    """Return the credentials so that they sign their own tokens, if they can. It saves the first call a round trip."""
    sign = getattr(credentials, "with_always_use_jwt_access", None)
    return sign(True) if sign is not None else credentials
