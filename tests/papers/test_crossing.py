"""What the architecture says a small save crosses is what it crosses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs" / "architecture.md").read_text()
FLOORS = ("_collection", "_commit", "_operations", "firestore.py")  # above all other rooms, the lowest first
MOST_FILES = 20
MOST_CLIMBS = 3
MOST_CALLS = {"save": 169, "update": 154, "load": 162}
"""Of functions of this package, on Python 3.11, which counts each comprehension as one; later ones have fewer."""


@pytest.fixture(scope="module")
def crossed(firestore_emulator: Emulator) -> dict[str, dict[str, int]]:
    """Return the files that each call enters, with how many functions of them it calls."""
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crossing.py"))],
        env={"PATH": "", **firestore_emulator.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, int]] = json.loads(ran.stdout)
    return found


def test_the_architecture_lists_the_files_that_a_save_crosses(crossed: dict[str, dict[str, int]]) -> None:
    """A newcomer reads them from the first to the last."""
    listed = re.findall(r"^\d+\. `([\w/]+\.py)`", TEXT, re.MULTILINE)

    assert "\n".join(crossed["save"]) == "\n".join(listed)


@pytest.mark.parametrize("call", ["update", "load"])
def test_the_architecture_names_what_else_other_calls_cross(crossed: dict[str, dict[str, int]], call: str) -> None:
    """Most of the way is that of a save."""
    [named] = re.findall(rf"^Besides, (?:an? )?`{call}`.*?(?=\n\n)", TEXT, re.MULTILINE | re.DOTALL)

    assert sorted(set(crossed[call]) - set(crossed["save"])) == sorted(re.findall(r"`([\w/]+\.py)`", named))


def test_a_save_can_be_read_in_one_sitting(crossed: dict[str, dict[str, int]]) -> None:
    """It is not spread over more files than a reader keeps in mind."""
    assert len(crossed["save"]) <= MOST_FILES


def test_a_save_goes_down(crossed: dict[str, dict[str, int]]) -> None:
    """Of two files one after the other, the second is seldom on a higher floor than the first."""
    floors = [
        next((floor for floor, room in enumerate(FLOORS, 1) if file.startswith(room)), 0) for file in crossed["save"]
    ]

    assert sum(after > before for before, after in pairwise(floors)) <= MOST_CLIMBS


@pytest.mark.parametrize("call", MOST_CALLS)
def test_a_call_does_little(crossed: dict[str, dict[str, int]], call: str) -> None:
    """What is done for every state is done once. Whoever raises a number says in the commit what it buys."""
    assert sum(crossed[call].values()) <= MOST_CALLS[call], crossed[call]
