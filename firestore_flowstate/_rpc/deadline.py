"""The point in time by which a call must have ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .clock import monotonic

_YEAR: Final = 365 * 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock of `clock`, and how many seconds were allowed until it."""

    at: float
    allowed: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline that is so many seconds from now, or a year: locks and polls overflow beyond."""
        seconds = min(seconds, _YEAR)
        return cls(monotonic() + seconds, seconds)

    def plus(self, seconds: float) -> Deadline:
        """Return this deadline, later by so many seconds."""
        return Deadline(self.at + seconds, self.allowed + seconds)

    def remaining(self) -> float:
        """Return the seconds left; zero or less when it has passed."""
        return self.at - monotonic()
