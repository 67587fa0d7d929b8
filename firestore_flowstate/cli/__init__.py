"""The command `flowstate`: look at, move and maintain flow states from a shell.

It uses public names of the package only, and needs the extra ``cli``.
"""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
