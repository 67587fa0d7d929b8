"""The benchmarks run, all of them, and what they measure finds its way into the README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from strict_python import OLD_PYTHONS_BY_ENVIRONMENT

from firestore_flowstate.emulator import Emulator

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PARTS = {"emulators", "floor", "plain", "report", "rounds", "run", "states", "wire"}  # of which they are made
SIMULATION = "scale"  # tests/test_scale.py


def run_py(*arguments: str, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), *arguments],
        env={**os.environ, **emulator.environment, "PYTHONWARNINGS": OLD_PYTHONS_BY_ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.timeout(300)  # it is many processes, on a machine that may be busy
def test_all_benchmarks_run(firestore_emulator: Emulator) -> None:
    """Each measures next to nothing, and has its targets in the table at the end."""
    ran = run_py("--quick", emulator=firestore_emulator)
    targets = re.findall(r"^(.*\S)\s+(?:at least|at most) .*(?:met|missed)$", ran.stdout, re.MULTILINE)

    assert "" == ran.stderr
    assert 0 == ran.returncode
    for name in ("save S", "step about", "list of", "save_many of", "load S", "pydantic", "times smaller"):
        assert any(name in target for target in targets), name


def test_no_benchmark_is_forgotten(firestore_emulator: Emulator) -> None:
    """Whatever file of the folder is no part of others is known to run.py."""
    ran = run_py("nothing", emulator=firestore_emulator)

    assert 2 == ran.returncode
    assert "there is no benchmark nothing" in ran.stderr
    known = set(run_py("--help", emulator=firestore_emulator).stdout.replace(",", " ").split())
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - PARTS - {SIMULATION} <= known


def test_figures_go_into_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its markers; the tables of benchmarks that did not run now stay as they are."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- speed: begin. As it\nwas. -->\nold\n<!-- speed: end -->\nafter\n")
    monkeypatch.setattr(run, "README", readme)
    monkeypatch.setattr(run, "machine", lambda: "a machine\nits versions")
    met = {"what": "save S, times the floor", "figure": "2.00", "verdict": "met", "target": "at most 2.50"}
    run.write_readme({"bulk": [met], "backup_at_scale": []})
    run.write_readme({"steps": [{**met, "figure": "9.00", "verdict": "missed"}, {**met, "verdict": "", "target": ""}]})

    assert readme.read_text() == (
        "before\n"
        "<!-- speed: begin. As it\nwas. -->\n"
        "\n"
        "| Steps of 2 KB, saved one by one: `python benchmarks/steps.py` | measured | target |\n"
        "|---|---|---|\n"
        "| save S, times the floor | 9.00 | at most 2.50, missed |\n"
        "| save S, times the floor | 2.00 |  |\n"
        "\n"
        "| Many states at once: `python benchmarks/bulk.py` | measured | target |\n"
        "|---|---|---|\n"
        "| save S, times the floor | 2.00 | at most 2.50 |\n"
        "\n"
        "Last measured on: a machine.  \n"
        "its versions.\n"
        "\n"
        "<!-- speed: end -->\n"
        "after\n"
    )
