"""Python's garbage collector, held off while values are made that cannot be garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Let no collection begin in the block, which must not await: it holds for the whole process.

    The collector comes for every 700 new objects, and looks through the young ones, and now and then through all. What
    is made of text is a tree that somebody holds: there is nothing to be found in it.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
