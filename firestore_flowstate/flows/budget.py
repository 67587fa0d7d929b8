"""How long a drive may go on, as the request or the process that it runs in lasts."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from firestore_flowstate.errors import shown

from .clock import Clock
from .options import seconds

_LEAST_MARGIN: Final = 5.0
_MOST_MARGIN: Final = 60.0
_CLOSING_MARGIN: Final = 8.0
"""What a process has after SIGTERM, less what it needs to end: platforms give 10 s."""


def budget_seconds(budget: timedelta | float) -> float:
    """Return the budget in seconds.

    Raises:
        TypeError: It is not a duration.
        ValueError: It is no longer than its margin, so that no step could ever begin.
    """
    length = seconds(budget, "budget")
    if length <= _LEAST_MARGIN:
        raise ValueError(
            f"budget is more than {_LEAST_MARGIN:.0f} seconds, which are kept at its end for steps in flight; "
            f"not {shown(budget)}"
        )
    return length


class Budget:
    """How long a drive may go on.

    In the margin at its end, a tenth of it but 5 to 60 seconds, no step begins, and steps in flight are awaited.

    Args:
        clock: The time.
        seconds: All of it; None: no end.
    """

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        self._clock = clock
        self._end: float | None = None
        self._begin_until: float | None = None
        if seconds is not None:
            margin = min(max(seconds / 10, _LEAST_MARGIN), _MOST_MARGIN)
            self._end = clock.monotonic() + seconds
            self._begin_until = self._end - margin

    @property
    def left(self) -> float | None:
        """For how many seconds steps may begin; None: there is no end."""
        return None if self._begin_until is None else max(0.0, self._begin_until - self._clock.monotonic())

    @property
    def is_used(self) -> bool:
        """Whether no step may begin any more."""
        return self._begin_until is not None and self._clock.monotonic() >= self._begin_until

    @property
    def margin_left(self) -> float | None:
        """How many seconds steps in flight are still awaited; None: for ever."""
        return None if self._end is None else max(0.0, self._end - self._clock.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether steps in flight are not awaited any more."""
        return self._end is not None and self._clock.monotonic() >= self._end

    def fits(self, seconds: float) -> bool:
        """Return whether a step may still begin after so many seconds."""
        return self.left is None or seconds < self.left

    def use_up(self) -> None:
        """Let no step begin, and await those in flight for a few seconds."""
        now = self._clock.monotonic()
        self._begin_until = now
        self._end = min(self._end, now + _CLOSING_MARGIN) if self._end is not None else now + _CLOSING_MARGIN
