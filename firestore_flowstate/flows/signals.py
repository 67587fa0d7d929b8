"""SIGTERM: runs are handed over before a server's own handler ends the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Termination:
    """A handler of SIGTERM that hands runs over, and then calls the handler that was there before.

    The end of a lifespan would be too late for that: servers end it only after all open requests have ended.

    Args:
        hand_over: What to call. It may be called between any two instructions of the main thread.
    """

    def __init__(self, hand_over: Callable[[], None]) -> None:
        self._hand_over = hand_over
        self._before: Any = None
        self._is_set = False

    def chain(self) -> None:
        """Put the handler in place. On a thread other than the main one Python allows no handlers: nothing happens."""
        if self._is_set or threading.current_thread() is not threading.main_thread():
            return
        self._before = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self._on_signal)
        self._is_set = True

    def unchain(self) -> None:
        """Put the handler that was there before back, unless another one has been set since."""
        if not self._is_set or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) == self._on_signal:
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)
            self._is_set = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._hand_over()
        if callable(self._before):
            self._before(number, frame)
        elif self._before == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._is_set = False
            signal.raise_signal(signal.SIGTERM)
