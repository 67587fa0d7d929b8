"""The first code a user sees runs, with and without an emulator at hand."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import STRICT_PYTHON

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"


def test_runs_on_the_emulator_that_is_named(firestore_emulator: Emulator) -> None:
    """The quickstart checks what it shows and exits 0. The emulator it used goes on."""
    ran = run(FIRESTORE_EMULATOR_HOST=firestore_emulator.host)

    assert (0, "") == (ran.returncode, ran.stderr)
    assert f"on {firestore_emulator.host}." in ran.stdout
    assert firestore_emulator.is_running()


def test_starts_an_emulator_if_none_is_named() -> None:
    """The quickstart starts an emulator without FIRESTORE_EMULATOR_HOST, and stops it again."""
    ran = run(FIRESTORE_EMULATOR_HOST="")

    assert (0, "") == (ran.returncode, ran.stderr)
    host = ran.stdout.rpartition(" on ")[2].strip().rstrip(".")
    assert not Emulator(host).is_running()


def test_says_what_is_missing(tmp_path: Path) -> None:
    """The quickstart says in a line that the machine has no emulator, without a stack trace."""
    ran = run(FIRESTORE_EMULATOR_HOST="", FIRESTORE_EMULATOR_BINARY_PATH=str(tmp_path / "no.jar"))

    assert 1 == ran.returncode
    assert "FIRESTORE_EMULATOR_BINARY_PATH is" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_fails_if_a_result_is_wrong(tmp_path: Path, firestore_emulator: Emulator) -> None:
    """A document that is not what the quickstart expects makes it exit 1."""
    (tmp_path / "tests" / "data").mkdir(parents=True)
    (tmp_path / "examples").mkdir()
    golden = Path(__file__).parents[1] / "data" / "genkit-js"
    copied = tmp_path / "tests" / "data" / "genkit-js"
    copied.mkdir()
    for file in golden.iterdir():
        text = file.read_text()
        if file.stem == "resumed-done":
            text = text.replace("cats+b:true", "dogs")
        (copied / file.name).write_text(text)
    for file in QUICKSTART.parent.glob("*.py"):
        (tmp_path / "examples" / file.name).write_bytes(file.read_bytes())

    ran = run(tmp_path / "examples" / QUICKSTART.name, FIRESTORE_EMULATOR_HOST=firestore_emulator.host)

    assert 1 == ran.returncode
    assert "expected" in ran.stderr


def run(script: Path = QUICKSTART, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STRICT_PYTHON, script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
