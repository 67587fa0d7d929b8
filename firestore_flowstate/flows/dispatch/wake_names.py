"""Names of wake times. All who want a run woken at one time give it one name, so that the queue has one task of it."""

from __future__ import annotations

import hashlib
from typing import Final

HOP_DAYS: Final = 29
"""How far ahead a task may be. Cloud Tasks takes tasks up to 30 days ahead; clocks may differ."""
_HOP_MILLISECONDS: Final = HOP_DAYS * 24 * 3600 * 1000
_SLACK_MILLISECONDS: Final = 3_600_000
"""A hop that is delivered up to this early, since clocks differ, counts one hop less: its own name is used up."""


def hops_left(wake_at: int, *, now: int) -> int:
    """Return how many hops a wake time is away: how often the run is woken before it, only to be dispatched again.

    Args:
        wake_at: The wake time, in milliseconds since the epoch.
        now: The time, in milliseconds since the epoch.
    """
    return max(0, wake_at - now - _SLACK_MILLISECONDS) // _HOP_MILLISECONDS


def next_hop(wake_at: int, *, now: int) -> int:
    """Return the moment of the next hop, or the wake time itself if no hop is left; in milliseconds since the epoch.

    The moment depends on `now` by the number of hops alone. So all who give the wake time one name ask for one moment.
    """
    return wake_at - hops_left(wake_at, now=now) * _HOP_MILLISECONDS


def wake_name(wake_at: int, *, now: int) -> str:
    """Return the name of a wake time, with the number of hops that are left until then."""
    return f"{wake_at}-{hops_left(wake_at, now=now)}"


def early_name(wake_at: int) -> str:
    """Return the name under which a run that was woken too early is woken once more: its first name is used up."""
    return f"{wake_at}-e"


def later_name(wake_at: int, at: int) -> str:
    """Return the name under which a run is woken once more at `at`, since the process that was asked is to end."""
    return f"{wake_at}-c{at}"


def task_name(id: str, wake: str) -> str:
    """Return the name of the task that wakes the run: a hash, since queues want names that are spread evenly."""
    return hashlib.sha256(f"{id}\n{wake}".encode()).hexdigest()[:40]


def sweep_name(wake_at: int, *, now: int) -> str:
    """Return the name under which a sweep wakes a run that is overdue: another name after 1, 2, 4, ... minutes.

    Cloud Tasks takes a name again only after up to 24 hours. So a sweep each minute makes at most 11 tasks a day of one
    overdue run, the first ones soon after each other.
    """
    minutes = max(0, now - wake_at) // 60_000
    return f"{wake_at}-s{minutes.bit_length()}"
