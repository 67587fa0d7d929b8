"""What a benchmark prints: a table, and its targets with whether they are met. For information: nothing fails."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from rounds import number

MISSED: Final = "  missed  "
MET: Final = "  met     "
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


def at_most(what: str, figure: float, limit: float) -> None:
    """Print a target that a figure must not exceed."""
    print(f"{MET if figure <= limit else MISSED}{what}: {number(figure)} (at most {number(limit)})")


def at_least(what: str, figure: float, limit: float) -> None:
    """Print a target that a figure must reach."""
    print(f"{MET if figure >= limit else MISSED}{what}: {number(figure)} (at least {number(limit)})")


def machine() -> None:
    """Print the machine and the versions that the figures belong to."""
    import os

    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    print(f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    print(f"Python {platform.python_version()}, {packages}")


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
