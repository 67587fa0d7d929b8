"""Dispatchers that were used before a fork: a child has connections of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.rpc.strict_python import OLD_PYTHONS_BY_ENVIRONMENT

FORKING = """
import asyncio, os, sys, warnings
import firebase_admin, firebase_admin.functions
from firebase_admin import credentials
from google.auth.credentials import AnonymousCredentials, TokenState
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksRestTransport
from firestore_flowstate.flows import cloud_tasks
from firestore_flowstate.flows.firebase import FirebaseTasks

host, kind = sys.argv[1:]

class Robot(AnonymousCredentials):
    service_account_email = "functions@demo.test"
    token_state = TokenState.FRESH

class Certificate(credentials.Base):
    def get_credential(self):
        return Robot()

if kind == "firebase":
    url = "/projects/{project_id}/locations/{location_id}/queues/{resource_id}/tasks"
    firebase_admin.functions._CLOUD_TASKS_API_URL_FORMAT = f"http://{host}{url}"
    tasks = FirebaseTasks("driveflow", app=firebase_admin.initialize_app(Certificate(), {"projectId": "demo"}))
else:
    transport = lambda: CloudTasksRestTransport(host=host, url_scheme="http", credentials=AnonymousCredentials())
    cloud_tasks._client = lambda: CloudTasksClient(transport=transport())
    tasks = cloud_tasks.CloudTasks("projects/demo/locations/here/queues/flows", "https://shop.test/drive")

warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, which is what is tried
asyncio.run(tasks.dispatch("parent", wake="1-0"))
pid = os.fork()
if not pid:
    asyncio.run(tasks.dispatch("child", wake="1-0"))
    asyncio.run(tasks.close())
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
asyncio.run(tasks.dispatch("parent again", wake="1-0"))
asyncio.run(tasks.close())
"""


class Handler(BaseHTTPRequestHandler):
    """Takes tasks, and notes over which connection each has come, which it keeps open."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        task = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["task"]
        body = json.loads(b64decode(task["httpRequest"]["body"]))
        self.server.ports[body.get("data", body)["id"]] = self.client_address[1]  # type: ignore[attr-defined]
        answer = json.dumps({"name": task["name"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["firebase", "cloud tasks"])
def test_a_forked_child_has_connections_of_its_own(kind: str) -> None:
    """The parent goes on over the one that it had."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.ports = {}  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        told = subprocess.run(
            [sys.executable, "-c", FORKING, f"127.0.0.1:{server.server_port}", kind],
            env={
                **os.environ,
                "CLOUD_TASKS_EMULATOR_HOST": "",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "PYTHONWARNINGS": OLD_PYTHONS_BY_ENVIRONMENT,
            },
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        server.shutdown()
    ports: dict[str, int] = server.ports  # type: ignore[attr-defined]

    assert (0, "") == (told.returncode, told.stderr)
    assert {"parent", "child", "parent again"} == set(ports)
    assert ports["parent"] == ports["parent again"] != ports["child"]
