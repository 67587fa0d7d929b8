"""Names of wake times: equal for all who want a run woken at the same time, so that they make one task."""

from __future__ import annotations

from typing import Final

HOP_DAYS: Final = 29
"""Cloud Tasks takes tasks up to 30 days ahead."""
_HOP_MILLISECONDS: Final = HOP_DAYS * 24 * 3600 * 1000


def wake_name(wake_at: int, *, now: int) -> str:
    """Return the name of a wake time, with the number of hops that are left until then.

    Args:
        wake_at: Milliseconds since the epoch.
        now: Milliseconds since the epoch.
    """
    return f"{wake_at}-{max(0, wake_at - now) // _HOP_MILLISECONDS}"


def sweep_name(wake_at: int, *, now: int) -> str:
    """Return the name under which a sweep wakes what is overdue: another one after 1, 2, 4, ... minutes.

    A name cannot be used again for up to 24 hours, so a sweep each minute makes at most 11 tasks a day.
    """
    minutes = max(0, now - wake_at) // 60_000
    return f"{wake_at}-s{minutes.bit_length()}"
