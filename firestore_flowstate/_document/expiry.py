"""When a flow state expires."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from ..models import FlowStatus

_FINISHED = ("done", "failed")


def expiry(
    status: FlowStatus, now: datetime, *, after: timedelta | None, when: Literal["finished", "always"]
) -> datetime | None:
    """Return when a state that is written now expires, or None where it does not.

    To be asked by every write that changes operation, blocked step or executions: a flow that is resumed
    loses its expiry.
    """
    if after is None or (when == "finished" and status not in _FINISHED):
        return None
    try:
        return now + after
    except OverflowError:  # after the year 9999, which neither datetime nor Firestore can hold
        return None


def has_expired(expire_at: datetime | None, now: datetime) -> bool:
    """Return whether the state counts as absent, collected yet or not."""
    return expire_at is not None and expire_at <= now
