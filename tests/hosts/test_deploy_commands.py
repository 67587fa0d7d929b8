"""The commands that deploy the examples are ones that the installed tools understand. Nothing is deployed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hosts.serving import EXAMPLES, ROOT
from tests.queues.task_queue_emulator import TOOLS

NOBODY = "You do not currently have an active account selected"
BLOCKS = re.findall(r"```shell\n(.*?)```", (ROOT / "docs" / "firebase.md").read_text(), re.DOTALL)
NOTES_ITS_ARGUMENTS = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["NOTES"], "a") as notes:
    notes.write(json.dumps(sys.argv[1:]) + "\\n")
print(1234)
"""


@pytest.fixture
def gcloud(tmp_path: Path) -> str:
    """The installed command line, when nobody is logged in: it checks what it is given, and ends before any call."""
    found = shutil.which("gcloud")
    if found is None:
        pytest.skip("gcloud is not installed: https://cloud.google.com/sdk/docs/install")
    return found


def refused(gcloud: str, folder: Path, arguments: Sequence[str]) -> str:
    """Return what the command says, which ends for want of an account."""
    environment = {**os.environ, "CLOUDSDK_CONFIG": str(folder / "gcloud"), "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    ran = subprocess.run([gcloud, *arguments], env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode in (1, 2), ran
    return ran.stderr


def commands_in(script: str, folder: Path, tmp_path: Path) -> list[list[str]]:
    """Run the script with a gcloud that only notes what it is given, and return that."""
    notes, shim = tmp_path / "notes", tmp_path / "bin" / "gcloud"
    shim.parent.mkdir()
    shim.write_text(NOTES_ITS_ARGUMENTS)
    shim.chmod(0o755)
    variables = {"NOTES": str(notes), "PROJECT": "shop", "REGION": "europe-west1"}
    environment = {"PATH": f"{shim.parent}:/usr/bin:/bin", **variables}
    subprocess.run(["/bin/sh", "-euc", script], env=environment, cwd=folder, check=True, timeout=60)
    return [json.loads(line) for line in notes.read_text().splitlines()]


def not_understood(gcloud: str, commands: Sequence[Sequence[str]], folder: Path) -> list[tuple[Sequence[str], str]]:
    """Return the commands that gcloud does not take as they are, with what it says."""
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda command: refused(gcloud, folder, command), commands))
    return [(command, says) for command, says in zip(commands, said, strict=True) if NOBODY not in says]


def test_the_commands_of_cloud_run(gcloud: str, tmp_path: Path) -> None:
    """Gcloud knows every flag of each command of deploy.sh, and takes every value."""
    folder = tmp_path / "cloud_run"
    shutil.copytree(EXAMPLES / "cloud_run", folder)
    commands = commands_in((folder / "deploy.sh").read_text(), folder, tmp_path)

    assert [] == not_understood(gcloud, commands, folder)
    assert {"iam", "projects", "tasks", "run", "scheduler"} == {command[0] for command in commands}
    assert (folder / "Dockerfile").is_file()


NAMES = {
    # https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts/create
    "iam service-accounts create": r"[a-z][-a-z0-9]{4,28}[a-z0-9]",
    # https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues
    "tasks queues create": r"[A-Za-z0-9-]{1,100}",
    "run deploy": r"[a-z][-a-z0-9]{0,47}[a-z0-9]",
    "scheduler jobs create http": r"[a-zA-Z0-9_-]{1,500}",
}
"""What Google takes as the names of what these commands make. Gcloud leaves that to the server."""


def test_names_are_ones_that_google_takes(tmp_path: Path) -> None:
    """A name that is too short ends the script before the service is there."""
    folder = tmp_path / "cloud_run"
    shutil.copytree(EXAMPLES / "cloud_run", folder)
    commands = [" ".join(command) for command in commands_in((folder / "deploy.sh").read_text(), folder, tmp_path)]
    named = {
        made: [command.removeprefix(made).split()[0] for command in commands if command.startswith(f"{made} ")]
        for made in NAMES
    }

    assert all(len(names) == 1 for names in named.values()), named
    assert [] == [(made, name) for made, [name] in named.items() if not re.fullmatch(NAMES[made], name)]
    assert re.fullmatch(NAMES["iam service-accounts create"], "flows") is None


def test_the_roles_of_firebase(gcloud: str, tmp_path: Path) -> None:
    """The commands of the page are taken too."""
    [script] = [block for block in BLOCKS if "gcloud" in block]
    commands = commands_in(re.sub(r"\bPROJECT\b", "shop", script), tmp_path, tmp_path)

    assert [] == not_understood(gcloud, commands, tmp_path)
    assert {"iam", "projects", "services"} == {command[0] for command in commands}


@pytest.mark.parametrize("wrong", ["--max-attemptz=20", "--max-attempts=many"])
def test_a_wrong_command_is_noticed(gcloud: str, tmp_path: Path, wrong: str) -> None:
    """Gcloud refuses a flag that does not exist, and a value that it does not take."""
    arguments = ["tasks", "queues", "create", "flows", "--project=shop", "--location=europe-west1", wrong]

    assert NOBODY not in refused(gcloud, tmp_path, arguments)


def firebase(folder: Path, *arguments: str) -> str:
    """Return what firebase-tools says to a command, when nobody is logged in."""
    assert TOOLS.is_dir(), "firebase-tools is not installed: make firebase-tools"
    kept = {name: os.environ[name] for name in ("PATH",)}
    environment = {
        **kept,
        "HOME": str(folder),
        "CI": "1",
        "NO_UPDATE_NOTIFIER": "1",
        "METADATA_SERVER_DETECTION": "none",
    }
    command = ["node", "--no-deprecation", str(TOOLS / ".bin" / "firebase"), *arguments]
    ran = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode != 0, ran
    return ran.stdout + ran.stderr


def test_the_commands_of_firebase(tmp_path: Path) -> None:
    """Firebase-tools knows every option of each command of the page, and ends for want of an account."""
    folder = tmp_path / "firebase"
    shutil.copytree(EXAMPLES / "firebase", folder)
    lines = [line for block in BLOCKS for line in block.splitlines()]
    commands = [line.split()[1:] for line in lines if line.startswith(("firebase deploy", "firebase use"))]
    for command in commands:
        said = firebase(folder, *command, *(["--project", "shop"] if "deploy" in command else []))
        assert "Failed to authenticate, have you run firebase login?" in said, (command, said)

    assert len(commands) >= 3
    assert "unknown option" in firebase(folder, "deploy", "--onlyy", "functions")
