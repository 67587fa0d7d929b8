"""Durable flows in gunicorn's workers, which are synchronous, and killed."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest
from google.cloud.tasks_v2.types import Task

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows import Flows
from firestore_flowstate.flows.google_tokens import KeptResponses
from tests.hosts.serving import EXAMPLES, NO_KEEPING, ROOT, Server
from tests.hosts.test_flows_app import Nowhere, unreachable
from tests.queues.cloud_tasks_server import CloudTasksServer
from tests.support.ports import Port

MOST_KILLS = 40  # after so many the test no longer waits for a delivery to be cut


@pytest.fixture
def settings(host_environment: dict[str, str], flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    """The settings of the store that the hosts use."""
    return flow_state_settings.model_copy(
        update={"project": host_environment["GOOGLE_CLOUD_PROJECT"], "collection": "genkit-flows"}
    )


@pytest.mark.parametrize(("threads", "kills"), [(1, 0), (8, 0), (8, 4)])
async def test_fifty_runs_over_four_workers(
    host_environment: dict[str, str], settings: FlowStateSettings, threads: int, kills: int
) -> None:
    """Each run ends with all results, also if workers are killed. One that outlasts a request goes on in the next."""
    port = Port()

    async def deliver(task: Task) -> int:
        request = task.http_request
        return (await http.post(request.url, content=request.body, headers=dict(request.headers))).status_code

    async with httpx.AsyncClient(timeout=60, limits=NO_KEEPING) as http, CloudTasksServer(deliver) as queue:
        url = f"http://{port.host}/drive"
        variables = {**host_environment, "QUEUE_HOST": queue.http_host, "DRIVE_URL": url}
        arguments = ("--chdir", str(ROOT / "tests" / "hosts"), "--workers", "4", "--threads", str(threads))
        bind = ("--bind", "127.0.0.1:{port}", "--timeout", "60")
        with Server("gunicorn", *bind, *arguments, "flask_flows:app", environment=variables, port=port) as server:
            await asyncio.to_thread(server.wait)
            await check_runs(server, http, settings, kills=kills, is_cut=lambda: bool(queue.statuses[504]))
            if kills:
                server.forgive("SIGKILL")  # gunicorn says how its workers have ended
    assert queue.statuses[200] >= 50
    assert bool(kills) == bool(queue.statuses[504]), "a delivery that was cut"


async def check_runs(
    server: Server, http: httpx.AsyncClient, settings: FlowStateSettings, *, kills: int, is_cut: Callable[[], bool]
) -> None:
    """Start runs, kill workers so often and until a delivery was cut, and look at what has become of the runs."""
    base = f"http://127.0.0.1:{server.port}"
    expected = {f"run-{number}": [0.01, 0.02] for number in range(49)} | {"long": [0.7] * 6}

    async def call(path: str, body: object = None) -> None:
        while True:
            with suppress(httpx.HTTPError):
                (await http.post(f"{base}{path}", json=body)).raise_for_status()
                return
            await asyncio.sleep(0.1)

    async def kill() -> None:
        number = 0
        while number < kills or (kills and number < MOST_KILLS and not is_cut()):
            await asyncio.sleep(0.3)  # in which new workers take deliveries
            for pid in server.workers()[number % 2 :: 2]:  # half of them
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            number += 1

    async def sweep() -> None:
        while True:
            await asyncio.sleep(5)  # seconds between two sweeps, in place of a minute
            await call("/sweep")

    sweeping = asyncio.ensure_future(sweep())
    try:
        starts = [call(f"/start/{id}", seconds) for id, seconds in expected.items()]
        await asyncio.gather(*starts[:-1])
        await starts[-1]  # the long one goes on for as long as workers are killed, also on a machine that is busy
        await kill()
        async with FirestoreFlowStateStore(settings) as store:
            flows = Flows(store)
            results = await asyncio.gather(*(flows.result(id, timeout=80) for id in expected))
            long = await store.load("long")
    finally:
        sweeping.cancel()

    assert list(expected.values()) == results
    assert long is not None
    assert len(long.executions) > 1


@pytest.mark.parametrize("threads", [1, 4])
async def test_sigterm_hands_over(host_environment: dict[str, str], settings: FlowStateSettings, threads: int) -> None:
    """SIGTERM comes in mid-drive, on whichever thread that is. The step in flight is recorded, and no other begins."""
    async with CloudTasksServer(taken) as queue, FirestoreFlowStateStore(settings) as store:
        variables = {**host_environment, "QUEUE_HOST": queue.http_host, "DRIVE_URL": "http://127.0.0.1:1/"}
        arguments = ("--chdir", str(ROOT / "tests" / "hosts"), "--workers", "1", "--threads", str(threads))
        await Flows(store, dispatcher=Nowhere()).start("working", [0.1, 5.0, 3600.0], id="x")
        options = ("--bind", "127.0.0.1:{port}", *arguments, "flask_flows:app")
        with Server("gunicorn", *options, environment={**variables, "BUDGET": "60"}) as server:
            await asyncio.to_thread(server.wait)
            answer, _ = await server.ended_while("/drive", {"id": "x"}, says="working for 5.0 s", within=30)
        await queue.quiet()
        state = await store.load("x")

    assert {"outcome": "handed over"} == answer.json()
    assert state is not None
    assert {"work", "work-1"} == set(state.cache)
    assert "owner" not in state.operation.metadata["run"]
    assert state.wakeAt <= time.time() * 1000


async def taken(task: Task) -> int:
    """Take a delivery, and do nothing."""
    return 200


@pytest.fixture(params=["flask app:app", "cloud_run main:app"])
def example(request: pytest.FixtureRequest, host_environment: dict[str, str]) -> Iterator[Server]:
    """The application of an example, without a queue."""
    folder, _, app = request.param.partition(" ")
    target = ("--chdir" if folder == "flask" else "--app-dir", str(EXAMPLES / folder), app)
    if folder == "flask":
        arguments = ("gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "1", "--threads", "4", *target)
    else:
        arguments = ("uvicorn", "--port", "{port}", *target)
    with Server(*arguments, environment=host_environment) as server:
        yield server.wait()


async def test_examples(example: Server, settings: FlowStateSettings) -> None:
    """A run is started, answered and ends. Queues without a token are not let in."""
    async with httpx.AsyncClient(base_url=str(example.http.base_url), timeout=60, limits=NO_KEEPING) as http:
        started = await http.post("/orders/a", json={"item": "book", "cents": 1250})
        again = await http.post("/orders/a", json={"item": "book", "cents": 1250})
        confirmed = await http.post("/orders/a/confirmation", params={"ok": "true"}, json={"ok": True})
        async with FirestoreFlowStateStore(settings) as store:
            result = await Flows(store).result("a", timeout=30)
        shown, missing = await http.get("/orders/a"), await http.get("/orders/b")
        late = await http.post("/orders/a/confirmation", params={"ok": "true"}, json={"ok": True})
        paths = ("/drive", "/sweep", "/flows/drive", "/flows/sweep")
        refused = {(await http.post(path, json={"id": "a"})).status_code for path in paths}

    assert [200] * 3 == [started.status_code, again.status_code, confirmed.status_code]
    assert result in ("a box with a book", "receipt for 1250 cents")
    assert ("done", 404, 409) == (shown.json()["status"], missing.status_code, late.status_code)
    assert {401, 404} == refused


@pytest.mark.parametrize("path", ["/drive", "/sweep"])
def test_flask_asks_the_queue_to_try_again(path: str) -> None:
    """It answers 503 while Google's certificates cannot be fetched, and 401 to what has not the form of a token."""
    example = runpy.run_path(str(EXAMPLES / "flask" / "app.py"))
    example["oidc"]._certificates = KeptResponses(unreachable)
    http = example["app"].test_client()
    header = urlsafe_b64encode(b'{"alg":"RS256","kid":"any"}').decode()

    assert 503 == http.post(path, json={"id": "a"}, headers={"Authorization": f"Bearer {header}.e30.x"}).status_code
    assert 401 == http.post(path, json={"id": "a"}, headers={"Authorization": "Bearer a.b.c"}).status_code


def test_files_that_only_a_deployment_reads() -> None:
    """The shell can read the commands, and what the image is built of and starts is there."""
    folder = EXAMPLES / "cloud_run"
    commands, image = folder / "deploy.sh", (folder / "Containerfile").read_text()

    assert 0 == subprocess.run(["sh", "-n", commands], check=False).returncode
    assert all((folder / name).is_file() for name in re.findall(r"COPY (\S+)", image))
    assert "exec uvicorn main:app" in image, "without exec SIGTERM ends the shell, and nothing is handed over"
