"""The programs of the guides run, and print what the pages say."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import STRICT_PYTHON

PAGES = ("conflicts", "first-flow", "recipes", "survival", "what-a-flow-may-do")
DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = re.compile(r"^```python\n(.*?)^```\n\n```\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROGRAMS = {
    f"{page}-{number}": program
    for page in PAGES
    for number, program in enumerate(PROGRAM.findall((DOCS / f"{page}.md").read_text()), 1)
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_prints_what_the_page_says(program: tuple[str, str], firestore_emulator: Emulator) -> None:
    """Each is whole, and leaves no warning."""
    code, printed = program

    assert (0, "", printed) == run("-c", code, emulator=firestore_emulator)


def test_no_program_is_left_out() -> None:
    """Every block of Python on these pages is followed by what it prints."""
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text()

        assert text.count("```python\n") == len(PROGRAM.findall(text)) > 0


def test_the_tests_of_the_guide_pass(firestore_emulator: Emulator, tmp_path: Path) -> None:
    """The plugin's fixtures are found by their names alone."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "testing.md").read_text(), re.MULTILINE | re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"test_app_{number}.py").write_text(block)
    options = ["-q", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    code, errors, printed = run(
        "-m", "pytest", *options, "-p", "no:cacheprovider", tmp_path, emulator=firestore_emulator
    )

    assert 0 == code, printed + errors
    assert f"{sum(block.count('def test_') for block in blocks)} passed" in printed


def run(*arguments: str | Path, emulator: Emulator) -> tuple[int, str, str]:
    environment = {**os.environ, **emulator.environment, "GOOGLE_CLOUD_PROJECT": f"demo-{uuid.uuid4().hex[:12]}"}
    ran = subprocess.run(
        [*STRICT_PYTHON, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return ran.returncode, ran.stderr, ran.stdout
