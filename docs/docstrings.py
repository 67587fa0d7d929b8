"""Docstrings for the site: examples as blocks of Python, and methods with the docstrings that they inherit."""

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


class Inherited(griffe.Extension):
    """Gives a method without a docstring that of the base which has it, as `inspect.getdoc` does."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Look at all classes of the package, once all of it is known."""
        for module in (pkg, *pkg.modules.values()):
            for cls in module.classes.values():
                if not cls.is_alias:
                    _inherit(cls)


def _inherit(cls: griffe.Class) -> None:
    for method in cls.functions.values():
        if method.docstring is None and not method.is_alias:
            bases = [base.members.get(method.name) for base in cls.mro()]
            method.docstring = next((base.docstring for base in bases if base is not None and base.docstring), None)


def with_blocks(docstring: str) -> str:
    """Return a docstring with each example in a fence, and with what was before `::` as its sentence."""

    def fenced(match: re.Match[str]) -> str:
        indent, said, space, code = match.groups()
        sentence = f"{said}{'' if space or not said else ':'}\n\n" if said else ""
        block = textwrap.indent(f"```python\n{textwrap.dedent(code).strip()}\n```\n\n", indent)
        return f"{indent if said else ''}{sentence}{block}"

    return _EXAMPLE.sub(fenced, f"{docstring}\n").rstrip("\n")
