"""The timers of wake times on the event loops of a process: one for each wake time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..clock import Timer


@dataclass(eq=False)
class _Armed:
    """A timer, and the loop that has it.

    Attributes:
        timer: The timer; None: it is being made.
        loop: The event loop that it is on.
        process: The id of the process that made it.
    """

    timer: Timer | None = None
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    process: int = field(default_factory=os.getpid)

    @property
    def may_fire(self) -> bool:
        """Whether its loop is this one, or runs in another thread: no loop goes on that has ended, or in a fork."""
        is_here = self.loop is asyncio.get_running_loop() or self.loop.is_running()
        return is_here and self.process == os.getpid()


class LoopTimers:
    """Timers by the id of the run and the name of the wake time.

    One that will not fire does not count, as on a loop that has ended: whoever looks at the run then needs another.
    """

    def __init__(self) -> None:
        self._armed: dict[tuple[str, str], _Armed] = {}

    def __len__(self) -> int:
        return len(self._armed)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._armed)

    def __contains__(self, key: tuple[str, str]) -> bool:
        armed = self._armed.get(key)
        return armed is not None and armed.may_fire

    def add(
        self, key: tuple[str, str], call_later: Callable[[Callable[[], None]], Timer], then: Callable[[], None]
    ) -> None:
        """Make a timer on the running loop.

        Args:
            key: The id of the run and the name of the wake time.
            call_later: Makes a timer of what is to be called.
            then: What is called.
        """
        armed = _Armed()

        def on_time() -> None:
            if self._armed.get(key) is armed:
                del self._armed[key]
            then()

        armed.timer = call_later(on_time)
        self._armed[key] = armed

    def cancel(self) -> None:
        """Cancel all, and forget them."""
        for armed in list(self._armed.values()):
            if armed.timer is not None:
                armed.timer.cancel()
        self._armed.clear()
