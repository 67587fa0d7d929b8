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
FRAGMENTS = {
    "settings": "{}\nassert store is not None",
    "migration": """
from pydantic import BaseModel
from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows import Flows, Run
class Order(BaseModel): item: str
class Approval(BaseModel): ok: bool
class Receipt(BaseModel): item: str
async def find_price(item: str) -> int: return 7
async def ship(price: int, approval: Approval) -> Receipt: return Receipt(item="tea")
{}
import asyncio
from firestore_flowstate.testing import simulate
simulation = asyncio.run(simulate(order, Order(item="tea"), answers=dict(approval=Approval(ok=True))))
assert simulation.result == Receipt(item="tea"), simulation
""",
    "retention": """
import asyncio
from datetime import timedelta
from firestore_flowstate import FlowState, MemoryFlowStateStore
store, id, state = MemoryFlowStateStore(), "x", FlowState.start(name="x")
async def main() -> None:
    {}
asyncio.run(main())
assert state.expireAfter == 7 * 86_400_000
""",
}
"""What stands around a block that is not whole, and proves that it does what the page says."""
RUN_ELSEWHERE = {
    "README": "tests/papers/test_docs.py",
    "backup": "tests/cli/test_pages.py",
    "cloud-run": "tests/hosts/test_hosting.py",
    "firebase": "tests/hosts/test_hosting.py",
    "hosting": "tests/hosts/test_hosting.py",
    "payloads": "tests/papers/test_docs.py",
    "scale": "tests/queues/test_cloud_tasks.py",
    "testing": "tests/papers/test_guides.py",
    "values": "tests/papers/test_docs.py",
}
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


@pytest.mark.parametrize("page", FRAGMENTS)
def test_a_fragment_does_what_the_page_says(page: str, firestore_emulator: Emulator) -> None:
    """It does so with what it needs around it."""
    text = (DOCS / f"{page}.md").read_text()
    [block] = re.findall(r"^```python\n((?:(?!```).*\n)*)^```\n(?!\n```\n(?!export))", text, re.MULTILINE)
    code = FRAGMENTS[page].format(block.replace("verify=...", "verify=None"))

    assert (0, "", "") == run("-c", code, emulator=firestore_emulator)


def test_every_page_with_python_is_run() -> None:
    """One of these tests runs it, or the one that is named."""
    papers = [DOCS.parent / "README.md", *DOCS.rglob("*.md")]
    with_python = {paper.stem for paper in papers if "```python\n" in paper.read_text()}

    assert with_python == {*PAGES, *FRAGMENTS, *RUN_ELSEWHERE}
    for page, test in RUN_ELSEWHERE.items():
        text = (DOCS.parent / test).read_text()
        assert page in text or page == "backup", page  # test_pages.py takes all pages with commands


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
