"""Run the benchmarks, each in a process of its own on emulators of its own, and sum up which targets are met.

    python benchmarks/run.py                      # all of them
    python benchmarks/run.py save_load steps      # some
    python benchmarks/run.py --readme             # and write their figures into the README's section Speed
    python benchmarks/run.py --quick              # measure next to nothing: do they still run?

With `--readme` and names, the tables of the others stay as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from report import machine, table, title

FOLDER: Final = Path(__file__).parent
README: Final = FOLDER.parent / "README.md"
BENCHMARKS: Final = {
    "save_load": "Client CPU of a save and of a load, 16 in flight",
    "steps": "Steps of 2 KB, saved one by one",
    "listing": "Pages of 100, one at a time",
    "bulk": "Many states at once",
    "hop": "A call without `async with store`",
    "cold_start": "A process's first seconds",
    "codecs": "Compression",
}
"""Those that are run where none is named, with what they measure."""
OTHERS: Final = ("backup_at_scale",)
"""Those that take longer, and have no targets."""

Figure: TypeAlias = Mapping[str, str]


def run(name: str, *, quick: bool) -> list[Figure]:
    """Run one benchmark, its output passed on, and return its figures.

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
        return [json.loads(line) for line in results.read_text().splitlines()]


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


def write_readme(figures: Mapping[str, Sequence[Figure]]) -> None:
    """Put the figures into the README, a table for each benchmark, in place of the tables of the same."""
    text = README.read_text()
    before, begin, rest = _parted(text, r"<!-- speed: begin\b.*?-->\n")
    old, end, after = _parted(rest, r"<!-- speed: end -->")
    tables = _tables(old) | {name: _table(name, own) for name, own in figures.items() if name in BENCHMARKS}
    ordered = [tables[name] for name in BENCHMARKS if name in tables]
    README.write_text("".join([before, begin, "\n", *(f"{one}\n" for one in ordered), _note(), "\n", end, after]))


def _parted(text: str, pattern: str) -> tuple[str, str, str]:
    match = re.search(pattern, text, re.DOTALL)
    if match is None:
        raise SystemExit(f"README.md has no {pattern}")
    return text[: match.start()], match[0], text[match.end() :]


def _tables(section: str) -> dict[str, str]:
    """Return the tables that are there, by the benchmark that their head names."""
    found = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return {match[1]: one for one in found if (match := re.search(r"`python benchmarks/(\w+)\.py`", one))}


def _table(name: str, figures: Sequence[Figure]) -> str:
    lines = [f"| {BENCHMARKS[name]}: `python benchmarks/{name}.py` | measured | target |", "|---|---|---|"]
    for one in figures:
        target = f"{one['target']}, missed" if one["verdict"] == "missed" else one["target"]
        lines.append(f"| {one['what']} | {one['figure']} | {target} |")
    return "\n".join(lines) + "\n"


def _note() -> str:
    processor, versions = machine().splitlines()
    return f"Last measured on: {processor}.  \n{versions}.\n"


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*BENCHMARKS, *OTHERS))}")
    parser.add_argument("--readme", action="store_true", help="write the figures into the README")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {*BENCHMARKS, *OTHERS}
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    if arguments.readme and arguments.quick:
        parser.error("--quick measures nothing that belongs into the README")
    figures = {name: run(name, quick=arguments.quick) for name in arguments.names or BENCHMARKS}
    sum_up(figures)
    if arguments.readme:
        write_readme(figures)


if __name__ == "__main__":
    main()
