"""Commands that the papers name can be typed: their subcommands, options, targets and files are there."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from firestore_flowstate.cli.group import flowstate

PROJECT = Path(__file__).parents[2]
PAPERS = sorted(
    paper
    for place in ("*.md", "docs/**/*.md", "emulator/*.md", "tests/*.md", "tests/data/*/*.md")
    for paper in PROJECT.glob(place)
)
CONTEXT = click.Context(flowstate)


def code(paper: Path) -> str:
    """Return what a paper has in code: blocks, with lines that go on joined, and words between backticks."""
    text = paper.read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*(block.replace("\\\n", " ") for block in blocks), *re.findall(r"`([^`]+)`", prose)])


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(PROJECT)))
def test_flowstate_takes_what_is_typed(paper: Path) -> None:
    """It takes each subcommand, and each of its options."""
    for line in code(paper).splitlines():
        for name, rest in re.findall(r"(?:^|[$|] *|=\S+ )flowstate ([a-z]+)\b(.*)", line.strip()):
            command = flowstate.get_command(CONTEXT, name)
            assert command is not None, line
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            typed = re.findall(r"(?<!\S)(--?[a-z][\w-]*)", re.split(r" [|>] ?| #|\.$", rest)[0])

            assert [] == sorted({*typed} - known - {"--help", "-h"}), line


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(PROJECT)))
def test_make_has_the_targets(paper: Path) -> None:
    """It has the target of each `make TARGET`, and takes the variables that are set."""
    makefile = (PROJECT / "Makefile").read_text()
    for target, rest in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)(.*)$", code(paper), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for variable in re.findall(r"\b([A-Z]+)=", rest.partition("#")[0]):
            assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), variable


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(PROJECT)))
def test_files_that_are_run_are_there(paper: Path) -> None:
    """There is a file for each `python benchmarks/x.py`, and for each test that is named."""
    text = code(paper)
    for file in re.findall(r"\b((?:benchmarks|examples|tests)/[\w/]+\.(?:py|sh|json|toml))", text):
        assert (PROJECT / file).is_file(), file
