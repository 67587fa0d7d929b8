"""What a benchmark prints: tables, and figures with their targets and whether they are met. Nothing fails.

`run.py` asks by BENCHMARK_RESULTS for the figures once more, and for what is plotted, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rounds import Spread, number

_MISSED: Final = "missed"
_MET: Final = "met"
_PACKAGES: Final = ("firestore-flowstate", "google-cloud-firestore", "grpcio", "protobuf", "pydantic", "orjson")


def title(text: str) -> None:
    """Print what is measured."""
    print(f"\n{text}\n{'=' * len(text)}")


def table(rows: Sequence[Sequence[object]], *, head: Sequence[str]) -> None:
    """Print rows under a head, the first column to the left and the others to the right."""
    cells = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    print()
    for row in cells:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())
    print()


def at_most(what: str, figure: Spread | float, limit: float) -> None:
    """Print a figure, or the median of a spread, that must not exceed a limit."""
    _figure(what, figure, _MET if _median(figure) <= limit else _MISSED, f"at most {number(limit)}")


def at_least(what: str, figure: Spread | float, limit: float) -> None:
    """Print a figure, or the median of a spread, that must reach a limit."""
    _figure(what, figure, _MET if _median(figure) >= limit else _MISSED, f"at least {number(limit)}")


def shown(what: str, figure: Spread | float) -> None:
    """Print a figure that has no limit."""
    _figure(what, figure, "", "")


def plotted(plot: str, label: str, **data: Any) -> None:
    """Note a line, or a row of bars, of a plot. `plots.py` says which data there are."""
    _note({"plot": plot, "label": label, **data})


def machine() -> str:
    """Return the machine and the versions that figures belong to, in two lines."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}\n"
        f"Python {platform.python_version()}, {packages}"
    )


def _figure(what: str, figure: Spread | float, verdict: str, target: str) -> None:
    shown = str(figure) if isinstance(figure, Spread) else number(figure)
    print(f"  {verdict:6}  {what}: {shown}" + (f" ({target})" if target else ""))
    _note({"what": what, "figure": shown, "verdict": verdict, "target": target})


def _note(result: Mapping[str, Any]) -> None:
    if results := os.environ.get("BENCHMARK_RESULTS"):
        with Path(results).open("a") as file:
            file.write(json.dumps(result) + "\n")


def _median(figure: Spread | float) -> float:
    return figure.median if isinstance(figure, Spread) else figure


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        return subprocess.run(
            ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        ).stdout.strip()
    return platform.processor() or "unknown processor"
