"""The demo shows what it says: a flow that is killed, goes on in another process, waits for people, and ends."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import STRICT_PYTHON

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_a_killed_flow_goes_on_in_another_process(firestore_emulator: Emulator) -> None:
    """No section is drafted twice. The answers and the timeline come from commands. Genkit's documents follow."""
    ran = run(FIRESTORE_EMULATOR_HOST=firestore_emulator.host)

    assert 0 == ran.returncode, ran.stdout + ran.stderr
    before, killed, after = ran.stdout.partition("The process was killed")
    assert killed
    drafted = r"drafted '([\w ]+)'"
    assert ["Why cats sleep"] == re.findall(drafted, before)[:1]
    assert ["How cats rule the house", "What cats eat", "Why cats sleep"] == sorted(re.findall(drafted, ran.stdout))
    assert ["start", "worker", "resume", "resume", "history"] == re.findall(
        r"^\$ flowstate (\w+)", ran.stdout, re.MULTILINE
    )
    assert "cut off: its process died" in after
    assert "ended by an answer" in after
    assert "All as expected" in after


def test_without_an_emulator_it_runs_in_memory(tmp_path: Path) -> None:
    """One line says so, with the way to the emulator. The crash is simulated, and the exit code is 0."""
    ran = run(FIRESTORE_EMULATOR_HOST="", FIRESTORE_EMULATOR_BINARY_PATH=str(tmp_path / "no.jar"))

    assert (0, "") == (ran.returncode, ran.stderr)
    first, *rest = ran.stdout.splitlines()
    assert "no.jar" in first
    assert "firestore_flowstate.emulator where` says how to get it" in first
    assert 3 == len(re.findall("drafted '", ran.stdout))
    assert rest[-1].endswith(": outline, draft, draft-1, draft-2, draft-1, draft-2, publish.")


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT_PYTHON, DEMO],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
