"""The pages about hosts show the code that is tested here, and not a second copy of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.hosts.serving import ROOT

PAGE = "\n".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("hosting", "firebase", "cloud-run"))
SECTIONS = [section for section in PAGE.split("\n## ") if "](../examples/" in section]


def text_of(example: Path) -> str:
    """Return the code of the example. The code of a notebook is that of its cells."""
    text = example.read_text()
    if example.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_code_is_of_the_examples(section: str) -> None:
    """Each paragraph of code stands in an example that the section links, after the paragraph before it.

    A block of `shell` is what a reader types.
    """
    examples = [ROOT / "docs" / link for link in re.findall(r"\]\((\.\./examples/[^)]+)\)", section)]
    text = "\n\n".join(text_of(example) for example in examples)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    blocks = [(language, block) for language, block in blocks if language != "shell"]

    assert blocks
    for language, block in blocks:
        position = 0
        for paragraph in block.strip("\n").split("\n\n"):
            assert paragraph in text[position:], paragraph
            position = text.index(paragraph, position) + len(paragraph) if language else 0


def test_examples_are_tested() -> None:
    """One of these tests names each example that the page links."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))
    examples = {Path(link) for link in re.findall(r"\]\(\.\./examples/([^)]+)\)", PAGE)}

    assert len(examples) >= 7
    for example in examples:
        assert f'"{example.name}"' in tests or f"{example.stem}:" in tests, example


def test_tests_are_there() -> None:
    """A test that the page names has not been renamed."""
    tests = re.findall(r"`(tests/[\w/]+\.py)`", PAGE)

    assert tests
    for test in tests:
        assert (ROOT / test).is_file(), test
