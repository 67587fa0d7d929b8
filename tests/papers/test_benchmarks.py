"""The benchmarks run, all of them, and what they measure finds its way into the papers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import OLD_PYTHONS_BY_ENVIRONMENT

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PARTS = {
    "dbos_process",
    "dbos_workflow",
    "durable_steps",
    "emulators",
    "floor",
    "long_runs",
    "performance",
    "plain",
    "plots",
    "production",
    "report",
    "rounds",
    "run",
    "states",
    "waiting_runs",
    "wire",
}
SIMULATION = "scale"  # tests/papers/test_scale.py


def run_py(*arguments: str, emulator: Emulator) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), *arguments],
        env={**os.environ, **emulator.environment, "PYTHONWARNINGS": OLD_PYTHONS_BY_ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )


@pytest.mark.timeout(600)  # it is many processes, on a machine that may be busy
def test_all_benchmarks_run(firestore_emulator: Emulator) -> None:
    """Each measures next to nothing, and has its targets in the table at the end."""
    ran = run_py("--quick", emulator=firestore_emulator)
    targets = re.findall(r"^(.*\S)\s+(?:at least|at most) .*(?:met|missed)$", ran.stdout, re.MULTILINE)

    assert "" == ran.stderr
    assert 0 == ran.returncode
    for name in (
        "save S",
        "step about",
        "list of",
        "save_many of",
        "load S",
        "pydantic",
        "times smaller",
        "durable step",
    ):
        assert any(name in target for target in targets), name


def test_no_benchmark_is_forgotten(firestore_emulator: Emulator) -> None:
    """Whatever file of the folder is not a part of others is known to run.py."""
    ran = run_py("nothing", emulator=firestore_emulator)

    assert 2 == ran.returncode
    assert "there is no benchmark nothing" in ran.stderr
    known = set(run_py("--help", emulator=firestore_emulator).stdout.replace(",", " ").split())
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - PARTS - {SIMULATION} <= known


def test_figures_go_into_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go between its markers. The tables of benchmarks that did not run now stay as they are."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import performance
    from run import BENCHMARKS as MEASURED

    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- speed: begin. As it\nwas. -->\nold\n<!-- speed: end -->\nafter\n")
    monkeypatch.setattr(performance, "PAGE", page)
    monkeypatch.setattr(performance, "machine", lambda: "a machine\nits versions")
    met = {"what": "save S, times the floor", "figure": "2.00", "verdict": "met", "target": "at most 2.50"}
    performance.write_page({"bulk": [met], "backup_at_scale": []}, MEASURED)
    missed = [{**met, "figure": "9.00", "verdict": "missed"}, {**met, "verdict": "", "target": ""}]
    performance.write_page({"steps": missed}, MEASURED)

    assert page.read_text() == (
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


def test_the_readme_has_the_figures_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has at most six of them, so that they are read, and none that the page does not have."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import performance

    readme = tmp_path / "README.md"
    readme.write_text(performance.README.read_text())
    monkeypatch.setattr(performance, "README", readme)
    performance.write_readme()

    assert readme.read_text() == (BENCHMARKS.parent / "README.md").read_text()
    assert len(performance.IN_README) == readme.read_text().count("times less |") + readme.read_text().count("fewer |")
    assert len(performance.IN_README) <= 6


@pytest.mark.parametrize("ticks", [None, ["S", "M", "L"]], ids=["curves", "bars"])
def test_a_plot_is_read_on_light_and_dark_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticks: list[str] | None
) -> None:
    """Its colours are those of the page that shows it. The same data make the same file."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import plots

    labels = {"title": "Time", "x_label": "steps", "y_label": "ms", "plot": "time"}
    data = {"ticks": ticks} if ticks else {"x": [0, 1, 2]}
    lines = [{**labels, **data, "label": label, "y": [1.0, 2.0, 4.0]} for label in ("plain client", "update")]
    plots.draw(lines, tmp_path)
    drawn = (tmp_path / "time.svg").read_text()
    plots.draw(lines, tmp_path)

    assert drawn == (tmp_path / "time.svg").read_text()
    assert "@media (prefers-color-scheme: dark)" in drawn
    behind = drawn.partition("</style>")[2]
    assert set() == set(re.findall(r"#[0-9a-f]{6}\b", behind.partition("</metadata>")[2]))
    for word in ("plain client", "update", "Time", "steps", "ms"):
        assert f">{word}</text>" in drawn
