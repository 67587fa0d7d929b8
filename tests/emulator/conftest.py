"""Real processes, real files and a real emulator. Only a Java or gcloud that must misbehave is a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator, start_emulator
from tests.emulator.child_processes import Programs


@pytest.fixture(autouse=True)
def _no_emulator_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with start_emulator(attach=False) as emulator:
        yield emulator


@pytest.fixture
def programs() -> Iterator[Programs]:
    programs = Programs()
    yield programs
    programs.end()


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is installed here: an empty PATH and an empty home, which is returned."""
    for variable in (
        "FIRESTORE_EMULATOR_BINARY_PATH",
        "FIREBASE_EMULATORS_PATH",
        "JAVA_HOME",
        "XDG_CACHE_HOME",
    ):
        monkeypatch.delenv(variable, raising=False)
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", str(home / "bin"))
    return home
