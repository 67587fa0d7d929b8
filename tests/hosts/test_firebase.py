"""Firebase Functions, served as in production: functions-framework, gunicorn, threads, synchronous handlers."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import EXAMPLES, Server, at_once, environment, in_turn

from firestore_flowstate.emulator import Emulator, start_emulator

FOLDER = EXAMPLES / "firebase"
PROJECT = "demo-firebase"


def unsigned_token(uid: str) -> str:
    """Return an ID token as the Auth emulator gives out: without a signature, which emulators do not ask for."""
    now = int(time.time())
    claims = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "sub": uid,
        "user_id": uid,
        "auth_time": now,
        "iat": now - 1,
        "exp": now + 3600,
        "firebase": {"sign_in_provider": "custom", "identities": {}},
    }
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "none"}, claims)
    ]
    return ".".join([*parts, ""])


def signed_in(uid: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {unsigned_token(uid)}"}


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An emulator with the rules of the example."""
    with start_emulator(attach=False, rules=FOLDER / "firestore.rules") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def functions(emulator: Emulator) -> Iterator[dict[str, Server]]:
    """The functions of the example, each in a server of its own, as Firebase deploys them."""
    variables = environment(
        emulator.host,
        PROJECT,
        FIREBASE_AUTH_EMULATOR_HOST="127.0.0.1:1",  # nobody needs to answer: it only says to take unsigned tokens
    )
    source = str(FOLDER / "main.py")
    servers = {
        name: Server(
            "functions_framework",
            *("--source", source, "--target", name, "--host", "127.0.0.1", "--port", "{port}"),
            environment=variables,
        )
        for name in ("start_run", "run_step", "show_run")
    }
    with servers["start_run"], servers["run_step"], servers["show_run"]:
        for server in servers.values():
            server.wait()
        yield servers
        for server in servers.values():
            server.terminate()  # all at once; each is waited for afterwards


def test_deployment() -> None:
    """Firebase's tools find the functions by importing the module, where there are no credentials and no server."""
    variables = environment("", "", ADMIN_PORT="{port}", FIRESTORE_EMULATOR_HOST="", GOOGLE_CLOUD_PROJECT="")
    with Server("firebase_functions.private.serving", environment=variables, cwd=FOLDER) as server:
        found = server.wait().http.get("/__/functions.yaml").text

    assert [True] * 3 == [f"entryPoint: {name}\n" in found for name in ("start_run", "run_step", "show_run")]


def call(server: Server, data: object, *, uid: str | None = None) -> httpx.Response:
    """Call as Firebase's client libraries and Cloud Tasks do."""
    return server.http.post("/", json={"data": data}, headers=signed_in(uid) if uid else {})


def start(functions: dict[str, Server], uid: str = "alice") -> str:
    id: str = call(functions["start_run"], {"item": "book"}, uid=uid).raise_for_status().json()["result"]
    return id


@pytest.mark.parametrize("requests", [in_turn, at_once])
def test_callable_functions(functions: dict[str, Server], requests: Any) -> None:
    """50 calls by signed-in users, in turn and at once, start 50 runs."""
    ids = requests(lambda number: start(functions, f"user-{number}"), 50)

    assert 50 == len(set(ids))


@pytest.mark.parametrize("requests", [in_turn, at_once])
def test_request_functions(functions: dict[str, Server], requests: Any) -> None:
    """50 requests, in turn and at once, all read the run."""
    id = start(functions)
    answers = requests(lambda _: functions["show_run"].http.get("/", params={"id": id}), 50)

    assert [{"status": "scheduled", "steps": {}}] * 50 == [answer.json() for answer in answers]
    assert 404 == functions["show_run"].http.get("/", params={"id": "missing"}).status_code


@pytest.mark.parametrize("requests", [in_turn, at_once])
def test_task_functions(functions: dict[str, Server], requests: Any) -> None:
    """50 tasks for one run, in turn and at once, each delivered twice, keep one result of every step and lose none."""
    id = start(functions)
    steps = [f"step-{number}" for number in range(25)]

    def dispatch(number: int) -> int:
        data = {"id": id, "step": steps[number % 25], "steps": 25, "amount": number % 25}
        return call(functions["run_step"], data).status_code

    assert [200] * 50 == requests(dispatch, 50)
    shown = functions["show_run"].http.get("/", params={"id": id}).json()
    assert {"status": "done", "steps": {step: 2 * number for number, step in enumerate(steps)}} == {
        "status": shown["status"],
        "steps": {step: shown["steps"][step] for step in steps},
    }
    assert 25 == len(shown["steps"])


def test_an_error_of_a_task(functions: dict[str, Server]) -> None:
    """A task for a run that is not there fails, so that the queue knows."""
    missing = str(uuid.uuid4())

    assert 500 == call(functions["run_step"], {"id": missing, "step": "a", "steps": 1, "amount": 1}).status_code


class TestOwnerRules:
    """A run carries its owner as an unknown key, which the rules of the example ask for."""

    @pytest.fixture
    def run(self, emulator: Emulator, functions: dict[str, Server]) -> str:
        """The address of a run of alice's at the REST interface, which takes callers without credentials."""
        id = start(functions, "alice")
        return f"http://{emulator.host}/v1/projects/{PROJECT}/databases/(default)/documents/genkit-flows/{id}"

    def test_reads(self, run: str) -> None:
        """Its owner reads it; another user, and whoever has not signed in, does not."""
        own = httpx.get(run, headers=signed_in("alice"))

        assert 200 == own.status_code
        assert {"stringValue": "alice"} == own.json()["fields"]["owner"]
        assert 403 == httpx.get(run, headers=signed_in("bob")).status_code
        assert 403 == httpx.get(run).status_code

    def test_writes(self, run: str) -> None:
        """Nobody writes or deletes it, its owner neither."""
        fields = {"fields": {"owner": {"stringValue": "bob"}}}
        for headers in (signed_in("alice"), signed_in("bob"), {}):
            assert 403 == httpx.patch(run, json=fields, headers=headers).status_code
            assert 403 == httpx.delete(run, headers=headers).status_code

        assert 200 == httpx.get(run, headers=signed_in("alice")).status_code

    def test_queries(self, emulator: Emulator, functions: dict[str, Server]) -> None:
        """A user may ask for all runs of their own, and not for all runs."""
        uid = f"carol-{uuid.uuid4()}"
        ids = {start(functions, uid), start(functions, uid)}
        own = {"fieldFilter": {"field": {"fieldPath": "owner"}, "op": "EQUAL", "value": {"stringValue": uid}}}
        documents = f"http://{emulator.host}/v1/projects/{PROJECT}/databases/(default)/documents:runQuery"

        def query(where: object) -> httpx.Response:
            body = {"structuredQuery": {"from": [{"collectionId": "genkit-flows"}], "where": where}}
            return httpx.post(documents, json=body, headers=signed_in(uid), timeout=30)

        assert ids == {found["document"]["name"].rpartition("/")[2] for found in query(own).json()}
        assert 403 == query(None).status_code
