"""Durable flows in Firebase Functions, served as in production: functions-framework, gunicorn, threads, a queue."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import httpx
import jsonschema
import pytest

from tests.hosts.firebase_project import FOLDER, Project, served, signed_in
from tests.hosts.serving import Server, at_once, environment
from tests.queues.task_queue_emulator import TOOLS


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    with served() as project:
        yield project


def test_deployment() -> None:
    """Firebase's tools find the functions by importing the module, without credentials or a server."""
    variables = environment("", "", ADMIN_PORT="{port}", FIRESTORE_EMULATOR_HOST="", GOOGLE_CLOUD_PROJECT="")
    with Server("firebase_functions.private.serving", environment=variables, cwd=FOLDER / "functions") as server:
        found = server.wait().http.get("/__/functions.yaml").text

    assert [True] * 4 == [f"entryPoint: {name}\n" in found for name in ("start", "approve", "drive", "sweep")]
    assert "taskQueueTrigger" in found
    assert "scheduleTrigger" in found


def test_configuration() -> None:
    """`firebase.json` is what firebase-tools' own schema says."""
    schema = json.loads((TOOLS / "firebase-tools" / "schema" / "firebase-config.json").read_text())
    configuration = json.loads((FOLDER / "firebase.json").read_text())

    jsonschema.validate(configuration, schema)
    assert {"rules": "firestore.rules", "indexes": "firestore.indexes.json"} == configuration["firestore"]
    assert (FOLDER / configuration["hosting"]["public"] / "index.html").is_file()
    assert all((FOLDER / "functions" / name).is_file() for name in ("main.py", "requirements.txt"))


def test_a_run_waits_for_its_answer(project: Project) -> None:
    """A call starts it, and the queue drives it until it waits. A call answers, and the queue drives it to its end."""
    id = project.start(topic="tea")
    waiting = project.wait_for(id, status="blocked")
    assert ("approve?", "All about tea.") == (waiting["stage"], waiting["draft"])

    assert 404 == project.call("approve", {"id": id, "ok": True}, uid="bob").status_code
    assert 401 == project.call("approve", {"id": id, "ok": True}).status_code
    assert 200 == project.call("approve", {"id": id, "ok": True}, uid="alice").status_code
    done = project.wait_for(id, status="done")
    assert ("published", "https://example.com/tea") == (done["stage"], done["url"])
    assert 400 == project.call("approve", {"id": id, "ok": True}, uid="alice").status_code


def test_fifty_runs_at_once(project: Project) -> None:
    """No run is lost, and each ends as it was answered."""
    ids = at_once(lambda number: project.start(f"user-{number}", f"topic-{number}"), 50)

    def answer(number: int) -> None:
        project.wait_for(ids[number], f"user-{number}", status="blocked")
        answer = {"id": ids[number], "ok": number % 2 == 0}
        project.call("approve", answer, uid=f"user-{number}").raise_for_status()

    at_once(answer, 50)
    stages = [project.wait_for(id, f"user-{n}", status="done")["stage"] for n, id in enumerate(ids)]

    assert 50 == len(set(ids))
    assert ["published", "rejected"] * 25 == stages


def test_a_task_that_comes_again_does_nothing(project: Project) -> None:
    """It does nothing to a run that waits, to one that has ended, and to one that is not there."""
    id = project.start()
    project.wait_for(id, status="blocked")

    assert [200, 200] == [project.call("drive", {"id": each}).status_code for each in (id, "missing")]
    assert "blocked" == project.fields(id)["status"]


def test_the_sweep(project: Project) -> None:
    """The function answers the call that the scheduler makes."""
    headers = {"X-CloudScheduler-ScheduleTime": "2026-11-01T10:00:00Z"}

    assert 200 == project.servers["sweep"].http.post("/", headers=headers).status_code


class TestOwnerRules:
    """A run carries its owner as an unknown key, which the rules of the example ask for."""

    @pytest.fixture
    def run(self, project: Project) -> str:
        """The address of a run of alice's at the REST interface, which takes callers without credentials."""
        return f"{project.documents}/genkit-flows/{project.start('alice')}"

    def test_reads(self, run: str) -> None:
        """Its owner reads it. Another user, and whoever has not signed in, does not."""
        own = httpx.get(run, headers=signed_in("alice"), timeout=30)

        assert 200 == own.status_code
        assert {"stringValue": "alice"} == own.json()["fields"]["owner"]
        assert 403 == httpx.get(run, headers=signed_in("bob"), timeout=30).status_code
        assert 403 == httpx.get(run, timeout=30).status_code

    def test_writes(self, run: str) -> None:
        """Nobody may write or delete it, not even its owner."""
        fields = {"fields": {"owner": {"stringValue": "bob"}}}
        for headers in (signed_in("alice"), signed_in("bob"), {}):
            assert 403 == httpx.patch(run, json=fields, headers=headers, timeout=30).status_code
            assert 403 == httpx.delete(run, headers=headers, timeout=30).status_code

        assert 200 == httpx.get(run, headers=signed_in("alice"), timeout=30).status_code

    def test_queries(self, project: Project) -> None:
        """A user may ask for all runs of their own, and not for all runs."""
        uid = f"carol-{uuid.uuid4()}"
        ids = {project.start(uid), project.start(uid)}
        own = {"fieldFilter": {"field": {"fieldPath": "owner"}, "op": "EQUAL", "value": {"stringValue": uid}}}

        def query(where: object) -> httpx.Response:
            body = {"structuredQuery": {"from": [{"collectionId": "genkit-flows"}], "where": where}}
            return httpx.post(f"{project.documents}:runQuery", json=body, headers=signed_in(uid), timeout=30)

        assert ids == {found["document"]["name"].rpartition("/")[2] for found in query(own).json()}
        assert 403 == query(None).status_code
