"""The reference of the command in docs/cli.md, which is what --help says.

    python -m tests.cli.reference

writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from firestore_flowstate.cli.group import flowstate
from tests.cli.command import run_here

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
BEGIN = "<!-- reference: begin. Written by `make docs` from --help. -->\n"
END = "<!-- reference: end -->\n"


def reference() -> str:
    """Return a section for the group and each command, in the order of the help."""
    os.environ["COLUMNS"] = "100"
    names = [(), *((name,) for name in sorted(flowstate.commands))]
    return "\n".join(_section(*name) for name in names)


def written() -> str:
    """Return the reference as the page has it."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def _section(*command: str) -> str:
    text = run_here(*command, "--help").out.rstrip()
    return f"### {' '.join(('flowstate', *command))}\n\n```\n{text}\n```\n"


if __name__ == "__main__":
    page = PAGE.read_text()
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{reference()}{END}{after}")
