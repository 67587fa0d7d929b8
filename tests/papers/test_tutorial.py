"""The tutorial as a reader follows it: its last program as app.py, then its commands, in a folder of the reader's."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator

TUTORIAL = (Path(__file__).parents[2] / "docs" / "first-flow.md").read_text()
FLOWSTATE = (sys.executable, "-m", "firestore_flowstate.cli")


@pytest.fixture
def environment(firestore_emulator: Emulator) -> dict[str, str]:
    own = {"GOOGLE_CLOUD_PROJECT": f"demo-{uuid.uuid4().hex[:12]}", "COLUMNS": "120"}
    return {**os.environ, **firestore_emulator.environment, **own}


def test_its_commands_print_what_it_says(environment: dict[str, str], tmp_path: Path) -> None:
    """A run is started, looked at, answered and driven on from a shell. A ... stands for what differs each time."""
    program = re.findall(r"Save it as `app.py`.\n\n```python\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)
    (tmp_path / "app.py").write_text(program[0])
    for _ in range(2):  # as a reader may
        ran = subprocess.run(
            [sys.executable, "app.py"], env=environment, cwd=tmp_path, check=False, timeout=60, capture_output=True
        )
        assert (0, b"published cats\n") == (ran.returncode, ran.stdout), ran.stderr

    said = [(arguments, expected, run(arguments, environment, tmp_path)) for arguments, expected in commands()]
    assert ["start", "list", "resume", "worker", "history"] == [arguments[0] for arguments, _, _ in said]
    for arguments, expected, printed in said:
        matches = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
        assert matches, f"$ flowstate {shlex.join(arguments)}\n{printed}"


def commands() -> Iterator[tuple[list[str], str]]:
    """Yield the arguments of each `flowstate` of the page, and what it is said to print."""
    for session in re.findall(r"^```shell\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL):
        for block in re.split(r"^\$ flowstate ", session, flags=re.MULTILINE)[1:]:
            command, _, expected = block.partition("\n")
            yield shlex.split(command), expected


def run(arguments: list[str], environment: dict[str, str], folder: Path) -> str:
    """Return what a command prints. A worker is ended as by Ctrl-C when it has driven the run to its end."""
    with subprocess.Popen(
        [*FLOWSTATE, *arguments],
        env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if arguments[0] == "worker" and "ends: done" in line:
                process.send_signal(signal.SIGINT)
    return "".join(lines)
