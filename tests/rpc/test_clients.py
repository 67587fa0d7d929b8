"""A client that the caller passes: its project and endpoint, the loop that its channel serves, and who closes what."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import firebase_admin
import google.auth.credentials
import google.oauth2.credentials
import grpc
import pytest
from google.cloud.firestore import AsyncClient, Client
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient, FirestoreClient
from google.cloud.firestore_v1.services.firestore.transports import (
    FirestoreGrpcAsyncIOTransport,
    FirestoreGrpcTransport,
)

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate._rpc.client import database_of_client
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.database import database_of_settings
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.emulator import Emulator
from firestore_flowstate.errors import AccessDeniedError, BackendError, FlowStateError, StoreUnavailableError
from firestore_flowstate.settings import FlowStateSettings
from firestore_flowstate.testing.conformance.watching import soon
from tests.rpc.scripted_server import ScriptedServer, reply

OLD_GRPC = tuple(map(int, grpc.__version__.split(".")[:2])) <= (1, 80)
COMPLAINTS = [
    "ignore:Exception ignored in. <function InterceptedCall:pytest.PytestUnraisableExceptionWarning"
] * OLD_GRPC
"""What an old grpc says if a call of a client is collected after the channel of the client was closed."""

SOMEBODY = google.auth.credentials.AnonymousCredentials()


@pytest.fixture
def host(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """The emulator, named as Google's clients want it."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    return emulator.host


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[firebase_admin.App]:
    app = firebase_admin.initialize_app(options={"projectId": "demo-app"}, name=request.node.name)
    yield app
    firebase_admin.delete_app(app)


Threads = Callable[[], list[threading.Thread]]


async def get(connection: Connection, seconds: float = 20) -> Any:
    deadline = Deadline.after(seconds)
    return await connection.get(f"{await connection.documents(deadline)}/c/missing", deadline=deadline)


async def close_channel(client: AsyncClient) -> None:
    await client._firestore_api.transport.close()


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_project_and_database_are_the_clients(host: str, kind: type[Any]) -> None:
    """What the client names wins over the settings."""
    client = kind(project="demo-theirs", database="their-database")
    connection = Connection(FlowStateSettings(project="demo-ours", database="our-database"), client=client)

    expected = "projects/demo-theirs/databases/their-database/documents"
    assert expected == asyncio.run(connection.documents(Deadline.after(20)))
    assert connection.is_emulator


@pytest.mark.parametrize("kind", [AsyncClient, Client])
def test_it_serves_every_loop(host: str, kind: type[Any]) -> None:
    """A store with a client works in run after run, and leaves the client as it was: without a channel."""
    client = kind(project="demo-theirs")
    connection = Connection(FlowStateSettings(), client=client)
    for _ in range(3):
        assert asyncio.run(get(connection)) is None

    asyncio.run(connection.close())
    assert client._firestore_api_internal is None


async def test_an_async_client_is_used_on_its_own_loop(host: str, background_threads: Threads) -> None:
    """Calls on the loop that the client's channel belongs to go over that channel. Calls elsewhere go over another."""
    client = AsyncClient(project="demo-theirs")
    await client.collection("c").document("x").get()
    connection = Connection(FlowStateSettings(), client=client)
    assert await get(connection) is None
    assert [] == background_threads()

    assert await asyncio.to_thread(lambda: asyncio.run(get(connection))) is None
    assert 1 == len(background_threads())
    await connection.close()
    assert not (await client.collection("c").document("x").get()).exists
    await close_channel(client)


def test_a_client_that_was_used_before(host: str) -> None:
    """A client whose channel belongs to a loop that is gone does not hinder."""
    client = AsyncClient(project="demo-theirs")
    connection = Connection(FlowStateSettings(), client=client)

    async def use_client() -> None:
        await client.collection("c").document("x").get()
        await get(connection)

    asyncio.run(use_client())
    assert asyncio.run(get(connection)) is None
    asyncio.run(connection.close())
    asyncio.run(close_channel(client))


@pytest.mark.filterwarnings(*COMPLAINTS)
async def test_a_channel_that_its_owner_closed(host: str) -> None:
    """Once the client's channel is closed, calls go over one of our own."""
    client = AsyncClient(project="demo-theirs")
    await client.collection("c").document("x").get()
    connection = Connection(FlowStateSettings(), client=client)
    await get(connection)
    await close_channel(client)

    assert await get(connection) is None
    await connection.close()


async def test_bind_beside_a_client(host: str, background_threads: Threads) -> None:
    """A bound loop has a channel of its own if the client has none there, and closes only that."""
    client = AsyncClient(project="demo-theirs")
    connection = Connection(FlowStateSettings(), client=client)
    await connection.bind()
    assert await get(connection) is None
    assert [] == background_threads()

    await connection.unbind()
    assert client._firestore_api_internal is None
    await connection.close()


@pytest.mark.parametrize("how", ["close", "leave", "leave elsewhere"])
async def test_closing_the_store_ends_the_watches_over_a_clients_channel(host: str, how: str) -> None:
    """The channel stays open, since it is the caller's, and so must be no reason to go on."""
    client = AsyncClient(project="demo-theirs")
    await client.collection("c").document("x").get()
    store = FirestoreFlowStateStore(FlowStateSettings(), client=client)
    if how == "leave":
        await store.__aenter__()
    watch = store.watch("closed")
    await soon(watch)
    coming = asyncio.ensure_future(soon(watch))
    await asyncio.sleep(0)

    async def enter_and_leave() -> None:
        async with store:
            pass

    if how == "close":
        await store.close()
    elif how == "leave":
        await store.__aexit__()
    else:
        await asyncio.to_thread(lambda: asyncio.run(enter_and_leave()))
    with pytest.raises(StoreUnavailableError, match="closed while it was watched"):
        await coming
    assert not (await client.collection("c").document("x").get()).exists
    await close_channel(client)


def with_own_channel(server: ScriptedServer) -> AsyncClient:
    """Return a client that was given a channel, as tests do."""
    client = AsyncClient(project="production", credentials=SOMEBODY)
    transport = FirestoreGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(server.host))
    client._firestore_api_internal = FirestoreAsyncClient(transport=transport)
    return client


async def test_a_transport_of_their_own(server: ScriptedServer) -> None:
    """A client with a transport of its own is used on the loop of that transport, and never made again elsewhere."""
    client = with_own_channel(server)
    connection = Connection(FlowStateSettings(), client=client)
    await connection.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    server.answer(reply(messages.Document(name="theirs")))
    assert "theirs" == (await get(connection)).name
    await connection.bind()
    assert "theirs" == (await get(connection)).name

    with pytest.raises(FlowStateError, match="transport of its own"):
        await asyncio.to_thread(lambda: asyncio.run(get(connection)))
    with pytest.raises(FlowStateError, match="transport of its own"):
        await asyncio.to_thread(lambda: asyncio.run(connection.bind()))
    assert 2 == len(server.calls)
    await connection.close()
    assert "theirs" == (await get(connection)).name
    await close_channel(client)


async def test_a_client_of_their_own_class(server: ScriptedServer) -> None:
    """A subclass that makes its channel in its own way has a transport of its own. One that adds methods has not."""

    class Redirected(AsyncClient):
        @property
        def _target(self) -> str:
            return server.host

    class Extended(AsyncClient):
        def more(self) -> None: ...

    redirected = Redirected(project="production", credentials=SOMEBODY)
    with pytest.raises(FlowStateError, match="transport of its own"):
        await get(Connection(FlowStateSettings(), client=redirected))
    extended = Extended(project="production", credentials=SOMEBODY)
    assert await Connection(FlowStateSettings(), client=extended).documents(Deadline.after(20))


async def test_a_synchronous_transport_of_their_own(server: ScriptedServer) -> None:
    """A synchronous Client with a transport of its own cannot be used at all, and the error says so."""
    client = Client(project="production", credentials=SOMEBODY)
    channel = grpc.insecure_channel(server.host)
    client._firestore_api_internal = FirestoreClient(transport=FirestoreGrpcTransport(channel=channel))

    with pytest.raises(FlowStateError, match="pass an AsyncClient instead"):
        await get(Connection(FlowStateSettings(), client=client))
    channel.close()


def test_credentials_and_endpoint_are_the_clients() -> None:
    """In production the client's credentials, endpoint and quota project are taken over."""
    options = {"api_endpoint": "firestore.test", "quota_project_id": "payer"}
    credentials = google.oauth2.credentials.Credentials("token")
    client = AsyncClient(project="p", database="d", credentials=credentials, client_options=options)
    database = database_of_client(FlowStateSettings(project="other", endpoint="elsewhere"), client)

    assert ("p", "d", "firestore.test:443", False) == (
        database.project,
        database.id,
        database.endpoint,
        database.is_emulator,
    )
    assert database.credentials is client._credentials
    assert "payer" == database.credentials.quota_project_id


def test_the_usual_endpoint_follows_the_universe() -> None:
    """The endpoint is Firestore's in the universe of the credentials, if none is given."""

    class Elsewhere(google.auth.credentials.AnonymousCredentials):  # type: ignore[misc]  # google.auth is untyped
        universe_domain = "example.test"

    usual = database_of_client(FlowStateSettings(), AsyncClient(project="p", credentials=SOMEBODY))
    elsewhere = database_of_client(FlowStateSettings(), AsyncClient(project="p", credentials=Elsewhere()))

    assert "firestore.googleapis.com:443" == usual.endpoint
    assert "firestore.example.test:443" == elsewhere.endpoint


async def test_an_app_on_the_emulator_needs_no_credentials(host: str, app: firebase_admin.App) -> None:
    """A firebase_admin App works on the emulator on a machine without any credentials, under its own project."""
    connection = Connection(FlowStateSettings(database="ours"), client=app)
    assert await get(connection) is None

    assert "projects/demo-app/databases/ours/documents" == await connection.documents(Deadline.after(20))
    await connection.close()


async def test_an_app_without_a_project(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the emulator an app that names no project has that of the settings, and without one demo-flowstate."""
    app = firebase_admin.initialize_app(options={}, name="nameless")
    projects = [
        (await Connection(FlowStateSettings(project=project), client=app).documents(Deadline.after(20))).split("/")[1]
        for project in (None, "demo-ours")
    ]
    firebase_admin.delete_app(app)

    assert ["demo-flowstate", "demo-ours"] == projects


async def test_an_app_brings_its_credentials() -> None:
    """In production the app's credentials and project are used, with the database and endpoint of the settings."""
    app = firebase_admin.initialize_app(SOMEBODY, options={"projectId": "theirs"}, name="with-credentials")
    database = database_of_client(FlowStateSettings(project="ours", database="d", endpoint="firestore.test:444"), app)
    firebase_admin.delete_app(app)

    assert ("theirs", "d", "firestore.test:444") == (database.project, database.id, database.endpoint)
    assert database.credentials is SOMEBODY


@pytest.mark.parametrize("client", ["client", 1, object(), FirestoreAsyncClient])
async def test_what_is_not_a_client(client: Any) -> None:
    """Anything else is refused, by the name of its type."""
    with pytest.raises(FlowStateError, match=f"not {type(client).__name__}"):
        await get(Connection(FlowStateSettings(), client=client))


async def test_a_client_made_with_an_empty_emulator_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty FIRESTORE_EMULATOR_HOST breaks Google's clients. The error names the variable."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "")
    client = AsyncClient(project="p")

    with pytest.raises(FlowStateError, match="FIRESTORE_EMULATOR_HOST"):
        await get(Connection(FlowStateSettings(), client=client))


async def test_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without credentials every call says how to get some, keeps the cause, and asks again the next time."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    connection = Connection(FlowStateSettings(project="p"))

    for _ in range(2):
        with pytest.raises(AccessDeniedError, match="gcloud auth application-default login") as error:
            await get(connection)
        assert "DefaultCredentialsError" == type(error.value.__cause__).__name__


async def test_credentials_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A key file that is not JSON is an AccessDeniedError too."""
    (tmp_path / "key.json").write_text("{")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))

    with pytest.raises(AccessDeniedError):
        await get(Connection(FlowStateSettings(project="p")))


async def test_no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that know no project need one by name."""
    monkeypatch.setattr("google.auth.default", lambda **_: (SOMEBODY, None))

    with pytest.raises(BackendError, match="FLOWSTATE_PROJECT"):
        await get(Connection(FlowStateSettings()))


async def test_looking_for_credentials_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If google.auth hangs, as on a machine with a firewall, calls still end in time, on all loops."""
    release = threading.Event()
    monkeypatch.setattr("google.auth.default", lambda **_: (release.wait(20), (SOMEBODY, "p"))[1])
    connection = Connection(FlowStateSettings())
    calls = [asyncio.ensure_future(get(connection, 0.3)) for _ in range(3)]

    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, TimeoutError)
        assert isinstance(error, FlowStateError)
    release.set()
    assert "projects/p/databases/(default)/documents" == await connection.documents(Deadline.after(20))


def test_own_credentials_sign_their_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Service accounts that we find ourselves sign their tokens, as Google's generated client lets them."""

    class ServiceAccount:
        def with_always_use_jwt_access(self, value: bool) -> str:
            return f"self-signed {value}"

    monkeypatch.setattr("google.auth.default", lambda **_: (ServiceAccount(), "p"))

    assert "self-signed True" == database_of_settings(FlowStateSettings()).credentials
