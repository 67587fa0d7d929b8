"""The command `flowstate`: look at, move and maintain flow states from a shell.

It imports no private module of the package, and needs the extra ``cli``.
"""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
