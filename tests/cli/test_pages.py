"""The pages of the documentation: commands and code print what stands below, and the reference is what --help says."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firestore_flowstate import FlowStateSettings
from firestore_flowstate.cli.group import flowstate as group
from tests.cli.command import Outcome, shown_here
from tests.cli.reference import reference, written
from tests.rpc.strict_python import STRICT_PYTHON

PROJECT = Path(__file__).parents[2]
SESSION = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```\n\n```\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [page for page in sorted(PROJECT.glob("docs/*.md")) if SESSION.search(page.read_text())]


@pytest.fixture
def flow_state_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    """The collection that the pages speak of."""
    return flow_state_settings.model_copy(update={"collection": "genkit-flows"})


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Yield each command of the page's sessions, and what it is said to print."""
    for session in SESSION.findall(page.read_text()):
        for block in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, output = block.partition("\n")
            while command.endswith("\\"):
                more, _, output = output.partition("\n")
                command = f"{command[:-1]}{more.removeprefix('>').strip()}"
            yield command, output


class Session:
    """A shell and a folder of the reader's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment = monkeypatch
        monkeypatch.chdir(folder)
        program = folder / "bin" / "flowstate"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m firestore_flowstate.cli "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    def run(self, command: str) -> str:
        """Return what a command prints."""
        if exported := re.fullmatch(r"export (\w+)=(.*)", command):
            self._environment.setenv(exported[1], "".join(shlex.split(exported[2])))
            return ""
        if command.startswith("flowstate ") and not re.search(r"[|<>&;$]", command):
            return shown_here(*shlex.split(command)[1:])  # needs no shell, and so no time
        ran = subprocess.run(
            ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60
        )
        return ran.stdout


@pytest.mark.usefixtures("here", "store")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_print_what_the_pages_say(
    flow_state_settings: FlowStateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Path
) -> None:
    """They run one after the other, on the four flows of the shop. A ... stands for what differs each time."""
    if page.name == "migration.md":  # what Genkit JS has left
        shown_here("migrate", "--to-layout", "native", "--yes")
    session = Session(tmp_path, monkeypatch)
    emulator = f" on the emulator {flow_state_settings.emulator_host}"
    for command, expected in commands(page):
        printed = session.run(command).replace(emulator, "").replace(str(flow_state_settings.project), "shop")

        assert doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS), f"$ {command}\n{printed}"


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("page", [page for page in PAGES if CODE.search(page.read_text())], ids=lambda page: page.name)
def test_code_prints_what_the_pages_say(environment: dict[str, str], tmp_path: Path, page: Path) -> None:
    """Each program by itself, on the four flows."""
    for code, expected in CODE.findall(page.read_text()):
        ran = subprocess.run(
            [*STRICT_PYTHON, "-c", code],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

        assert (0, expected, "") == (ran.returncode, ran.stdout, ran.stderr)


def test_the_reference_is_what_help_says(here: Callable[..., Outcome]) -> None:
    """It has every command and every option. `make docs` writes it anew. Spaces differ between versions of click."""
    assert reference().split() == written().split()


def test_help_names_every_command(here: Callable[..., Outcome]) -> None:
    """Each has a section of the reference."""
    said = here("--help").out

    assert set(group.commands) == set(re.findall(r"^  (\w+) ", said.partition("Commands:\n")[2], re.MULTILINE))
    assert set(group.commands) == set(re.findall(r"^### flowstate (\w+)$", written(), re.MULTILINE))
