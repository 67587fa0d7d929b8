"""Run the benchmarks, each in a process of its own on emulators of its own, and sum up which targets are met.

    python benchmarks/run.py                      # all of them
    python benchmarks/run.py save_load steps      # some
    python benchmarks/run.py --readme             # and write figures and plots into docs/performance.md and the README
    python benchmarks/run.py --quick              # measure next to nothing: do they still run?

With `--readme` and names, the tables of the others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from performance import Figure, write_page, write_readme
from plots import draw
from report import machine, table, title

FOLDER: Final = Path(__file__).parent
BENCHMARKS: Final = {
    "save_load": "Client CPU of a save and of a load, 16 in flight",
    "steps": "Steps of 2 KB, saved one by one",
    "listing": "Pages of 100, one at a time",
    "bulk": "Many states at once",
    "hop": "A call without `async with store`",
    "cold_start": "A process's first seconds",
    "watch": "From a change to whoever watches",
    "flows": "Durable flows",
    "codecs": "Compression",
    "wake": "1,000 suspended runs woken at once by 4 processes",
}
"""Those that are run if none is named, with what they measure."""
OTHERS: Final = ("backup_at_scale", "one_text")
"""Those that take longer, and have no targets."""


def run(name: str, *, quick: bool) -> tuple[list[Figure], list[Mapping[str, Any]]]:
    """Run one benchmark, its output passed on, and return its figures and what of it is plotted.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        results.touch()
        environment = {**os.environ, "BENCHMARK_RESULTS": str(results)}
        if quick:
            environment["BENCHMARK_QUICK"] = "1"
        subprocess.run([sys.executable, str(FOLDER / f"{name}.py")], env=environment, check=True)
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        return [line for line in lines if "what" in line], [line for line in lines if "plot" in line]


def sum_up(figures: Mapping[str, Sequence[Figure]]) -> None:
    """Print every target, with whether it is met."""
    rows = [
        (one["what"], one["figure"], one["target"], one["verdict"])
        for own in figures.values()
        for one in own
        if one["target"]
    ]
    title(f"{sum(row[3] == 'met' for row in rows)} of {len(rows)} targets met")
    table(rows, head=["", "measured", "target", ""])
    print(machine())


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*BENCHMARKS, *OTHERS))}")
    parser.add_argument("--readme", action="store_true", help="write the figures into the papers, and the plots")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {*BENCHMARKS, *OTHERS}
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if arguments.readme and arguments.quick:
        parser.error("--quick measures nothing that belongs into the papers")
    results = {name: run(name, quick=arguments.quick) for name in arguments.names or BENCHMARKS}
    figures = {name: own for name, (own, _) in results.items()}
    sum_up(figures)
    if arguments.readme:
        write_page(figures, BENCHMARKS)
        write_readme()
        draw([line for _, plotted in results.values() for line in plotted])


if __name__ == "__main__":
    main()
