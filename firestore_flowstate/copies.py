"""Further copies of a state that was loaded, each decoded from the bytes that were read, without another read.

A replay gives a function the values of the loaded state itself. What the function changes in them must not be written
in their place, if another writer has dropped them: then a copy is written. Nobody else needs one, so that a load keeps
its bytes only while somebody collects copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Final, TypeAlias

from .models import FlowState

Copier: TypeAlias = Callable[[], FlowState]
"""Returns a copy of a state as it was loaded, an object of the caller's own."""


class Copies:
    """The states that were loaded while copies were collected, and how to make more of each."""

    def __init__(self) -> None:
        self._copiers: list[tuple[FlowState, Copier]] = []
        self._is_over = False

    def note(self, state: FlowState, copier: Copier) -> None:
        """Note how to make copies of a state, as a store does at each load while copies are collected.

        It does nothing after `of`: a task may have kept the context.

        ::

            if (copies := COLLECTED.get()) is not None:
                copies.note(state, lambda: state.model_copy(deep=True))

        Args:
            state: The state that the load returns.
            copier: Returns a copy of it, at each call another one.
        """
        if not self._is_over:
            self._copiers.append((state, copier))

    def of(self, state: FlowState | None) -> Copier | None:
        """Return what makes copies of a state, and forget all others; None: its store does not tell.

        Some library may have kept the context of the load, and with it this object.

        ::

            with collecting_copies() as copies:
                state = await store.load("order-17")
            copier = copies.of(state)
            another = None if copier is None else copier()

        Args:
            state: What a load in the block has returned, that object itself.
        """
        self._is_over = True
        copiers, self._copiers = self._copiers, []
        return next((copier for other, copier in copiers if other is state), None)


COLLECTED: Final[ContextVar[Copies | None]] = ContextVar("firestore_flowstate_copies", default=None)
"""What the loads of this context note their copies in; None: nobody collects them."""


@contextmanager
def collecting_copies() -> Iterator[Copies]:
    """Collect copies of the states that are loaded in the block, also by a store that another one is wrapped around."""
    copies = Copies()
    token = COLLECTED.set(copies)
    try:
        yield copies
    finally:
        with suppress(ValueError):  # the block is left in another context, as of a coroutine that its loop has dropped
            COLLECTED.reset(token)
