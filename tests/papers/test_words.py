"""The words of the house, as far as a test can hold them: "if" and "when", never "where" for them; never "is no"."""

from __future__ import annotations

import inspect
import io
import re
import tokenize
from pathlib import Path

import pytest

import firestore_flowstate
import firestore_flowstate.flows
from firestore_flowstate import backup, doctor, emulator, indexes, inspection

PROJECT = Path(__file__).parents[2]
PAPERS = sorted(
    paper
    for place in ("*.md", "docs/**/*.md", "emulator/*.md", "tests/*.md", "tests/data/*/*.md")
    for paper in PROJECT.glob(place)
)
PLACES = (
    "where a line ends",
    "where a page ended",
    "where in a function",
    "where it stands in the order",
    "where flow states are kept",
    "where the list before ended",
    "where the step works",
    "where it works",
    "says where",
    "where a list goes on",
    "where flows run",
)
"""A "where" that asks for a place, and so stays."""
SHUNNED = (
    (r"(?<![\w-])where(?![\w=-])", "if, or when"),
    (r"\bwherever\b(?! flows are hosted)", "whenever, or if"),
    (r"\b(?:is|are|was|were) no (?!longer|more\b|less\b|later|earlier|other\b)", "is not a, or: does not have"),
)


def prose(paper: Path) -> str:
    """Return the text of a paper without its code, with that which --help prints, in the reference of the command."""
    text = paper.read_text()
    if paper.name != "cli.md":
        text = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    text = re.sub(r"^\| *\| .*$", "", text, flags=re.MULTILINE)  # of files: in their docstrings' own words
    for place in PLACES:
        text = text.replace(place, "")
    return text


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(PROJECT)))
@pytest.mark.parametrize(("shunned", "instead"), SHUNNED, ids=["where", "wherever", "is no"])
def test_a_paper_keeps_to_the_words(paper: Path, shunned: str, instead: str) -> None:
    """Code does not count. The message has the lines, and what to write instead of them."""
    found = [line for line in prose(paper).splitlines() if re.search(shunned, line, re.IGNORECASE)]

    assert [] == found, f"write {instead}"


def test_each_place_is_used() -> None:
    """A phrase that has gone from all papers goes from the list."""
    text = " ".join(" ".join(paper.read_text().split()) for paper in PAPERS)

    assert [] == [place for place in PLACES if place not in text]


def test_a_forbidden_word_is_found(tmp_path: Path) -> None:
    """It is found in prose, and not in code, in an option or in a keyword."""
    paper = tmp_path / "paper.md"
    paper.write_text("A where here.\n\n```\nwhere\n```\n\n`where` and --where KEY and where=1.\n\nThere is no way.\n")

    assert ["A where here."] == [line for line in prose(paper).splitlines() if re.search(SHUNNED[0][0], line)]
    assert ["There is no way."] == [line for line in prose(paper).splitlines() if re.search(SHUNNED[2][0], line)]


def documented() -> dict[str, str]:
    """Return the docstrings of the reference: of public names, and of what is public in them."""
    found = {}
    for module in (firestore_flowstate, firestore_flowstate.flows, backup, doctor, indexes, inspection, emulator):
        for name in getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")]):
            value = getattr(module, name)
            found[name] = inspect.getdoc(value) or ""
            for member, one in vars(value).items() if inspect.isclass(value) else ():
                if not member.startswith("_"):
                    found[f"{name}.{member}"] = inspect.getdoc(one) or ""
    return {name: text for name, text in found.items() if text and not text.startswith("Capture")}


def test_the_reference_keeps_to_the_words() -> None:
    """It does as the papers do. Code, and the places that are named, do not count."""
    wrong = []
    for name, text in documented().items():
        said = re.sub(r"`+[^`]*`+|^ *where: |says where|to look where .*$", "", text, flags=re.MULTILINE)
        wrong += [f"{name}: {line.strip()}" for line in said.splitlines() if re.search(SHUNNED[0][0], line)]

    assert [] == wrong


CODE = sorted(
    module
    for folder in ("firestore_flowstate", "tests", "benchmarks", "examples")
    for module in (PROJECT / folder).rglob("*.py")
    if module != Path(__file__)
)
PLACES_IN_CODE = re.compile(
    r"^ *where: |where (?:a page ended|a watch gets its items|flow states are kept|from\.|it stands in the order"
    r"|the page before ended|to\.|to go on)|exec, start, download, where",
    re.IGNORECASE,
)


def said_in(module: Path) -> list[str]:
    """Return the lines of the docstrings and comments of a module, without code in them."""
    lines: list[str] = []
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(module.read_text()).readline):
        is_statement = before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and is_statement):
            lines += re.sub(r"`+[^`]*`+", "", token.string).splitlines()
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type
    return lines


@pytest.mark.parametrize("module", CODE, ids=lambda module: str(module.relative_to(PROJECT)))
def test_the_code_keeps_to_the_words(module: Path) -> None:
    """Its docstrings and comments say "if" and "when", in tests and benchmarks too. The places that are named stay."""
    found = [line for line in said_in(module) if re.search(SHUNNED[0][0], PLACES_IN_CODE.sub("", line), re.IGNORECASE)]

    assert [] == found, "write if, or when"


def test_a_forbidden_word_in_code_is_found(tmp_path: Path) -> None:
    """It is found in a docstring and in a comment, and not in a string or in code."""
    module = tmp_path / "module.py"
    module.write_text('"""A where here."""\n\nwhere = """where"""\n# There, where.\n')

    assert ['"""A where here."""', "# There, where."] == said_in(module)
