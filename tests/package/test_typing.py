"""What type checkers say of an application: nothing if it is right, and something of each mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "typing"
MISTAKES = {
    number
    for number, line in enumerate((FOLDER / "mistakes.py").read_text().splitlines(), 1)
    if re.search(r"  # E\b", line)
}


def mypy(file: str) -> set[int]:
    """Return the lines of the file that mypy finds fault with."""
    options = ["--strict", "--python-version", "3.10", "--config-file=", "--no-error-summary"]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *options, file], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert "" == ran.stderr
    return {int(line) for line in re.findall(rf"^{file}:(\d+): error", ran.stdout, re.MULTILINE)}


def pyright(file: str) -> set[int]:
    """Return the lines of the file that pyright finds fault with."""
    options = ["--outputjson", "--pythonpath", sys.executable]
    ran = subprocess.run(
        [sys.executable, "-m", "pyright", *options, file], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    found = json.loads(ran.stdout[ran.stdout.index("{") :])["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in found if one["severity"] == "error"}


@pytest.mark.parametrize("check", [mypy, pyright])
@pytest.mark.timeout(300)
def test_an_application_has_no_error(check: object) -> None:
    """The application has steps, waits, children, handles and blocking calls, without a cast."""
    assert callable(check)

    assert set() == check("application.py")


@pytest.mark.parametrize("check", [mypy, pyright])
@pytest.mark.timeout(300)
def test_mistakes_are_found(check: object) -> None:
    """They are an input that is missing or of a wrong type, and results taken for something else."""
    assert callable(check)

    assert MISTAKES == check("mistakes.py")
