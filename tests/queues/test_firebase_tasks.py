"""Runs woken by the task queue of a function: firebase-tools' emulator, and Cloud Tasks behind firebase_admin."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import firebase_admin
import firebase_admin.functions
import pytest
from firebase_admin import credentials
from google.auth.credentials import AnonymousCredentials, TokenState
from google.auth.exceptions import RefreshError, TransportError

from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import DispatchError, Flows, Run
from firestore_flowstate.flows.firebase import FirebaseTasks
from tests.queues.task_queue_emulator import task_queue_emulator


class Robot(AnonymousCredentials):
    """A service account whose token is always fresh."""

    service_account_email = "functions@demo.test"
    token_state = TokenState.FRESH


class Certificate(credentials.Base):
    def get_credential(self) -> Robot:
        return Robot()


@pytest.fixture
def app() -> Iterator[firebase_admin.App]:
    app = firebase_admin.initialize_app(Certificate(), {"projectId": "demo-tasks"}, name="tasks")
    yield app
    firebase_admin.delete_app(app)


class Handler(BaseHTTPRequestHandler):
    """Answers as `server.answer` says, and notes what it was sent, and when."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, answer = self.server.answer(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever did not wait for it
            self.wfile.write(json.dumps(answer).encode())

    def do_GET(self) -> None:
        status, answer = self.server.answer({"get": self.path})  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Listener:
    """A server on a port, whose answers are those of a function."""

    def __init__(self, answer: Any) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.answer = answer  # type: ignore[attr-defined]
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TestTheEmulator:
    """The queue of firebase-tools, which drops the time of a task."""

    @pytest.fixture
    def received(self) -> list[tuple[float, Any]]:
        return []

    @pytest.fixture
    async def tasks(
        self, app: firebase_admin.App, received: list[tuple[float, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[FirebaseTasks]:
        def answer(body: Any) -> tuple[int, Any]:
            received.append((time.time(), body))
            return 200, {}

        with (
            Listener(answer) as function,
            task_queue_emulator("demo-tasks", "driveflow", f"http://{function.host}/") as host,
        ):
            monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", host)
            tasks = FirebaseTasks("driveflow", app=app)
            yield tasks
            await tasks.close()

    async def test_a_task_is_held_back_until_it_is_due(
        self, tasks: FirebaseTasks, received: list[tuple[float, Any]]
    ) -> None:
        """There is one task for one wake time. What is due comes before it. Each task has the id alone."""
        due = datetime.now(timezone.utc) + timedelta(seconds=3)
        for _ in range(2):
            await tasks.dispatch("later", wake="1-0", at=due)
        await tasks.dispatch("now", wake="1-0")
        while len(received) < 2:  # noqa: ASYNC110  # another process fills it
            await asyncio.sleep(0.05)

        assert [{"data": {"id": "now"}}, {"data": {"id": "later"}}] == [body for _, body in received]
        assert due.timestamp() <= received[1][0]

    async def test_a_queue_is_looked_at(self, tasks: FirebaseTasks, app: firebase_admin.App) -> None:
        """A queue that the emulator does not have is an error, and so is an emulator that is away."""
        await tasks.check()
        with pytest.raises(DispatchError, match=r"There is no queue projects/demo-tasks/.*/queues/other"):
            await FirebaseTasks("other", app=app).check()


class TestProduction:
    """firebase_admin's requests, taken by a server in the place of Google's."""

    @pytest.fixture
    def refusals(self) -> list[int]:
        return []

    @pytest.fixture
    def looked_at(self) -> dict[str, tuple[int, Any]]:
        return {}

    @pytest.fixture
    def hanging(self) -> Event:
        """An event that is set, but for a queue that does not answer."""
        hanging = Event()
        hanging.set()
        return hanging

    @pytest.fixture
    def created(self) -> list[Any]:
        return []

    @pytest.fixture
    async def tasks(
        self,
        app: firebase_admin.App,
        created: list[Any],
        refusals: list[int],
        looked_at: dict[str, tuple[int, Any]],
        hanging: Event,
        monkeypatch: pytest.MonkeyPatch,
    ) -> AsyncIterator[FirebaseTasks]:
        def answer(body: Any) -> tuple[int, Any]:
            hanging.wait()
            if "get" in body:
                return looked_at.pop(body["get"], (404, {}))
            if refusals:
                status = refusals.pop(0)
                return status, {"error": {"code": status, "message": "refused by the test"}}
            if body["task"]["name"] in [task["name"] for task in created]:
                return 409, {"error": {"code": 409, "message": "it exists", "status": "ALREADY_EXISTS"}}
            created.append(body["task"])
            return 200, {"name": body["task"]["name"]}

        monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST", raising=False)
        with Listener(answer) as google:
            address = "projects/{project_id}/locations/{location_id}/queues/{resource_id}/tasks"
            monkeypatch.setattr(
                "firebase_admin.functions._CLOUD_TASKS_API_URL_FORMAT", f"http://{google.host}/{address}"
            )
            monkeypatch.setattr("firestore_flowstate.flows.firebase._GOOGLE", f"http://{google.host}")
            tasks = FirebaseTasks("driveflow", app=app)
            yield tasks
            await tasks.close()

    async def test_one_wake_time_is_one_task(self, tasks: FirebaseTasks, created: list[Any]) -> None:
        """The task has its time, and comes in hops if that is far off."""
        at = datetime.now(timezone.utc) + timedelta(days=1)
        await asyncio.gather(*(tasks.dispatch("a", wake="1-0", at=at) for _ in range(3)))
        await tasks.dispatch("a", wake="2-6", at=at + timedelta(days=199))
        near, far = created
        moments = [datetime.fromisoformat(task["scheduleTime"].replace("Z", "+00:00")) for task in created]

        assert {"data": {"id": "a"}} == json.loads(b64decode(near["httpRequest"]["body"]))
        assert "1800s" == near["dispatchDeadline"]
        assert abs(moments[0] - at) < timedelta(seconds=1)
        assert abs(moments[1] - at - timedelta(days=199 - 6 * 29)) < timedelta(seconds=1)
        assert near["name"] != far["name"]

    async def test_what_passes_is_tried_again(
        self, tasks: FirebaseTasks, created: list[Any], refusals: list[int]
    ) -> None:
        """What does not pass is an error."""
        refusals += [429, 500]
        await tasks.dispatch("a", wake="1-0")
        assert 1 == len(created)

        refusals.append(403)
        with pytest.raises(DispatchError, match=r"'b'.*refused by the test") as caught:
            await tasks.dispatch("b", wake="1-0")
        assert "b" == caught.value.flow_id

    async def test_a_role_that_is_missing_is_granted(
        self, tasks: FirebaseTasks, created: list[Any], refusals: list[int]
    ) -> None:
        """The run is stored. Until then each sweep fails by the same error, and the next one wakes the run."""
        store = MemoryFlowStateStore()
        flows = Flows(store, dispatcher=tasks)

        @flows.flow
        async def nothing(run: Run) -> None: ...

        refusals += [403, 403]
        with pytest.raises(DispatchError, match=r"'a'.*refused by the test"):
            await flows.start(nothing, id="a")
        await store.update("a", extra={"wakeAt": round(time.time() * 1000) - 60_000})
        with pytest.raises(DispatchError, match=r"'a'.*refused by the test"):
            await flows.sweep()
        assert ([], []) == (created, refusals)

        assert 1 == await flows.sweep()
        [task] = created
        assert "done" == await flows.drive(json.loads(b64decode(task["httpRequest"]["body"]))["data"]["id"])

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_each_status_that_passes(
        self, tasks: FirebaseTasks, created: list[Any], refusals: list[int], status: int
    ) -> None:
        """They are those of the queue, and those of what stands before it."""
        refusals.append(status)
        await tasks.dispatch("a", wake="1-0")

        assert 1 == len(created)

    @pytest.mark.parametrize("status", [400, 401, 404])
    async def test_each_status_that_does_not(
        self, tasks: FirebaseTasks, created: list[Any], refusals: list[int], status: int
    ) -> None:
        """A queue that is not there, for one, is asked once."""
        refusals.append(status)
        with pytest.raises(DispatchError, match="'a'"):
            await tasks.dispatch("a", wake="1-0")

        assert ([], []) == (created, refusals)

    async def test_a_queue_that_hangs(
        self, tasks: FirebaseTasks, created: list[Any], hanging: Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is asked again for a while, which is not the 240 s of firebase_admin. None waits for others first."""
        with monkeypatch.context() as impatient:
            impatient.setattr("firestore_flowstate.flows.dispatch.session.CALL_SECONDS", 0.3)
            impatient.setattr("firestore_flowstate.flows.firebase.RETRY_SECONDS", 1.0)
            hanging.clear()
            dispatches = [asyncio.ensure_future(tasks.dispatch(f"run-{number}", wake="1-0")) for number in range(40)]
            done, pending = await asyncio.wait(dispatches, timeout=20)
            hanging.set()
        errors = [dispatch.exception() for dispatch in done]
        await tasks.dispatch("another", wake="1-0")

        assert not pending
        assert {DispatchError} == {type(error) for error in errors}
        assert {f"run-{number}" for number in range(40)} == {getattr(error, "flow_id", None) for error in errors}
        assert any({"data": {"id": "another"}} == json.loads(b64decode(t["httpRequest"]["body"])) for t in created)

    async def test_a_token_that_is_not_to_be_had_for_a_moment(
        self, tasks: FirebaseTasks, created: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is asked for again. One that is refused is an error that says so."""
        failures: list[Exception] = [TransportError("no metadata server"), RefreshError("busy", retryable=True)]

        def refresh(self: Robot, request: Any) -> None:
            if failures:
                raise failures.pop(0)
            self.token_state = TokenState.FRESH

        monkeypatch.setattr(Robot, "token_state", TokenState.INVALID)
        monkeypatch.setattr(Robot, "refresh", refresh)
        await tasks.dispatch("a", wake="1-0")
        assert (1, []) == (len(created), failures)

        failures.append(RefreshError("the account is gone"))
        other = FirebaseTasks("driveflow", app=tasks._app)
        monkeypatch.setattr(other._app.credential, "get_credential", Robot, raising=False)
        other._queue.here()._http_client._credential.token_state = TokenState.INVALID
        with pytest.raises(DispatchError, match="the account is gone"):
            await other.dispatch("b", wake="1-0")
        await other.close()

    async def test_a_queue_is_looked_at(
        self, tasks: FirebaseTasks, created: list[Any], looked_at: dict[str, tuple[int, Any]]
    ) -> None:
        """It is the queue that firebase_admin uses. One that is paused, away or closed to us is an error."""
        path = "/projects/demo-tasks/locations/us-central1/queues/driveflow"
        looked_at[path] = 200, {"state": "RUNNING"}
        await tasks.check()
        for answer, told in [
            ((200, {"state": "PAUSED"}), "is paused"),
            ((404, {}), "There is no queue projects/demo-tasks"),
            ((403, {}), r"roles/cloudtasks\.viewer"),
            ((503, {}), "cannot be reached: 503"),
        ]:
            looked_at[path] = answer
            with pytest.raises(DispatchError, match=told):
                await tasks.check()

        assert [] == created


@pytest.mark.parametrize(
    ("function", "place"),
    [
        ("drive", ("mine", "us-central1", "drive")),
        ("locations/europe-west1/functions/drive", ("mine", "europe-west1", "drive")),
        ("projects/other/locations/europe-west1/functions/drive", ("other", "europe-west1", "drive")),
    ],
)
def test_the_place_of_a_queue(function: str, place: tuple[str, str, str]) -> None:
    """The name of a function is read as firebase_admin reads it."""
    app = firebase_admin.initialize_app(Certificate(), {"projectId": "mine"}, name="place")
    resource = firebase_admin.functions.task_queue(function, app=app)._resource
    firebase_admin.delete_app(app)

    assert place == (resource.project_id, resource.location_id, resource.resource_id)
    assert place == FirebaseTasks(function)._place("mine")


@pytest.mark.parametrize("name", ["drive_flow", "locations/europe-west1/functions/drive_flow", ""])
def test_a_function_whose_queue_cannot_be(name: str) -> None:
    """Firebase would deploy it, and nothing would ever be woken."""
    with pytest.raises(ValueError, match="letters, digits and hyphens"):
        FirebaseTasks(name)


def test_a_function_that_is_not_named() -> None:
    """The error names the argument. It is None if it comes from a variable that is not set."""
    with pytest.raises(TypeError, match="function is a text, not None"):
        FirebaseTasks(None)  # type: ignore[arg-type]  # the mistake


async def test_a_queue_that_cannot_be_reached_leaves_the_run(
    app: firebase_admin.App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is stored, for a sweep or the next start. The caller is told."""
    monkeypatch.setattr("firestore_flowstate.flows.firebase.RETRY_SECONDS", 0.1)
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    store = MemoryFlowStateStore()
    flows = Flows(store, dispatcher=FirebaseTasks("driveflow", app=app))

    @flows.flow
    async def nothing(run: Run) -> None: ...

    with pytest.raises(DispatchError):
        await flows.start(nothing, id="a")
    with pytest.raises(DispatchError, match="cannot be reached"):
        await flows.dispatcher.check()  # type: ignore[union-attr]  # it is a FirebaseTasks

    assert await store.load("a") is not None
    await flows.close()


@pytest.mark.parametrize(
    "name",
    [
        "x/drive",
        "/drive",
        "a/b/c/drive",
        "functions/drive",
        "locations/eu/drive",
        "locations//functions/drive",
        "locations/eu/queues/drive",
        "locations/e u/functions/drive",
        "projects//locations/eu/functions/drive",
        "projects/p/functions/drive",
        "/locations/eu/functions/drive",
    ],
)
def test_a_path_that_names_no_function(name: str) -> None:
    """Each run would fail to be dispatched, and a check would look at another queue."""
    with pytest.raises(ValueError, match="function is FUNCTION, locations/LOCATION/functions/FUNCTION or projects/"):
        FirebaseTasks(name)
