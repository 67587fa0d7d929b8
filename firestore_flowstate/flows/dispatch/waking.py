"""Names of wake times: equal for all who want a run woken at the same time, so that they make one task."""

from __future__ import annotations

import hashlib
from typing import Final

HOP_DAYS: Final = 29
"""Cloud Tasks takes tasks up to 30 days ahead."""
_HOP_MILLISECONDS: Final = HOP_DAYS * 24 * 3600 * 1000
_SLACK_MILLISECONDS: Final = 3_600_000
"""A hop that is delivered a little early, by clocks that differ, must not find its own name used up."""


def hops_left(wake_at: int, *, now: int) -> int:
    """Return how many hops a wake time is away: how often a run is woken before it, only to be dispatched again.

    Args:
        wake_at: Milliseconds since the epoch.
        now: Milliseconds since the epoch.
    """
    return max(0, wake_at - now - _SLACK_MILLISECONDS) // _HOP_MILLISECONDS


def next_hop(wake_at: int, *, now: int) -> int:
    """Return the moment of the next hop, or the wake time itself if none is left.

    It depends on `now` by the number of hops alone: all who name it alike ask for the same moment.
    """
    return wake_at - hops_left(wake_at, now=now) * _HOP_MILLISECONDS


def wake_name(wake_at: int, *, now: int) -> str:
    """Return the name of a wake time, with the number of hops that are left until then."""
    return f"{wake_at}-{hops_left(wake_at, now=now)}"


def early_name(wake_at: int) -> str:
    """Return the name under which a run is woken once more that was woken too early, since its own name is used up."""
    return f"{wake_at}-e"


def task_name(id: str, wake: str) -> str:
    """Return a name for the task that wakes the run: of letters and digits, and spread evenly, as queues want them."""
    return hashlib.sha256(f"{id}\n{wake}".encode()).hexdigest()[:40]


def sweep_name(wake_at: int, *, now: int) -> str:
    """Return the name under which a sweep wakes what is overdue: another one after 1, 2, 4, ... minutes.

    A name cannot be used again for up to 24 hours, so a sweep each minute makes at most 11 tasks a day.
    """
    minutes = max(0, now - wake_at) // 60_000
    return f"{wake_at}-s{minutes.bit_length()}"
