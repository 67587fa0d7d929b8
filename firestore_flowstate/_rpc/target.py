"""Which database a store talks to, and how: from the settings, or from what the caller passed as client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from ..errors import FlowStateError
from ..settings import FlowStateSettings

_EMULATOR_PROJECT: Final = "demo-flowstate"
_DEFAULT_DATABASE: Final = "(default)"
_SCOPES: Final = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/datastore",
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A database, its address, and the credentials to show there.

    Attributes:
        project: The id of the project.
        database: The id of the database.
        endpoint: ``host`` or ``host:port``; None: Firestore's own in the universe of the credentials.
        is_emulator: Whether the endpoint is an emulator: no TLS, and a bearer token in place of credentials.
        credentials: google.auth credentials; None on the emulator.
        bearer: The token that the emulator is shown; `owner` passes all security rules.
    """

    project: str
    database: str = _DEFAULT_DATABASE
    endpoint: str | None = None
    is_emulator: bool = False
    credentials: Any = field(default=None, repr=False)
    bearer: str = field(default="owner", repr=False)

    @property
    def database_name(self) -> str:
        """The resource name of the database."""
        return f"projects/{self.project}/databases/{self.database}"

    @property
    def documents(self) -> str:
        """The resource name that the names of all documents start with."""
        return f"{self.database_name}/documents"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata that every call carries, apart from the routing header."""
        from google.api_core.gapic_v1.client_info import ClientInfo
        from google.cloud.firestore_v1 import gapic_version

        from .. import __version__

        info = ClientInfo(  # type: ignore[no-untyped-call]  # google.api_core is typed in part
            gapic_version=gapic_version.__version__, user_agent=f"firestore-flowstate/{__version__}"
        )
        metadata = (
            ("google-cloud-resource-prefix", self.database_name),
            ("x-goog-api-client", info.to_user_agent()),  # type: ignore[no-untyped-call]  # as above
        )
        return (*metadata, ("authorization", f"Bearer {self.bearer}")) if self.is_emulator else metadata

    def routing(self, key: str, value: str) -> tuple[str, str]:
        """Return the header by which Google's front ends find the database; the generated client sends the same."""
        return ("x-goog-request-params", f"{key}={quote(value, safe='')}")


def resolve(settings: FlowStateSettings, client: Any) -> Target:
    """Return the target; blocks while google.auth looks for credentials.

    Raises:
        FlowStateError: There is no project, or the client is of no kind that this package knows.
        google.auth.exceptions.GoogleAuthError: There are no credentials, or they cannot be read.
    """
    if client is None:
        return _from_settings(settings)
    if hasattr(client, "project_id") and hasattr(client, "credential"):
        return _from_app(settings, client)
    if hasattr(client, "_database") and hasattr(client, "_emulator_host"):
        return _from_client(client)
    raise FlowStateError(
        "client must be a google.cloud.firestore AsyncClient or Client or a firebase_admin App, "
        f"not {type(client).__name__}"
    )


def _from_settings(settings: FlowStateSettings) -> Target:
    if settings.emulator_host is not None:
        return Target(
            project=settings.project or _EMULATOR_PROJECT,
            database=settings.database,
            endpoint=settings.emulator_host,
            is_emulator=True,
        )
    import google.auth

    credentials, ambient = google.auth.default(scopes=_SCOPES)
    return Target(
        project=_known(settings.project or ambient),
        database=settings.database,
        endpoint=settings.endpoint,
        credentials=credentials,
    )


def _from_app(settings: FlowStateSettings, app: Any) -> Target:
    if settings.emulator_host is not None:
        return Target(
            project=app.options.get("projectId") or settings.project or _EMULATOR_PROJECT,
            database=settings.database,
            endpoint=settings.emulator_host,
            is_emulator=True,
        )
    return Target(
        project=_known(app.project_id or settings.project),
        database=settings.database,
        endpoint=settings.endpoint,
        credentials=app.credential.get_credential(),
    )


def _from_client(client: Any) -> Target:
    if client._emulator_host is not None:
        return Target(
            project=client.project,
            database=client._database,
            endpoint=client._emulator_host.removeprefix("http://"),
            is_emulator=True,
            bearer=getattr(client._credentials, "id_token", None) or "owner",
        )
    options = client._client_options
    return Target(
        project=client.project,
        database=client._database,
        endpoint=options.api_endpoint if options else None,
        credentials=client._credentials,
    )


def _known(project: str | None) -> str:
    if project:
        return project
    raise FlowStateError("no Google Cloud project: set FLOWSTATE_PROJECT or GOOGLE_CLOUD_PROJECT, or pass project=")
