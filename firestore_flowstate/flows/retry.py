"""How often and when a step is tried again."""

from __future__ import annotations

import random
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any, Final

from firestore_flowstate.errors import shown

LONGEST_SECONDS: Final = 365_250 * 86_400
"""The longest pause, sleep, timeout or delay: 1,000 years, so that its end is a moment that `datetime` can hold."""


@dataclass(frozen=True)
class Retry:
    """How often and when a step is tried again.

    ::

        answer = await run.options(retry=Retry(5, on=ConnectionError)).step("ask", ask, "rivers")

    Args:
        attempts: How many attempts there are in all, at least 1.
        first: The pause after the first failed attempt, in seconds.
        factor: By how much each pause is longer than the one before; at least 1.
        most: The longest pause, in seconds.
        jitter: Whether each pause is drawn evenly from zero to the computed one, so that runs which failed together do
            not all come back at one moment.
        on: The errors after which the step is tried again: a class, or a tuple of classes.
        unless: Errors of `on` after which the step is not tried again.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is too small or not finite, or a pause is longer than 1,000 years.
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
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
            raise TypeError(f"attempts is a whole number, not {shown(self.attempts)}")
        if self.attempts < 1:
            raise ValueError(f"attempts is at least 1, not {shown(self.attempts)}")
        for name, value in (("first", self.first), ("most", self.most)):
            _check_number(name, value, "a number of seconds")
            if not 0 <= value <= LONGEST_SECONDS:
                raise ValueError(f"{name} is from 0 seconds to 1,000 years, not {shown(value)}")
        _check_number("factor", self.factor, "a number")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"factor is a finite number of at least 1, not {shown(self.factor)}")
        if not isinstance(self.jitter, bool):
            raise TypeError(f"jitter is True or False, not {shown(self.jitter)}")
        _check_errors("on", self.on)
        _check_errors("unless", self.unless)

    def allows(self, failed: int, error: BaseException) -> bool:
        """Return whether there is another attempt after `failed` attempts, of which the last raised the error."""
        return failed < self.attempts and isinstance(error, self.on) and not isinstance(error, self.unless)

    def pause(self, failed: int) -> float:
        """Return the pause after `failed` attempts, in seconds."""
        try:
            longest = min(self.first * self.factor ** (failed - 1), self.most)
        except OverflowError:
            longest = self.most
        return random.uniform(0, longest) if self.jitter else longest  # noqa: S311  # spreads load, guards nothing


def _check_number(name: str, value: Any, kind: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {kind}, not {shown(value)}")


def _check_errors(name: str, classes: Any) -> None:
    """Refuse what `isinstance` does not take: it would be asked only when a step has failed, and hide that error."""
    each = classes if isinstance(classes, tuple) else (classes,)
    if not all(isinstance(one, type) and issubclass(one, BaseException) for one in each):
        raise TypeError(f"{name} is a class of errors or a tuple of such, not {shown(classes)}")
