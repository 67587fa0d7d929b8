"""The project in examples/firebase, served as Firebase does: each function by a server, with a task queue and rules."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from firestore_flowstate.emulator import Emulator, start_emulator
from tests.hosts.serving import EXAMPLES, Server, environment
from tests.queues.task_queue_emulator import task_queue_emulator
from tests.support.ports import Port

FOLDER = EXAMPLES / "firebase"
PROJECT = "demo-firebase"
FUNCTIONS = ("start", "approve", "drive", "sweep")


class Project:
    """The functions' servers by their names, and the emulator of Firestore."""

    def __init__(self, emulator: Emulator, servers: dict[str, Server], http: httpx.Client) -> None:
        self.emulator = emulator
        self.servers = servers
        self.documents = f"http://{emulator.host}/v1/projects/{PROJECT}/databases/(default)/documents"
        self._http = http

    def call(self, name: str, data: object, *, uid: str | None = None) -> httpx.Response:
        """Call a function, as Firebase's client libraries and Cloud Tasks do."""
        return self.servers[name].http.post("/", json={"data": data}, headers=signed_in(uid) if uid else {})

    def start(self, uid: str = "alice", topic: str = "tea") -> str:
        """Start a run. Return its id."""
        id: str = self.call("start", {"topic": topic}, uid=uid).raise_for_status().json()["result"]
        return id

    def fields(self, id: str, uid: str = "alice") -> dict[str, Any]:
        """Return the fields of a run's document that are scalars, as its owner reads them."""
        answer = self._http.get(f"{self.documents}/genkit-flows/{id}", headers=signed_in(uid))
        document = answer.raise_for_status().json()
        return {name: next(iter(value.values())) for name, value in document["fields"].items()}

    def wait_for(self, id: str, uid: str = "alice", **expected: str) -> dict[str, Any]:
        """Return the fields when they are as expected."""
        deadline, pause = time.monotonic() + 60, 0.05
        while True:
            fields = self.fields(id, uid)
            if expected.items() <= fields.items():
                return fields
            assert time.monotonic() < deadline, fields
            time.sleep(pause)
            pause = min(2 * pause, 1.0)  # fifty that ask all the time would be most of the load


@contextmanager
def served(
    source: Path = FOLDER / "functions" / "main.py", *, workers: Mapping[str, int] = {}, threads: int = 8
) -> Iterator[Project]:
    """Serve the project, or another module with its functions.

    Args:
        source: The module.
        workers: How many processes serve a function; one, unless it is named here.
        threads: How many threads each of them has.
    """
    with ExitStack() as stack:
        emulator = stack.enter_context(start_emulator(attach=False, rules=FOLDER / "firestore.rules"))
        port = stack.enter_context(Port())
        tasks = stack.enter_context(task_queue_emulator(PROJECT, "drive", f"http://{port.host}/"))
        variables = environment(
            emulator.host,
            PROJECT,
            FIREBASE_AUTH_EMULATOR_HOST="127.0.0.1:1",  # nobody needs to answer: it only says to take unsigned tokens
            CLOUD_TASKS_EMULATOR_HOST=tasks,
            THREADS=str(threads),
        )
        servers = {
            name: Server(
                "functions_framework",
                *("--source", str(source), "--target", name, "--host", "127.0.0.1", "--port", "{port}"),
                environment={**variables, "WORKERS": str(workers.get(name, 1))},
                port=port if name == "drive" else None,
            )
            for name in FUNCTIONS
        }
        for server in servers.values():
            stack.enter_context(server)
        for server in servers.values():
            server.wait()
        # Each client makes an SSL context, which takes 30 ms of processor time, and a test asks a hundred times.
        yield Project(emulator, servers, stack.enter_context(httpx.Client(timeout=30)))
        for server in servers.values():
            server.terminate()  # all at once. Each is waited for afterwards


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
    """Return the headers of a user who has signed in."""
    return {"Authorization": f"Bearer {unsigned_token(uid)}"}
