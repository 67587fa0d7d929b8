"""Real processes, real files and a real emulator; only where a Java or gcloud must misbehave is it a script."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate.emulator import Emulator, start_emulator

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _no_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with start_emulator(attach=False) as emulator:
        yield emulator


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_with(argument: str) -> list[tuple[int, str]]:
    """Return the process id and command of every process that has this text among its arguments."""
    program = shutil.which("ps", path=os.defpath)  # also where a test has emptied PATH
    assert program, "these tests look at processes by ps: install procps"
    answer = subprocess.run([program, "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    lines = (line.split(maxsplit=1) for line in answer.stdout.splitlines() if argument in line)
    return [(int(pid), command) for pid, command in lines]


def nothing_is_left_of(port: int) -> bool:
    """Wait until neither Java nor its supervisor is there."""
    return eventually(lambda: not processes_with(f"--port={port}"))


def request(
    host: str, method: str, path: str, *, token: str | None = None, body: object = None
) -> tuple[int, dict[str, Any]]:
    """Return status and answer of a call to Firestore's REST interface."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.request(method, f"/v1/{path}", body=json.dumps(body) if body is not None else None, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")


class Programs:
    """Python programs of a test, ended with it."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._started.append(program)
        return program

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        program = self.start(*arguments, **environment)
        out, err = program.communicate(timeout=90)
        return program.returncode, out, err

    def end(self) -> None:
        for program in self._started:
            program.kill()
            program.communicate()


@pytest.fixture
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.end()


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is installed here: an empty PATH and an empty home, which is returned."""
    for variable in (
        "FIRESTORE_EMULATOR_BINARY_PATH",
        "FIREBASE_EMULATORS_PATH",
        "JAVA_HOME",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(home / "bin"))
    return home


def write_program(path: Path, *lines: str) -> Path:
    """Write a shell script; it cannot rely on PATH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def write_java(folder: Path, *, version: str = "17.0.15", otherwise: Sequence[str] = ("exit 1",)) -> Path:
    """Write a Java that tells this version, and does otherwise what these lines say."""
    told = f'[ "$1" = -version ] && {{ echo "openjdk version \\"{version}\\" 2025-04-15" >&2; exit 0; }}'
    return write_program(folder / "java", told, *otherwise)


def write_jar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
