"""Options of a step, and durations as the API takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from firestore_flowstate import UNSET, Unset

from .retry import Retry


@dataclass(frozen=True)
class StepOptions:
    """What `Run.options` was given.

    Attributes:
        retry: When to try again; None: as `Flows` says.
        timeout: Seconds that each attempt may take; None: any.
        at_most_once: Never begin it twice.
        result: The type to read the result as; UNSET: as the function is annotated.
    """

    retry: Retry | None = None
    timeout: float | None = None
    at_most_once: bool = False
    result: Any = UNSET

    def merged(
        self, *, retry: Retry | None, timeout: timedelta | float | None, at_most_once: bool, result: Any
    ) -> StepOptions:
        """Return these options with those that are given in their place."""
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
        ValueError: It is less than nothing, or not a number.
    """
    value = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} is a duration of 0 seconds or more, not {duration!r}")
    return value


def milliseconds(duration: timedelta | float, name: str) -> int:
    """Return the duration in whole milliseconds."""
    return round(seconds(duration, name) * 1000)
