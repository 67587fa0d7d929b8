"""Docstrings for the site: an example that follows `::` becomes a block of Python, as on the other pages."""

from __future__ import annotations

import re
import textwrap
from typing import Any, Final

import griffe

_EXAMPLE: Final = re.compile(r"^( *)(.*?)(\s?)::[ ]*\n\n((?:\1    .*(?:\n|$)|\s*\n)+)", re.MULTILINE)


class Examples(griffe.Extension):
    """Found by its place in the options of mkdocstrings, in zensical.toml."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object, before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = with_blocks(obj.docstring.value)


def with_blocks(docstring: str) -> str:
    """Return a docstring with each example in a fence, and with what was before `::` as its sentence."""

    def fenced(match: re.Match[str]) -> str:
        indent, said, space, code = match.groups()
        sentence = f"{said}{'' if space or not said else ':'}\n\n" if said else ""
        block = textwrap.indent(f"```python\n{textwrap.dedent(code).strip()}\n```\n\n", indent)
        return f"{indent if said else ''}{sentence}{block}"

    return _EXAMPLE.sub(fenced, f"{docstring}\n").rstrip("\n")
