"""SIGTERM: runs are handed over before a server's own handler ends the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import Any


class Termination:
    """Hands runs over at SIGTERM, and then has the handler called that was there before.

    The end of a lifespan would be too late for that: servers end it only after all open requests have ended.

    Args:
        hand_over: What to call. It may be called between any two instructions of the main thread.

    Attributes:
        is_chained: Whether it is to be called: since `chain`, and until `unchain`.
    """

    def __init__(self, hand_over: Callable[[], None]) -> None:
        self._hand_over = hand_over
        self.is_chained = False

    def chain(self) -> None:
        """Put a handler in place, also if another one was set since the last time, by a server or after a fork.

        On a thread other than the main one Python allows no handlers: nothing happens.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self.is_chained = True
        if not any(link.termination is self for link in _links()):
            signal.signal(signal.SIGTERM, _Link(self, signal.getsignal(signal.SIGTERM)))

    def unchain(self) -> None:
        """Put the handler that was there before back, unless another one has been set since: that one may call ours."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.is_chained = False
        current = before = signal.getsignal(signal.SIGTERM)
        while isinstance(before, _Link) and not before.termination.is_chained:
            before = before.before
        if before is not current:
            signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)

    def tell(self) -> None:
        """Hand the runs over."""
        if self.is_chained:
            with suppress(Exception):  # what is raised here would come out of any line of the main thread
                self._hand_over()


class _Link:
    """A handler of SIGTERM that knows the one that was there when it was made.

    Each time that another handler was set in between there is a new one, so that no chain leads back to itself,
    whether the other handler calls the one before it or not.
    """

    def __init__(self, termination: Termination, before: Any) -> None:
        self.termination = termination
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.termination.tell()
        if callable(self.before):
            self.before(number, frame)
        elif self.before == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)


def _links() -> Iterator[_Link]:
    """Yield our handlers that are called for sure: from the one in place down to the first one of somebody else."""
    handler: Any = signal.getsignal(signal.SIGTERM)
    while isinstance(handler, _Link):
        yield handler
        handler = handler.before
