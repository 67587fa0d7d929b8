"""Python's garbage collector, paused while values are made that cannot be garbage.

A process has one collector and one set of fork handlers, which cannot be removed. So this module has state.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final


class _Pauses:
    """The blocks that have paused the collector of this process. The one instance is `_PAUSES`."""

    def __init__(self) -> None:
        self.open: set[object] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.in_child)

    def in_child(self) -> None:
        """Go on collecting: the thread that would has not come along, or it is the one that forked, in its block."""
        if self.open:
            self.open.clear()
            gc.enable()


_PAUSES: Final = _Pauses()


@contextmanager
def gc_paused() -> Iterator[None]:
    """Keep Python's garbage collector from starting in the block.

    The block must not await, since the pause holds for the whole process. In a child that is forked meanwhile the
    collector is on.

    The gain: for large states the collector takes about as long as decoding them. It starts after every 700 new
    containers (2,000 from Python 3.13 on) and looks through all young ones, now and then through all objects. Values
    decoded from JSON are trees that the caller holds, so it would find nothing to free in them.
    """
    if not gc.isenabled():
        yield
        return
    pause = object()
    try:
        _PAUSES.open.add(pause)  # before it is paused, and removed after it goes on: a fork may come in between
        gc.disable()
        yield
    finally:
        if pause in _PAUSES.open:  # it is not in a child, which has the collector as it set it
            gc.enable()
            _PAUSES.open.discard(pause)
