"""Durable flows behind HTTP: who is let in, what queues are told, and how servers end."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import multiprocessing
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from google.auth import crypt, jwt
from google.auth.exceptions import TransportError

from firestore_flowstate import (
    FirestoreFlowStateStore,
    FlowStateError,
    FlowStateSettings,
    MemoryFlowStateStore,
    StoreUnavailableError,
)
from firestore_flowstate.flows import Flows, Run, google_tokens
from firestore_flowstate.flows.google_tokens import KeptResponses
from firestore_flowstate.flows.http import Oidc
from tests.hosts.serving import Server

AUDIENCE = "https://shop.test/drive"
ACCOUNT = "flows@shop.test"


class Signer:
    """A key, and the certificate that Google would publish of it."""

    def __init__(self, id: str) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        now = datetime.now(timezone.utc)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.id = id
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self._signer = crypt.RSASigner.from_string(pem, id)

    def token(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "email": ACCOUNT,
            "email_verified": True,
            "iat": now - 60,
            "exp": now + 3600,
            **changes,
        }
        return jwt.encode(self._signer, {key: value for key, value in claims.items() if value is not None}).decode()


GOOGLE, STRANGER = Signer("google"), Signer("google")


def unsigned(token: str) -> str:
    _, claims, _ = token.split(".")
    return f"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."


REFUSED: Final[tuple[Callable[[], str], ...]] = (
    lambda: GOOGLE.token(aud="https://other.test/drive"),
    lambda: GOOGLE.token(aud=None),
    lambda: GOOGLE.token(email="other@shop.test"),
    lambda: GOOGLE.token(email=None),
    lambda: GOOGLE.token(email_verified=False),
    lambda: GOOGLE.token(email_verified="false"),
    lambda: GOOGLE.token(exp=int(time.time()) - 60),
    lambda: GOOGLE.token(exp=None),
    lambda: GOOGLE.token(iat=int(time.time()) + 600),
    lambda: GOOGLE.token(nbf=int(time.time()) + 600),
    lambda: GOOGLE.token(nbf=float("nan")),
    lambda: GOOGLE.token(nbf=float("-inf")),
    lambda: GOOGLE.token(nbf="0"),
    lambda: GOOGLE.token(nbf=True),
    lambda: GOOGLE.token(iat=float("nan")),
    lambda: GOOGLE.token(iat=float("-inf")),
    lambda: GOOGLE.token(exp=float("nan")),
    lambda: GOOGLE.token(exp=float("inf")),
    lambda: GOOGLE.token(iss="https://accounts.example.com"),
    lambda: GOOGLE.token(iss=None),
    lambda: STRANGER.token(),
    lambda: unsigned(GOOGLE.token()),
    lambda: GOOGLE.token()[:-6] + "AAAAAA",
    lambda: "a.b.c",
    lambda: "..",
    lambda: "",
)
"""What makes tokens that are not let in."""


class Certificates:
    """google-auth's transport, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = 200
        self.caching = {"Cache-Control": "public, max-age=3600"}
        self.data = json.dumps({GOOGLE.id: GOOGLE.certificate}).encode()

    def __call__(self, url: str, method: str = "GET", **_: Any) -> Any:
        self.asked += 1

        class Answer:
            headers = self.caching
            status = self.status
            data = self.data

        return Answer


class Hanging(Certificates):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.begun, self.may_answer = threading.Event(), threading.Event()

    def __call__(self, url: str, method: str = "GET", **options: Any) -> Any:
        self.times += 1
        self.begun.set()
        assert self.may_answer.wait(30)
        return super().__call__(url, method, **options)


def unreachable(url: str, **_: Any) -> Any:
    """Fail as google-auth's transport does."""
    raise TransportError("no route to the server")


@dataclass
class Sent:
    """A request with these headers, as httpx has them."""

    given: dict[str, str]

    @property
    def headers(self) -> httpx.Headers:
        return httpx.Headers(self.given)


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.fixture
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture
async def flows() -> AsyncIterator[Flows]:
    flows = Flows(MemoryFlowStateStore())

    @flows.flow
    async def twice(run: Run, number: int) -> int:
        return 2 * number

    yield flows
    await flows.close()


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://flows.test"
    )


class TestOidc:
    """Google's tokens for one account and one audience are let in, and nothing else."""

    @pytest.fixture
    def http(self, flows: Flows, certificates: Certificates) -> httpx.AsyncClient:
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        return client(flows.app(verify=oidc))

    async def test_the_account_is_let_in(self, http: httpx.AsyncClient, certificates: Certificates) -> None:
        """Certificates are fetched once."""
        headers = {"Authorization": f"Bearer {GOOGLE.token()}"}
        answers = [await http.post("/drive", json={"id": "x"}, headers=headers) for _ in range(3)]

        assert [(200, {"outcome": "missing"})] * 3 == [(answer.status_code, answer.json()) for answer in answers]
        assert 1 == certificates.asked

    @pytest.mark.parametrize("token", REFUSED)
    @pytest.mark.parametrize("path", ["/drive", "/sweep"])
    async def test_others_are_not(self, http: httpx.AsyncClient, token: Callable[[], str], path: str) -> None:
        """The answer is 401 without a word more, and the body is not read."""
        answer = await http.post(path, content=b"{" * 200_000, headers={"Authorization": f"Bearer {token()}"})

        assert (401, b"") == (answer.status_code, answer.content)

    @pytest.mark.parametrize("token", REFUSED)
    def test_a_token_that_is_refused_has_a_line(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture, token: Callable[[], str]
    ) -> None:
        """It has no part of the token, and says what a token must be."""
        caplog.set_level(logging.INFO, "firestore_flowstate.flows")
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        refused = token()
        assert not oidc.allows(f"Bearer {refused}")
        [line] = [record for record in caplog.records if record.levelno == logging.INFO]

        assert line.message.startswith("A token was refused" if refused else "A request was refused")
        assert [] == [part for part in refused.split(".") if len(part) > 1 and part in caplog.text]

    def test_a_token_of_a_private_service_is_explained(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Cloud Run has taken its signature off. One warning says what to do, and nobody fetches certificates."""
        caplog.set_level(logging.INFO, "firestore_flowstate.flows")
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        header, claims, _ = GOOGLE.token().split(".")
        token = f"{header}.{claims}.SIGNATURE_REMOVED_BY_GOOGLE"
        allowed = [oidc.allows(f"Bearer {token}") for _ in range(3)]
        levels = [record.levelno for record in caplog.records]

        assert [False] * 3 == allowed
        assert [logging.WARNING, logging.INFO, logging.INFO] == levels
        assert "verify=None" in caplog.messages[0]
        assert claims not in caplog.text
        assert 0 == certificates.asked

    @pytest.mark.parametrize("header", ["Basic abcdef", "Bearer", "abcdef", "Bearer abc/def", "", None])
    def test_a_request_without_a_token_has_a_line(
        self, certificates: Certificates, caplog: pytest.LogCaptureFixture, header: str | None
    ) -> None:
        """It does not have the header: a secret may be in it."""
        caplog.set_level(logging.INFO, "firestore_flowstate.flows")
        assert not Oidc(audience=AUDIENCE, service_account=ACCOUNT).allows(header)

        assert ["A request was refused: it has no header Authorization of the form Bearer TOKEN."] == caplog.messages

    @pytest.mark.parametrize("nbf", [0, 0.5, 5, -3600])
    async def test_times_are_taken_with_a_skew(self, http: httpx.AsyncClient, nbf: float) -> None:
        """Google's clock may be ahead by a few seconds."""
        now = time.time()
        headers = {"Authorization": f"Bearer {GOOGLE.token(nbf=now + nbf, iat=now + 5, exp=now - 5)}"}

        assert 200 == (await http.post("/drive", json={"id": "x"}, headers=headers)).status_code

    @pytest.mark.parametrize("header", ["Basic abc", "Bearer", "bearer  ", ""])
    async def test_without_a_token(self, http: httpx.AsyncClient, header: str) -> None:
        """The answer is 401 too. `/health` needs no token."""
        answer = await http.post("/drive", json={"id": "x"}, headers={"Authorization": header})

        assert (401, b"") == (answer.status_code, answer.content)
        assert 200 == (await http.get("/health")).status_code

    async def test_without_certificates_nobody_is_let_in(
        self, http: httpx.AsyncClient, certificates: Certificates
    ) -> None:
        """The answer is 500, so that the queue tries again."""
        certificates.status = 503
        answer = await http.post("/drive", headers={"Authorization": f"Bearer {GOOGLE.token()}"})

        assert (500, b"") == (answer.status_code, answer.content)

    @pytest.mark.parametrize(
        "data",
        [
            b"<html>Log in</html>",
            b"\xff",
            b"[]",
            b"null",
            b"{}",
            b"[" * 100_000,
            json.dumps({GOOGLE.id: "not a certificate"}).encode(),
            json.dumps({GOOGLE.id: None}).encode(),
            json.dumps({"keys": [GOOGLE.certificate]}).encode(),
        ],
        ids=lambda data: repr(data[:20]),
    )
    async def test_what_are_no_certificates_is_not_kept(
        self, http: httpx.AsyncClient, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, data: bytes
    ) -> None:
        """A proxy's page, kept for an hour, would have every token refused for so long. The answer is 500 meanwhile."""
        monkeypatch.setattr(google_tokens, "PAUSE_SECONDS", 0.0)
        good, certificates.data = certificates.data, data
        headers = {"Authorization": f"Bearer {GOOGLE.token()}"}
        broken = await http.post("/drive", json={"id": "x"}, headers=headers)
        certificates.data = good
        well = await http.post("/drive", json={"id": "x"}, headers=headers)

        assert [(500, b""), (200, b'{"outcome":"missing"}')] == [(it.status_code, it.content) for it in (broken, well)]

    async def test_one_fetch_serves_all_who_wait(self, flows: Flows) -> None:
        """A server of certificates that hangs takes none of asyncio's threads, whoever sends tokens meanwhile."""
        certificates = Hanging()
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        http = client(flows.app(verify=oidc))
        headers = {"Authorization": f"Bearer {GOOGLE.token()}"}
        given_up, *waiting = [asyncio.ensure_future(http.post("/drive", json={}, headers=headers)) for _ in range(60)]
        with ThreadPoolExecutor(1) as elsewhere:
            there = elsewhere.submit(lambda: asyncio.run(oidc(Sent(headers))))
            allowed = threading.Thread(target=oidc.allows, args=(headers["Authorization"],))
            allowed.start()
            try:
                assert await asyncio.to_thread(certificates.begun.wait, 5)
                assert 401 == (await http.post("/drive", headers={"Authorization": "Bearer a.b.c"})).status_code
                assert 5 == await asyncio.wait_for(asyncio.to_thread(int, "5"), 5)
                given_up.cancel()
                await asyncio.wait([given_up])
            finally:
                certificates.may_answer.set()
            answers = await asyncio.gather(*waiting)
            allowed.join()

        assert there.result() is True
        assert {400} == {answer.status_code for answer in answers}
        assert 1 == certificates.times

    def test_what_has_not_the_form_of_a_token_fetches_nothing(self, certificates: Certificates) -> None:
        """Else whoever sends texts has Google's server asked."""
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        _, claims, signature = GOOGLE.token().split(".")
        headers = ["a", "", "5", "e30", *map(segment, ({"alg": "RS256"}, {"alg": "HS256", "kid": "google"}, []))]

        assert {False} == {oidc.allows(f"Bearer {header}.{claims}.{signature}") for header in headers}
        assert not oidc.allows(f"Bearer {GOOGLE.token()}.")
        assert 0 == certificates.asked

    def test_after_a_failure_there_is_a_pause(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who asks in it hears the same at once, and the server is left alone."""
        monkeypatch.setattr(google_tokens, "PAUSE_SECONDS", 60.0)
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        certificates.status = 503
        for _ in range(5):
            with pytest.raises(FlowStateError, match=r"no token can be verified now: .* answered 503"):
                oidc.allows(f"Bearer {GOOGLE.token()}")

        assert 1 == certificates.asked

    async def test_no_error_of_google_leaves(self) -> None:
        """A host catches one of ours, whichever way it asks. Google's own is the cause."""
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(unreachable)
        with pytest.raises(FlowStateError, match="no token can be verified now") as blocking:
            oidc.allows(f"Bearer {GOOGLE.token()}")
        with pytest.raises(FlowStateError, match="no token can be verified now") as awaited:
            await oidc(Sent({"Authorization": f"Bearer {GOOGLE.token()}"}))

        assert [TransportError] * 2 == [type(caught.value.__cause__) for caught in (blocking, awaited)]

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Cache-Control": "public, max-age=20000, must-revalidate, no-transform", "Age": "19990"}, 10),
            ({"CACHE-CONTROL": "PUBLIC,MAX-AGE=30"}, 30),
            ({"Cache-Control": 'max-age="30"'}, 30),
            ({"Cache-Control": "x-max-age=99, max-age=5"}, 5),
            ({"Cache-Control": "s-maxage=1, max-age=9"}, 9),
            ({"Cache-Control": 'private="max-age=5, x", max-age=9'}, 9),
            ({"Cache-Control": "max-age=9, max-age=5"}, 5),
            ({"Cache-Control": "max-age=60", "Age": "soon"}, 60),
            ({"Cache-Control": "max-age=60", "Age": "-5"}, 60),
            ({"Cache-Control": "max-age=60", "Age": "60"}, 1),
            ({"Cache-Control": "max-age=60", "Age": "9" * 5_000}, 1),
            ({"Cache-Control": "max-age=" + "9" * 5_000, "Age": "9" * 5_000}, 1),
            ({"Cache-Control": "no-store"}, 1),
            ({"Cache-Control": "max-age=60, No-Store"}, 1),
            ({"Cache-Control": "no-cache, max-age=3600"}, 1),
            ({"Cache-Control": 'no-cache="set-cookie", max-age=3600'}, 1),
            ({"Cache-Control": "max-age=0"}, 1),
            ({"Cache-Control": "max-age=-5"}, 1),
            ({"Cache-Control": "max-age"}, 1),
            ({"Cache-Control": "max-age=soon"}, 1),
            ({"Cache-Control": "max-age=\u0663"}, 1),
            ({"Cache-Control": 'max-age="30'}, 1),
            ({"Cache-Control": "max-age=" + "9" * 5_000}, 86_400),
            ({"Cache-Control": ',=,";'}, 300),
            ({"Cache-Control": "public", "Age": "290"}, 300),
            ({}, 300),
        ],
        ids=lambda value: str(value)[:60],
    )
    def test_certificates_are_kept_as_their_server_says(self, headers: dict[str, str], seconds: float) -> None:
        """A cache in between has used up a part of the time. Who says nothing has 300 s, and all have 1 s to a day."""
        assert seconds == google_tokens.kept_seconds(headers)

    @pytest.mark.parametrize(("least", "asked"), [(60.0, 1), (0.0, 5)])
    def test_one_fetch_serves_a_burst(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, least: float, asked: int
    ) -> None:
        """It does so for a second, here 60 or 0, if the server says that nothing is to be kept."""
        monkeypatch.setattr(google_tokens, "LEAST_SECONDS", least)
        certificates.caching = {"Cache-Control": "no-store"}
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)

        assert [True] * 5 == [oidc.allows(f"Bearer {GOOGLE.token()}") for _ in range(5)]
        assert asked == certificates.asked

    def test_a_fetch_has_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits for longer than 10 seconds, here 0.1, and then others do not wait for it at all."""
        monkeypatch.setattr(google_tokens, "FETCH_SECONDS", 0.1)
        monkeypatch.setattr(google_tokens, "PAUSE_SECONDS", 60.0)
        certificates = Hanging()
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        try:
            for _ in range(2):
                with pytest.raises(FlowStateError, match=r"has not answered within 0\.1 s"):
                    oidc.allows(f"Bearer {GOOGLE.token()}")
        finally:
            certificates.may_answer.set()

        assert 1 == certificates.times

    def test_a_forked_child_fetches_its_own(self) -> None:
        """A fetch that was under way in the parent never ends in the child, which has not its thread."""
        certificates = Hanging()
        oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
        oidc._certificates = KeptResponses(certificates)
        waiting = threading.Thread(target=oidc.allows, args=(f"Bearer {GOOGLE.token()}",))
        waiting.start()
        assert certificates.begun.wait(5)

        def child() -> None:
            certificates.may_answer = threading.Event()
            certificates.may_answer.set()
            os._exit(0 if oidc.allows(f"Bearer {GOOGLE.token()}") else 1)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(8)
        process.kill()
        certificates.may_answer.set()
        waiting.join()

        assert 0 == process.exitcode

    @pytest.mark.parametrize(("audience", "account"), [("", ACCOUNT), (AUDIENCE, "")])
    def test_both_are_asked_for(self, audience: str, account: str) -> None:
        """Google-auth takes no audience for any audience."""
        with pytest.raises(ValueError, match="is empty: give the url"):
            Oidc(audience=audience, service_account=account)

    @pytest.mark.parametrize(
        "wrong",
        ["flows", "flows@", "flows@shop", "@shop.test", "a@b@shop.test", " flows@shop.test", "flows@shop.test\n", "*"],
        ids=repr,
    )
    def test_an_account_is_an_email(self, wrong: str) -> None:
        """An id or a name of the account is in no token: each call would be refused."""
        with pytest.raises(ValueError, match="service_account is the email of the account"):
            Oidc(audience=AUDIENCE, service_account=wrong)

    @pytest.mark.parametrize("wrong", [[AUDIENCE], (AUDIENCE,), {AUDIENCE}, b"https://shop.test", 5, None], ids=repr)
    def test_both_are_text(self, wrong: Any) -> None:
        """Google-auth takes a list of audiences, each of which it would let in."""
        with pytest.raises(TypeError, match="audience is a string"):
            Oidc(audience=wrong, service_account=ACCOUNT)
        with pytest.raises(TypeError, match="service_account is a string"):
            Oidc(audience=AUDIENCE, service_account=wrong)


async def test_verify_may_be_any_function(flows: Flows) -> None:
    """The function takes the request, and may be async."""

    async def knows(request: Any) -> bool:
        return bool(request.headers.get("x-secret") == "s")

    for verify in (knows, lambda request: request.headers.get("x-secret") == "s"):
        http = client(flows.app(verify=verify))
        assert 401 == (await http.post("/sweep")).status_code
        assert 200 == (await http.post("/sweep", headers={"x-secret": "s"})).status_code


def test_verify_has_no_default(flows: Flows) -> None:
    """Nobody lets everybody in by forgetting it."""
    with pytest.raises(TypeError):
        flows.app()  # type: ignore[call-arg]


async def test_bodies(flows: Flows) -> None:
    """A body is an id, as Cloud Tasks and Firebase send it. Any other is answered by 400, and by 413 if it is large."""
    http = client(flows.app(verify=None))
    for body, status in [
        (b'{"id": "x"}', 200),
        (b'{"data": {"id": "x"}}', 200),
        (b'{"id": 5}', 400),
        (b'{"id": "a/b"}', 400),
        (b"[]", 400),
        (b"", 400),
        (b"[" * 50_000, 400),
        (b'{"id": "' + b"x" * 110_000 + b'"}', 413),
    ]:
        assert status == (await http.post("/drive", content=body)).status_code, body[:20]
    assert 405 == (await http.get("/drive")).status_code


async def test_what_queues_are_told(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    """Queues get 200 for each outcome, for an unknown flow too, and 500 only if the store cannot be reached."""
    outside = Flows(flows.store, dispatcher=Nowhere())
    http = client(flows.app(verify=None))
    await outside.start("twice", 4, id="x")
    await outside.start("unknown", id="y")
    outcomes = [(await http.post("/drive", json={"id": id})).json() for id in ("x", "x", "y", "z")]

    assert [{"outcome": each} for each in ("done", "done", "unknown flow", "missing")] == outcomes
    assert "import the module that defines it" in caplog.text
    assert 8 == await flows.result("x")

    broken = Flows(Broken())  # type: ignore[arg-type]
    answer = await client(broken.app(verify=None)).post("/drive", json={"id": "x"})
    assert (500, {"error": "the store or the queue cannot be reached"}) == (answer.status_code, answer.json())


class Nowhere:
    async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None:
        """Wake nobody."""

    async def close(self) -> None:
        """Nothing is held."""


class Broken(MemoryFlowStateStore):
    async def load(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("no server", flow_id="x")


async def test_mounted_under_a_prefix(flows: Flows) -> None:
    """FastAPI serves it beside its other routes."""
    app = FastAPI()
    app.mount("/flows", flows.app(verify=None))

    assert {"outcome": "missing"} == (await client(app).post("/flows/drive", json={"id": "x"})).json()
    assert {"status": "ok"} == (await client(app).get("/flows/health")).json()


@pytest.fixture(params=["uvicorn alone", "uvicorn mounted", "gunicorn mounted"])
def server(request: pytest.FixtureRequest, host_environment: dict[str, str]) -> Iterator[tuple[Server, str]]:
    """The application in real servers, with the prefix of its routes."""
    name, how = request.param.split()
    folder, target = str(Path(__file__).parent), f"flows_app:{how}"
    if name == "uvicorn":
        arguments = ("uvicorn", "--port", "{port}", "--app-dir", folder, target)
    else:
        worker = "uvicorn_worker.UvicornWorker"
        arguments = ("gunicorn", "--bind", "127.0.0.1:{port}", "--chdir", folder, "--worker-class", worker, target)
    with Server(*arguments, environment=host_environment) as server:
        yield server.wait(), "/flows" if how == "mounted" else ""


async def test_sigterm_hands_over(
    server: tuple[Server, str], host_environment: dict[str, str], flow_state_settings: FlowStateSettings
) -> None:
    """SIGTERM comes in mid-drive, with a request open. The step in flight is recorded, no other begins, within 10 s."""
    settings = flow_state_settings.model_copy(
        update={"project": host_environment["GOOGLE_CLOUD_PROJECT"], "collection": "genkit-flows"}
    )
    host, prefix = server
    async with FirestoreFlowStateStore(settings) as store:
        outside = Flows(store, dispatcher=Nowhere())
        id = str(uuid.uuid4())
        await outside.start("napping", [0.1, 2.0, 3600.0], id=id)
        answer, took = await host.ended_while(f"{prefix}/drive", {"id": id}, says="napping for 2.0 s", within=10)
        state = await store.load(id)

    assert {"outcome": "handed over"} == answer.json()
    assert took < 10
    assert state is not None
    assert {"nap", "nap-1"} == set(state.cache)
    assert "owner" not in state.operation.metadata["run"]
    assert state.wakeAt <= time.time() * 1000
