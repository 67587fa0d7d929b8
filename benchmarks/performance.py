"""The figures in the papers: docs/performance.md has all of them, and the README the few that say most."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from report import machine

PROJECT: Final = Path(__file__).parents[1]
PAGE: Final = PROJECT / "docs" / "performance.md"
README: Final = PROJECT / "README.md"
IN_README: Final = {
    "save L, times less than the plain client": "client CPU of a save of 100 steps of 5 KB, times less",
    "full saves (the plain client's, native maps)": "bytes of 300 steps of 2 KB, saved one by one, times fewer",
    "list_summaries of 100 L, times less time": "time of a list of 100 such states, times less",
    "save_many of 500 S, times faster": "time of saving 500 states, times less",
}
"""The beginnings of the figures that the README shows, each with its name there; at most six rows."""

Figure: TypeAlias = Mapping[str, str]


def write_page(figures: Mapping[str, Sequence[Figure]], benchmarks: Mapping[str, str]) -> None:
    """Put figures into docs/performance.md, a table for each benchmark, in place of the tables of the same.

    Args:
        figures: By benchmark.
        benchmarks: What each benchmark measures, in the order of the page. Others have no table.
    """
    before, begin, old, end, after = _parted(PAGE)
    tables = _tables(old) | {
        name: _table(name, own, benchmarks[name]) for name, own in figures.items() if name in benchmarks
    }
    ordered = [tables[name] for name in benchmarks if name in tables]
    PAGE.write_text("".join([before, begin, "\n", *(f"{one}\n" for one in ordered), _note(), "\n", end, after]))


def write_readme() -> None:
    """Put the few figures into the README that it has of docs/performance.md."""
    rows = re.findall(r"^\| (.*?) \| (.*?) \| .*\|$", _parted(PAGE)[2], re.MULTILINE)
    found = {label: figure for start, label in IN_README.items() for what, figure in rows if what.startswith(start)}
    before, begin, _, end, after = _parted(README)
    head = "| beside Google's own client, with the state as native maps | measured |\n|---|---|\n"
    table = "".join(f"| {label} | {figure} |\n" for label, figure in found.items())
    README.write_text(f"{before}{begin}\n{head}{table}\n{end}{after}")


def _parted(paper: Path) -> tuple[str, str, str, str, str]:
    """Return a paper in five pieces: the text before the markers, a marker, the text between, a marker, the rest."""
    pattern = r"(.*?)(<!-- speed: begin\b.*?-->\n)(.*?)(<!-- speed: end -->)(.*)"
    match = re.fullmatch(pattern, paper.read_text(), re.DOTALL)
    if match is None:
        raise SystemExit(f"{paper.name} has no markers <!-- speed: begin --> and <!-- speed: end -->")
    return match[1], match[2], match[3], match[4], match[5]


def _tables(section: str) -> dict[str, str]:
    """Return the tables that are there, by the benchmark that their head names."""
    found = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return {match[1]: one for one in found if (match := re.search(r"`python benchmarks/(\w+)\.py`", one))}


def _table(name: str, figures: Sequence[Figure], measures: str) -> str:
    lines = [f"| {measures}: `python benchmarks/{name}.py` | measured | target |", "|---|---|---|"]
    for one in figures:
        target = f"{one['target']}, missed" if one["verdict"] == "missed" else one["target"]
        lines.append(f"| {one['what']} | {one['figure']} | {target} |")
    return "\n".join(lines) + "\n"


def _note() -> str:
    processor, versions = machine().splitlines()
    return f"Last measured on: {processor}.  \n{versions}.\n"
