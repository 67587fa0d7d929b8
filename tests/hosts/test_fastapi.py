"""FastAPI: served by uvicorn, and in the TestClient that its users test with."""

from __future__ import annotations

import subprocess
import sys

from tests.hosts.serving import EXAMPLES, Server, at_once, in_turn


def test_uvicorn(host_environment: dict[str, str]) -> None:
    """A store entered by the lifespan and handed out by Depends serves 50 requests in turn and 50 at once."""
    arguments = ("--host", "127.0.0.1", "--port", "{port}", "--app-dir", str(EXAMPLES), "fastapi_app:app")
    with Server("uvicorn", *arguments, environment=host_environment) as server:
        http = server.wait().http
        started = in_turn(lambda number: http.put(f"/runs/run-{number}").status_code, 50)
        at_once(lambda number: http.put(f"/runs/run-0/steps/step-{number}").raise_for_status(), 50)
        again = http.put("/runs/run-0").status_code
        shown = http.get("/status/run-0").json()
        page = http.get("/status").json()
        rest = http.get("/status", params={"token": page["next"]}).json()
        missing = http.get("/status/missing").status_code

    assert [200] * 50 == started
    assert 409 == again  # and its 50 steps are there
    assert ("scheduled", 50) == (shown["status"], len(shown["steps"]))
    assert 20 == len({**page["runs"], **rest["runs"]})
    assert 404 == missing


TEST_CLIENTS = """
import sys
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from fastapi_app import app
from firestore_flowstate import FirestoreFlowStateStore, FlowState

made_at_import = FirestoreFlowStateStore()
other = FastAPI()

@other.put("/runs/{id}")
async def start(id: str, store: Annotated[FirestoreFlowStateStore, Depends(lambda: made_at_import)]):
    await store.save(id, FlowState.start())
    return [state.status async for state in store.iterate()]

for round in range(2):
    with TestClient(app) as client:
        print(client.put("/runs/a").status_code, client.get("/status/a").json())
    with TestClient(other) as first, TestClient(other) as second:
        print(first.put("/runs/a").json(), second.put("/runs/b").json())
    print(TestClient(other).put("/runs/c").json())
"""


def test_two_test_clients(host_environment: dict[str, str]) -> None:
    """Contexts of TestClient, each with a loop of its own, use the same store one after another and at once."""
    # Starlette's own warnings differ from version to version, and none of them is about this package.
    warnings = ("-W", "ignore", "-W", "error::ResourceWarning", "-W", "error::RuntimeWarning")
    outcome = subprocess.run(
        [sys.executable, *warnings, "-c", TEST_CLIENTS],
        cwd=EXAMPLES,
        env=host_environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    states = ["scheduled"]
    expected = [
        "200 {'status': 'scheduled', 'steps': []}",
        f"{states} {states * 2}",
        f"{states * 3}",
        "409 {'status': 'scheduled', 'steps': []}",
        f"{states * 3} {states * 3}",
        f"{states * 3}",
    ]

    assert (0, expected, "") == (outcome.returncode, outcome.stdout.splitlines(), outcome.stderr)
