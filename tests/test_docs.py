"""The papers say what is so: their code runs, their links lead somewhere, and nothing public is left out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from strict_python import STRICT_PYTHON

import firestore_flowstate
from firestore_flowstate import FlowStateSettings
from firestore_flowstate.emulator import Emulator

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.md").read_text()
PAPERS = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("emulator/*.md")])
ALL_DOCS = "\n".join(paper.read_text() for paper in PAPERS)
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_the_first_lines_of_the_readme_run(firestore_emulator: Emulator) -> None:
    """The code prints what the block after it says."""
    index = next(index for index, (language, _) in enumerate(BLOCKS) if language == "python")
    ran = python("-c", BLOCKS[index][1], emulator=firestore_emulator)

    assert ("", BLOCKS[index + 1][1]) == (ran.stderr, ran.stdout)


def test_the_test_in_the_readme_passes(firestore_emulator: Emulator, tmp_path: Path) -> None:
    """The plugin's fixture is found by its name alone."""
    block = next(text for _, text in BLOCKS if "async def test_" in text)
    file = tmp_path / "test_app.py"
    file.write_text(f"from firestore_flowstate import FlowState\n\n\n{block}")
    options = ["-q", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    ran = python("-m", "pytest", *options, "-p", "no:cacheprovider", str(file), emulator=firestore_emulator)

    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", firestore_flowstate.__all__)
def test_every_public_name_is_in_the_docs(name: str) -> None:
    """Who reads the papers knows what there is."""
    assert re.search(rf"\b{name}\b", ALL_DOCS)


def test_the_table_of_settings_is_complete() -> None:
    """Each setting with its variable and its default, in the order of the class."""
    lines = [[cell.strip() for cell in line.split("|")] for line in README.splitlines() if line.startswith("| `")]
    rows = [(cells[1].strip("`"), *cells[2:4]) for cells in lines]

    assert [row(name) for name in FlowStateSettings.model_fields] == rows


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(PROJECT)))
def test_links_lead_somewhere(paper: Path) -> None:
    """Relative links name files that are there; anchors name headings."""
    for link in LINK.findall(paper.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = (paper.parent / target).resolve() if target else paper
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}, link


def test_the_examples_of_payloads_run(firestore_emulator: Emulator) -> None:
    """Each makes a store that keeps a flow state."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (PROJECT / "docs" / "payloads.md").read_text(), re.MULTILINE | re.DOTALL
    )
    use = (
        "import os\nos.environ['WRAPPED_KEY'] = 'MDEyMzQ1Njc4OWFiY2RlZg=='\n{}\n"
        "from firestore_flowstate import FlowState, SyncFlowStateStore\n"
        "with SyncFlowStateStore(store) as blocking:\n"
        "    blocking.create('flow', FlowState.start(input='You are a helpful assistant.'))\n"
        "    print(blocking.load('flow').input)\n"
    )

    ran = [python("-c", use.format(block), emulator=firestore_emulator) for block in blocks]
    assert 2 * [("", "You are a helpful assistant.\n")] == [(run.stderr, run.stdout) for run in ran]


def test_modules_that_the_architecture_names_are_there() -> None:
    """A file that was renamed is renamed in the papers."""
    text = (PROJECT / "docs" / "architecture.md").read_text()
    package = PROJECT / "firestore_flowstate"
    for name in re.findall(r"`(_(?:document|query|rpc|operations)[./]\w+)(?:\.py)?`", text):
        path = package / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or path.is_dir(), name
    for name in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py)`", text):
        assert (PROJECT / name).exists(), name


def test_the_example_of_the_format_is_a_saved_document() -> None:
    """The specification shows what the tests of the format compare with."""
    sys.path.insert(0, str(PROJECT / "tests" / "format"))
    try:
        from saved import saved
    finally:
        sys.path.pop(0)
    example = re.search(r"```json\n(.*?)```", (PROJECT / "docs" / "format.md").read_text(), re.DOTALL)

    assert example is not None
    assert saved({}) == json.loads(example[1])


def row(name: str) -> tuple[str, str, str]:
    """Return the first cells of a setting's row."""
    default = FlowStateSettings.model_fields[name].default
    variable = "" if name.endswith("codecs") else f"`FLOWSTATE_{name.upper()}`"
    return name, variable, "" if default in (None, ()) else f"`{default}`"


def python(*arguments: str, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **emulator.environment, "GOOGLE_CLOUD_PROJECT": f"demo-{uuid.uuid4().hex[:12]}"}
    return subprocess.run(
        [*STRICT_PYTHON, *arguments],
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
