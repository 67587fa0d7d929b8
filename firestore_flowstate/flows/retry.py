"""How often and when a step is tried again."""

from __future__ import annotations

import random
from dataclasses import KW_ONLY, dataclass

from firestore_flowstate.errors import shown


@dataclass(frozen=True)
class Retry:
    """How often and when a step is tried again.

    ::

        await run.options(retry=Retry(5, on=ConnectionError)).step("ask", ask, prompt)

    Args:
        attempts: How many attempts there are in all, at least 1.
        first: The pause after the first failed attempt, in seconds.
        factor: By how much each pause is longer than the one before.
        most: The longest pause, in seconds.
        jitter: Draw each pause evenly from zero to the computed one, so that many runs do not come at once.
        on: The errors after which the step is tried again.
        unless: Errors of `on` after which it is not.
    """

    attempts: int = 3
    _: KW_ONLY
    first: float = 1.0
    factor: float = 2.0
    most: float = 300.0
    jitter: bool = True
    on: type[Exception] | tuple[type[Exception], ...] = Exception
    unless: type[Exception] | tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is at least 1, not {shown(self.attempts)}")
        if self.first < 0 or self.most < 0 or self.factor < 1:
            raise ValueError("first and most are at least 0 seconds, and factor is at least 1")

    def allows(self, failed: int, error: BaseException) -> bool:
        """Return whether there is another attempt after so many failed ones, the last of them by the error."""
        return failed < self.attempts and isinstance(error, self.on) and not isinstance(error, self.unless)

    def pause(self, failed: int) -> float:
        """Return the pause after so many failed attempts, in seconds."""
        try:
            longest = min(self.first * self.factor ** (failed - 1), self.most)
        except OverflowError:
            longest = self.most
        return random.uniform(0, longest) if self.jitter else longest  # noqa: S311  # spreads load, guards nothing
