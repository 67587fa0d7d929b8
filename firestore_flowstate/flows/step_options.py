"""Options of a step, and durations as the API takes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from numbers import Real
from typing import Any

from firestore_flowstate import UNSET, Unset
from firestore_flowstate.errors import shown

from .retry import LONGEST_SECONDS, Retry


@dataclass(frozen=True)
class StepOptions:
    """What `Run.options` was given.

    Attributes:
        retry: How often and when the step is tried again; None: as `Flows(retry=...)` says.
        timeout: How many seconds each attempt may take; None: as long as it likes.
        at_most_once: Whether the step must never begin twice.
        result: The type to read the result as; UNSET: the type that the function is annotated to return.
    """

    retry: Retry | None = None
    timeout: float | None = None
    at_most_once: bool = False
    result: Any = UNSET

    def merged(
        self, *, retry: Retry | None, timeout: timedelta | float | None, at_most_once: bool, result: Any
    ) -> StepOptions:
        """Return these options, with those that are given in place of the ones before."""
        merged = self
        if retry is not None:
            merged = replace(merged, retry=retry)
        if timeout is not None:
            merged = replace(merged, timeout=seconds(timeout, "timeout"))
        if at_most_once:
            merged = replace(merged, at_most_once=True)
        if not isinstance(result, Unset):
            merged = replace(merged, result=result)
        return merged


def seconds(duration: timedelta | float, name: str) -> float:
    """Return the duration in seconds.

    Raises:
        TypeError: The duration is neither a timedelta nor a number.
        ValueError: The duration is negative, or not finite.
    """
    if isinstance(duration, timedelta):
        value = duration.total_seconds()
    elif isinstance(duration, Real) and not isinstance(duration, bool):
        try:
            value = float(duration)
        except OverflowError:
            value = math.inf
    else:
        raise TypeError(f"{name} is a timedelta or a number of seconds, not {shown(duration)}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is a duration of 0 seconds or more, not {shown(duration)}")
    return value


def milliseconds(duration: timedelta | float, name: str) -> int:
    """Return the duration in whole milliseconds.

    Raises:
        TypeError: The duration is neither a timedelta nor a number.
        ValueError: The duration is negative, not finite, or longer than 1,000 years.
    """
    value = seconds(duration, name)
    if value > LONGEST_SECONDS:
        raise ValueError(f"{name} is at most 1,000 years, since moments end with the year 9999; not {shown(duration)}")
    return round(value * 1000)
