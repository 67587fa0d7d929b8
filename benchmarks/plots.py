"""The plots of docs/performance.md, as SVG: for light and dark pages, in colours that all people tell apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parents[1] / "docs" / "plots"
_TEXT: Final = "#010203"  # stands for the colour of the page's text until the file is written
_COLOURS: Final = {"#0072b2": "#56b4e9", "#d55e00": "#e69f00", "#117755": "#44cc99"}
"""Colours on light pages, each with the one for dark pages: of the palette of Okabe and Ito, but for the greens."""
_MARKERS: Final = "os^"  # so that lines differ without any colour


def draw(lines: Sequence[Mapping[str, Any]], folder: Path = FOLDER) -> None:
    """Write a file for each plot among the results of benchmarks. Files of other plots stay."""
    folder.mkdir(exist_ok=True)
    for name in dict.fromkeys(line["plot"] for line in lines):
        (folder / f"{name}.svg").write_text(_svg([line for line in lines if line["plot"] == name]))


def _svg(lines: Sequence[Mapping[str, Any]]) -> str:
    import matplotlib as mpl  # here, since it takes long to import and only --readme needs it
    from matplotlib.figure import Figure

    plain = {"text.color": _TEXT, "axes.edgecolor": _TEXT, "axes.labelcolor": _TEXT} | {
        f"{axis}tick.color": _TEXT for axis in "xy"
    }
    fixed = {"svg.fonttype": "none", "svg.hashsalt": "firestore-flowstate"}  # the same data give the same file
    with mpl.rc_context({**plain, **fixed, "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7.2, 3.8), layout="constrained")
        axes = figure.subplots()
        if "ticks" in lines[0]:
            _bars(axes, lines)
        else:
            _curves(axes, lines)
        axes.set_title(lines[0]["title"], loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel(lines[0]["x_label"])
        axes.set_ylabel(lines[0]["y_label"])
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=_TEXT, alpha=0.15, linewidth=0.8)
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_both_pages(file.getvalue())


def _curves(axes: Any, lines: Sequence[Mapping[str, Any]]) -> None:
    for line, colour, marker in zip(lines, _COLOURS, _MARKERS, strict=False):
        axes.plot(line["x"], line["y"], color=colour, marker=marker, markevery=0.2, linewidth=2, clip_on=False)
        axes.annotate(
            line["label"], (line["x"][-1], line["y"][-1]), xytext=(8, 5), textcoords="offset points", color=colour,
            va="center",
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def _bars(axes: Any, lines: Sequence[Mapping[str, Any]]) -> None:
    """Draw groups of bars on a logarithmic axis, each with its number, since those of a group differ by hundreds."""
    width = 0.8 / len(lines)
    for place, (line, colour) in enumerate(zip(lines, _COLOURS, strict=False)):
        places = [group + (place - (len(lines) - 1) / 2) * width for group in range(len(line["y"]))]
        bars = axes.bar(places, line["y"], width * 0.92, color=colour, label=line["label"])
        axes.bar_label(bars, [f"{value:,.0f}" for value in line["y"]], padding=2, fontsize=9)
    axes.set_yscale("log")
    axes.set_xticks(range(len(lines[0]["ticks"])), lines[0]["ticks"])
    axes.legend(frameon=False)


def _for_both_pages(svg: str) -> str:
    """Return the file with its colours as variables, which the page that shows it decides."""
    light = f"--text: #1f2328; {'; '.join(f'--c{place}: {colour}' for place, colour in enumerate(_COLOURS))}"
    dark = f"--text: #e6edf3; {'; '.join(f'--c{place}: {colour}' for place, colour in enumerate(_COLOURS.values()))}"
    style = f"<style>:root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}</style>"
    svg = svg.replace(_TEXT, "var(--text)")
    for place, colour in enumerate(_COLOURS):
        svg = svg.replace(colour, f"var(--c{place})")
    svg = re.sub(r"<text (?![^>]*fill)", '<text fill="var(--text)" ', svg)
    return re.sub(r"(<svg [^>]*>)", rf"\1\n {style}", svg, count=1)
