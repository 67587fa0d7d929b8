"""The README stays short, and links everything else. What its code prints is held by test_docs.py."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_it_is_read_in_a_sitting() -> None:
    """It has at most 120 lines with text, about three screens, and at most six rows of speed."""
    rows = re.findall(r"^\| (?!beside)(?!-)", README.partition("<!-- speed: begin")[2], re.MULTILINE)

    assert len([line for line in README.splitlines() if line.strip()]) <= 120
    assert 1 <= len(rows) <= 6


def test_it_leads_to_the_tutorial_the_rules_and_the_guides() -> None:
    """The links stand under the heading More."""
    more = README.partition("## More\n")[2]

    for page in ("first-flow", "what-a-flow-may-do", "firebase", "cloud-run", "testing", "migration", "conflicts"):
        assert f"](docs/{page}.md)" in more, page
    for page in ("retention", "payloads", "operations", "recipes", "survival", "scale", "glossary", "costs"):
        assert f"](docs/{page}.md)" in more, page


def test_it_says_how_to_get_the_emulator_without_an_account() -> None:
    """It also says which of both ways to install is there today."""
    assert "firestore_flowstate.emulator download` fetches without an account" in README
    assert "will install it; from this repository: `pip install '.[cli]'`" in README


def test_nothing_is_said_twice() -> None:
    """No sentence of the text stands in it twice."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    sentences = [sentence.strip() for sentence in re.split(r"(?<=[.:])\s+|\n\n", text) if len(sentence.split()) > 4]

    assert sorted(set(sentences)) == sorted(sentences)
