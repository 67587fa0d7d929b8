"""The way to production, as far as loopback goes: TLS, tokens, quota projects, and what becomes of bad credentials."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import google.auth.exceptions
import google.oauth2.credentials
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.transport.grpc import AuthMetadataPlugin

from firestore_flowstate import FirestoreFlowStateStore, FlowState
from firestore_flowstate._rpc.channel import open_channel
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.database import Database
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.errors import AccessDeniedError, DeadlineError
from firestore_flowstate.settings import FlowStateSettings
from tests.rpc.scripted_server import ScriptedServer, reply, status
from tests.rpc.strict_python import STRICT_PYTHON


class Token(google.oauth2.credentials.Credentials):  # type: ignore[misc]  # google.auth is untyped
    """A token that is ready, or raises what a refresh is to raise."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__("secret", quota_project_id="payer")
        self.failure = failure
        self.refreshes = 0

    def before_request(self, request: Any, method: str, url: str, headers: Any) -> None:
        self.refreshes += 1
        if self.failure is not None:
            raise self.failure
        super().before_request(request, method, url, headers)

    def with_quota_project(self, quota_project_id: str) -> Token:
        return self


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    roots = tmp_path_factory.mktemp("tls") / "roots.pem"
    Path(roots).write_bytes(certificate)
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(roots)  # read once a process, at its first use of TLS
    unencrypted = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)
    with ScriptedServer(certificate=(pem, certificate)) as server:
        yield server


@pytest.fixture
async def connection(production: ScriptedServer) -> AsyncIterator[Connection]:
    production.calls.clear()
    connection = Connection(FlowStateSettings(project="p", endpoint=production.host))
    yield connection
    await connection.close()


async def get(connection: Connection, seconds: float = 20.0) -> Any:
    deadline = Deadline.after(seconds)
    return await connection.get(f"{await connection.documents(deadline)}/c/a", deadline=deadline, flow_id="a")


async def commit(connection: Connection, seconds: float = 20.0) -> Any:
    deadline = Deadline.after(seconds)
    documents = await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    return await connection.commit([messages.Write(delete=f"{documents}/c/a")], deadline=deadline, flow_id="a")


@pytest.mark.parametrize("bound", [False, True])
async def test_calls_carry_token_and_quota_project(
    production: ScriptedServer, connection: Connection, monkeypatch: pytest.MonkeyPatch, bound: bool
) -> None:
    """Over TLS, each call shows the token and who pays, from the credentials that google.auth found."""
    monkeypatch.setattr("google.auth.default", lambda **_: (Token(), "ignored"))
    await connection.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    production.answer(reply(messages.Document(name="x")))
    if bound:
        await connection.bind()
    assert "x" == (await get(connection)).name

    [call] = production.calls
    assert "Bearer secret" == call.metadata["authorization"]
    assert "payer" == call.metadata["x-goog-user-project"]
    mine, *others = call.metadata["x-goog-api-client"].split(", ")
    assert mine.startswith("firestore-flowstate/")
    # An older google.auth tells of the credentials too, and cannot be told not to.
    suppresses = "suppress_metrics_header" in inspect.signature(AuthMetadataPlugin).parameters
    assert ([] if suppresses else ["cred-type/u"]) == others
    assert "projects/p/databases/(default)" == call.metadata["google-cloud-resource-prefix"]
    assert not connection.is_emulator


async def test_a_connection_that_died_in_silence_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keepalive of the store's own channel gives up within 40 s, and the channel tries to connect each second."""
    secure_channel, noted = grpc.aio.secure_channel, dict[str, int]()

    def noting(endpoint: str, credentials: Any, options: Any) -> Any:
        noted.update(options)
        return secure_channel(endpoint, credentials, options=options)

    monkeypatch.setattr("grpc.aio.secure_channel", noting)
    await open_channel(Database(project="p", id="(default)", endpoint="localhost:1", credentials=Token())).close()

    assert noted["grpc.keepalive_time_ms"] + noted["grpc.keepalive_timeout_ms"] <= 40_000
    assert noted["grpc.max_reconnect_backoff_ms"] <= 1_000


@pytest.mark.parametrize("call", [get, commit])
async def test_credentials_that_were_revoked(
    production: ScriptedServer, connection: Connection, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    """Credentials that no retry makes good fail at once, and say what to renew."""
    token = Token(google.auth.exceptions.RefreshError("invalid_grant: Token has been expired or revoked."))
    monkeypatch.setattr("google.auth.default", lambda **_: (token, None))

    started = time.monotonic()
    with pytest.raises(AccessDeniedError, match="gcloud auth application-default login") as error:
        await call(connection)
    assert time.monotonic() - started < 5
    assert "a" == error.value.flow_id
    assert 1 == token.refreshes
    assert [] == production.calls


@pytest.mark.parametrize("call", [get, commit])
async def test_tokens_that_come_later(
    production: ScriptedServer, connection: Connection, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    """While the token service cannot be reached calls are tried again, commits too: they have not been sent."""
    token = Token(google.auth.exceptions.TransportError("connection refused"))
    monkeypatch.setattr("google.auth.default", lambda **_: (token, None))
    await connection.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    production.answer(reply(messages.CommitResponse()))
    calling = asyncio.ensure_future(call(connection))
    while token.refreshes < 2:  # noqa: ASYNC110  # on a thread of grpc
        await asyncio.sleep(0.01)
    token.failure = None

    await calling
    assert 1 == len(production.calls)


@pytest.mark.parametrize("limit", [None, 2_500_000])
async def test_requests_fill_what_production_takes(
    production: ScriptedServer, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    """A large state goes in requests of up to 10 MiB, not of the emulator's 4, or of what the settings say."""
    monkeypatch.setattr("google.auth.default", lambda **_: (Token(), None))
    more = {} if limit is None else {"max_request_bytes": limit}
    settings = FlowStateSettings(project="p", endpoint=production.host, compress_over=2**40, **more)
    state = FlowState.start(flow_id="large", input="x" * 25_000_000)
    production.calls.clear()
    production.answer(answer_commit)
    async with FirestoreFlowStateStore(settings) as store:
        await store.create("large", state)

    sizes = [len(call.request) for call in production.calls if call.method == "Commit"]
    assert sum(sizes) > 25_000_000
    assert (limit or 10 * 2**20) - 1_100_000 < max(sizes) <= (limit or 10 * 2**20)


def answer_commit(request: bytes, _: object) -> list[bytes]:
    """Say that every write of a commit is stored."""
    from firestore_flowstate._rpc import messages

    commit = messages.CommitRequest.FromString(request)
    now = messages.Timestamp(seconds=1_700_000_000)
    reply = messages.CommitResponse(commit_time=now)
    for _ in commit.writes:
        reply.write_results.add(update_time=now)
    return [reply.SerializeToString()]


async def test_tokens_that_never_come(
    production: ScriptedServer, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that never got a token ends in time, and was certainly not applied."""
    token = Token(google.auth.exceptions.TransportError("connection refused"))
    monkeypatch.setattr("google.auth.default", lambda **_: (token, None))

    with pytest.raises(DeadlineError, match="connection refused") as error:
        await commit(connection, 3)
    assert not error.value.outcome_unknown
    assert [] == production.calls


def test_credentials_need_nothing_of_googles_client(production: ScriptedServer) -> None:
    """A process that calls Firestore itself imports google.auth, and still no google.cloud.firestore."""
    code = f"""
import asyncio, sys, google.auth, google.oauth2.credentials
google.auth.default = lambda **_: (google.oauth2.credentials.Credentials("secret"), "p")
from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
asyncio.run(FirestoreFlowStateStore(FlowStateSettings(endpoint={production.host!r}, project="p")).ping())
print(*sys.modules)
"""
    production.answer(status("NOT_FOUND"))
    done = subprocess.run([*STRICT_PYTHON, "-c", code], capture_output=True, text=True, check=False, timeout=100)

    assert (0, "") == (done.returncode, done.stderr)
    assert "google.auth.transport.grpc" in done.stdout.split()
    assert [] == [
        name for name in done.stdout.split() if name.startswith(("google.cloud.firestore", "google.api_core"))
    ]
