"""A real emulator, a real proxy in front of it, and a real grpc server when statuses must be told to come."""

from __future__ import annotations

import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from firestore_flowstate import _operations
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.emulator import Emulator, start_emulator
from firestore_flowstate.settings import FlowStateSettings
from tests.rpc.scripted_server import ScriptedServer
from tests.rpc.tcp_proxy import TcpProxy

_operations.import_all()  # before any test, so that no deadline has to cover the imports


@pytest.fixture(autouse=True)
def _environment_of_a_fresh_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (
        "FIRESTORE_EMULATOR_HOST",
        "GOOGLE_CLOUD_PROJECT",
        "GCLOUD_PROJECT",
        "FIREBASE_CONFIG",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    with start_emulator() as emulator:
        yield emulator


@pytest.fixture
def settings(emulator: Emulator) -> FlowStateSettings:
    return FlowStateSettings(emulator_host=emulator.host, timeout=20.0)


@pytest.fixture
def deadline() -> Deadline:
    return Deadline.after(20.0)


@pytest.fixture
async def connection(settings: FlowStateSettings) -> AsyncIterator[Connection]:
    connection = Connection(settings)
    yield connection
    await connection.close()


@pytest.fixture
def proxy(emulator: Emulator) -> Iterator[TcpProxy]:
    proxy = TcpProxy(emulator.host)
    yield proxy
    proxy.close()


@pytest.fixture
async def through_proxy(proxy: TcpProxy) -> AsyncIterator[Connection]:
    connection = Connection(FlowStateSettings(emulator_host=proxy.host))
    await connection.documents(Deadline.after(60.0))
    yield connection
    await connection.close()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture
async def to_server(server: ScriptedServer) -> AsyncIterator[Connection]:
    connection = Connection(FlowStateSettings(emulator_host=server.host, project="demo-scripted"))
    await connection.documents(Deadline.after(60.0))
    yield connection
    await connection.close()


@pytest.fixture
def background_threads() -> Callable[[], list[threading.Thread]]:
    """The background threads of the test's own connections, not those that an earlier test has left."""
    before = set(threading.enumerate())
    return lambda: [
        thread for thread in threading.enumerate() if thread.name == "firestore-flowstate" and thread not in before
    ]


@pytest.fixture
def collection() -> str:
    return f"rpc-{uuid.uuid4().hex}"
