"""Keys of what a run records. They follow Genkit's rule: ``name``, ``name-1``, ``name-2``.

A key is counted when a method of the run is called, in the scope that it is called in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from firestore_flowstate._error_texts import NOT_UTF8
from firestore_flowstate._limits import is_reserved, is_utf8
from firestore_flowstate.errors import shown


class Scope:
    """What keys are counted in: the function of the flow, or the function of a step that is executed now.

    Attributes:
        key: The key of the step; empty for the flow itself.
        task: The task that the function runs in.
        straight: Whether all operations in it were called one after the other, in its own task.
        at_most_once: Whether the step must not begin twice, so that nothing in it may wait.
        is_over: Whether the function has returned.
    """

    def __init__(
        self, key: str, *, task: asyncio.Task[Any] | None = None, straight: bool = True, at_most_once: bool = False
    ) -> None:
        self.key = key
        self.task = task
        self.straight = straight
        self.at_most_once = at_most_once
        self.is_over = False
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}

    def key_for(self, name: str) -> str:
        """Take the next free key of the name: ``name``, ``name-1``, ``name-2``.

        Raises:
            ValueError: The name is empty, has a slash, or is one that Firestore reserves.
        """
        check_name(name)
        number = self._next.get(name, 0)
        while (key := f"{name}-{number}" if number else name) in self._taken:
            number += 1
        self._next[name] = number + 1
        self._taken.add(key)
        return f"{self.key}/{key}" if self.key else key

    def keys_for(self, name: str, count: int) -> Sequence[str]:
        """Take the next `count` free keys of the name, in their order."""
        check_name(name)
        return [self.key_for(name) for _ in range(count)]


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a step.

    Raises:
        TypeError: The name is not text.
        ValueError: The name is empty, has a slash or a lone surrogate, or is one that Firestore reserves.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a step is text, not {shown(name, 80)}: the name comes first, then the function")
    if not name or "/" in name or is_reserved(name):
        raise ValueError(
            f"{name!r} cannot be the name of a step: a name is not empty, has no slash, which stands between a step "
            "and what is inside it, and is not of the form __x__, which Firestore reserves"
        )
    if not is_utf8(name):
        raise ValueError(f"{shown(name)} cannot be the name of a step: it {NOT_UTF8}")
