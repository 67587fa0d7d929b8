"""The files that configure Firestore, checked by what will read them: the emulator and firebase-tools."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate.emulator import Emulator, start_emulator
from firestore_flowstate.emulator.download import PINNED
from tests.emulator.child_processes import nothing_is_left_of
from tests.emulator.rest_call import request
from tests.support.ports import Port

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "emulator" / "firestore.rules"
INDEXES = PROJECT / "emulator" / "firestore.indexes.json"
FLOWS = "projects/demo-flowstate/databases/(default)/documents/genkit-flows"
OWNED = {"fields": {"owner": {"stringValue": "ada"}}}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Emulator]:
    """An emulator with the project's rules."""
    with start_emulator(rules=RULES, attach=False) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with the project's rules and their example uncommented."""
    example = re.sub(r"^( *)// (match|  allow|})", r"\1\2", RULES.read_text(), flags=re.MULTILINE)
    rules = tmp_path_factory.mktemp("rules") / "firestore.rules"
    rules.write_text(example)
    with start_emulator(rules=rules, attach=False) as emulator:
        request(emulator.host, "PATCH", f"{FLOWS}/run", token="owner", body=OWNED)
        yield emulator


@pytest.fixture(scope="session")
def firebase_tools() -> Path:
    """The folder with firebase-tools. It is never skipped: an absent one fails with the way to get it."""
    installed = PROJECT / ".firebase-tools"
    assert shutil.which("node"), "these tests need Node 20 or newer: https://nodejs.org"
    assert (installed / "node_modules").is_dir(), "these tests need firebase-tools: make firebase-tools"
    return installed


def token_of(user: str) -> str:
    """Return a token that the emulator takes for this user's: unsigned ones count there."""

    def part(content: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'sub': user, 'user_id': user})}."


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("token", [None, token_of("ada")], ids=["nobody", "a user"])
@pytest.mark.parametrize("path", [f"{FLOWS}/run", f"{FLOWS}/run/flowstate-parts/a", f"{FLOWS.rpartition('/')[0]}/a/b"])
def test_the_rules_refuse_clients(guarded: Emulator, method: str, token: str | None, path: str) -> None:
    """Who comes without credentials of the project may neither read nor write."""
    status, answer = request(guarded.host, method, path, token=token, body=OWNED if method == "PATCH" else None)

    assert (403, "PERMISSION_DENIED") == (status, answer["error"]["status"])


def test_the_rules_do_not_concern_servers(guarded: Emulator) -> None:
    """Google's client libraries, and so the store, pass."""
    written, _ = request(guarded.host, "PATCH", f"{FLOWS}/run", token="owner", body=OWNED)
    read, document = request(guarded.host, "GET", f"{FLOWS}/run", token="owner")

    assert (200, 200, OWNED["fields"]) == (written, read, document["fields"])


@pytest.mark.parametrize(
    ("token", "method", "status"),
    [
        (token_of("ada"), "GET", 200),
        (token_of("bob"), "GET", 403),
        (None, "GET", 403),
        (token_of("ada"), "PATCH", 403),
        (token_of("ada"), "DELETE", 403),
    ],
    ids=["the owner reads", "another reads", "nobody reads", "the owner writes", "the owner deletes"],
)
def test_the_example_lets_owners_read(owned: Emulator, token: str | None, method: str, status: int) -> None:
    """The rule that stands commented out in the file does what it says."""
    body = OWNED if method == "PATCH" else None

    assert status == request(owned.host, method, f"{FLOWS}/run", token=token, body=body)[0]


def test_the_example_lets_owners_list_their_own(owned: Emulator) -> None:
    """A query passes only if it asks for nothing else."""

    def query(owner: str) -> int:
        equal = {"field": {"fieldPath": "owner"}, "op": "EQUAL", "value": {"stringValue": owner}}
        asked = {"from": [{"collectionId": "genkit-flows"}], "where": {"fieldFilter": equal}}
        parent = FLOWS.rpartition("/")[0]
        return request_list(owned.host, f"{parent}:runQuery", token_of("ada"), {"structuredQuery": asked})

    assert (200, 403) == (query("ada"), query("bob"))


def request_list(host: str, path: str, token: str, body: object) -> int:
    return request(host, "POST", path, token=token, body=body)[0]


def validate(specification: str, firebase_tools: Path) -> tuple[int, str]:
    answer = subprocess.run(
        ["node", PROJECT / "tests/firebase_tools/validate_indexes.js"],
        input=specification,
        cwd=firebase_tools,
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.returncode, answer.stderr


def test_firebase_tools_accepts_the_indexes(firebase_tools: Path) -> None:
    """They pass the check that it makes before it deploys them."""
    assert (0, "") == validate(INDEXES.read_text(), firebase_tools)


def test_firebase_tools_would_refuse_a_wrong_index(firebase_tools: Path) -> None:
    """The check of the test above can fail."""
    code, said = validate(INDEXES.read_text().replace('"ASCENDING"', '"UPWARDS"', 1), firebase_tools)

    assert (1, True) == (code, 'Field "order" must be one of' in said)


def test_payload_is_exempt_and_expiry_is_ttl_only() -> None:
    """Firestore indexes every field that nobody exempts, and what is indexed costs on every write."""
    overrides = json.loads(INDEXES.read_text())["fieldOverrides"]

    assert all(override["indexes"] == [] for override in overrides)
    assert ["expireAt", "expireAt"] == [override["fieldPath"] for override in overrides if override.get("ttl")]
    assert {"_flowstate", "summary", "input", "cache", "eventsTriggered", "executions"} <= {
        override["fieldPath"] for override in overrides if override["collectionGroup"] == "genkit-flows"
    }


def test_operation_stays_queryable() -> None:
    """An exemption of the whole of it would cover operation.done."""
    overrides = json.loads(INDEXES.read_text())["fieldOverrides"]

    assert "operation" not in {override["fieldPath"] for override in overrides}


def test_the_pinned_jar_is_the_one_of_firebase_tools(firebase_tools: Path) -> None:
    """Its address and checksum are those in firebase-tools: a source that its makers trust."""
    listed = firebase_tools / "node_modules/firebase-tools/lib/emulator/downloadableEmulatorInfo.json"
    theirs = json.loads(listed.read_text())["firestore"]

    assert (theirs["remoteUrl"], theirs["expectedChecksumSHA256"]) == (PINNED.url, PINNED.sha256)


def test_firebase_tools_runs_a_command_under_the_same_emulator(firebase_tools: Path, tmp_path: Path) -> None:
    """firebase.json, the rules and the Cloud CLI's jar work with `firebase emulators:exec`."""
    with Port() as port:
        script = PROJECT / "tests/firebase_tools/exec_folder.py"
        subprocess.run([sys.executable, script, tmp_path, str(port.number)], check=True)
        path = f"http://$FIRESTORE_EMULATOR_HOST/v1/{FLOWS}/run"
        ask = "import os, sys, urllib.request as u; u.urlopen(os.path.expandvars(sys.argv[1]))"
        answer = subprocess.run(
            [
                *(firebase_tools / "node_modules/.bin/firebase", "emulators:exec"),
                *("--config", tmp_path / "firebase.json"),
                *("--only", "firestore", "--project", "demo-flowstate", f"{sys.executable} -c '{ask}' '{path}'"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "FIRESTORE_EMULATOR_BINARY_PATH": str(tmp_path / "emulator.jar"),
                "CI": "1",
                "NO_UPDATE_NOTIFIER": "1",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    assert "HTTP Error 403: Forbidden" in answer.stderr  # the rules are in force
    assert "Script exited unsuccessfully (code 1)" in answer.stdout + answer.stderr
    assert (1, True) == (answer.returncode, nothing_is_left_of(port.number))
