"""The budget of a drive: how long it may go on, since the request or the process that it runs in will end."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from firestore_flowstate.errors import shown

from .clock import Clock
from .step_options import seconds

_LEAST_MARGIN_SECONDS: Final = 5.0
_MOST_MARGIN_SECONDS: Final = 60.0
_CLOSING_MARGIN_SECONDS: Final = 8.0
"""How long steps in flight are awaited after SIGTERM: platforms give 10 s, of which the process needs 2 to end."""


def budget_seconds(budget: timedelta | float) -> float:
    """Return the budget in seconds.

    Raises:
        TypeError: The budget is not a duration.
        ValueError: The budget is not longer than its margin, so that no step could ever begin.
    """
    length = seconds(budget, "budget")
    if length <= _LEAST_MARGIN_SECONDS:
        raise ValueError(
            f"budget is more than {_LEAST_MARGIN_SECONDS:.0f} seconds, which are kept at its end for steps in flight; "
            f"not {shown(budget)}"
        )
    return length


class Budget:
    """How long a drive may go on.

    The margin is the end of the budget: a tenth of it, at least 5 and at most 60 seconds. In the margin no step begins,
    and steps in flight are awaited.

    Args:
        clock: What tells the time.
        seconds: The length of the budget, with the margin; None: the drive may go on as long as it likes.
    """

    def __init__(self, clock: Clock, seconds: float | None) -> None:
        self._clock = clock
        self._end: float | None = None
        self._begin_until: float | None = None
        if seconds is not None:
            margin = min(max(seconds / 10, _LEAST_MARGIN_SECONDS), _MOST_MARGIN_SECONDS)
            self._end = clock.monotonic() + seconds
            self._begin_until = self._end - margin

    @property
    def left(self) -> float | None:
        """For how many seconds from now steps may begin; None: without a limit."""
        return None if self._begin_until is None else max(0.0, self._begin_until - self._clock.monotonic())

    @property
    def is_used(self) -> bool:
        """Whether no step may begin any more."""
        return self._begin_until is not None and self._clock.monotonic() >= self._begin_until

    @property
    def margin_left(self) -> float | None:
        """For how many seconds from now steps in flight are awaited; None: until they end."""
        return None if self._end is None else max(0.0, self._end - self._clock.monotonic())

    @property
    def is_over(self) -> bool:
        """Whether steps in flight are not awaited any more."""
        return self._end is not None and self._clock.monotonic() >= self._end

    def fits(self, seconds: float) -> bool:
        """Return whether steps may still begin when so many seconds have passed."""
        return self.left is None or seconds < self.left

    def use_up(self) -> None:
        """Let no step begin from now on, and have those in flight awaited for 8 s at most."""
        now = self._clock.monotonic()
        end = now + _CLOSING_MARGIN_SECONDS
        self._begin_until = now
        self._end = end if self._end is None else min(self._end, end)
