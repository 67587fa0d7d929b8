"""Whether a run is to be driven now: due, busy, or waiting."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final, Literal

from firestore_flowstate import FlowState

from .record import RunRecord, inbox_of, record_of, wake_at

_LEAST_GRACE_MILLISECONDS: Final = 2_000
"""The least time between the end of a lease and a claim by another: more than clocks of two machines mostly differ."""
_MOST_BACKOFF_MILLISECONDS: Final = 300_000
"""The longest that others wait with a claim after several recoveries in a row."""
EARLY_MILLISECONDS: Final = 5_000
"""A run whose wait ends within this time is due: its drive waits for the end in the process."""
_SOON_MILLISECONDS: Final = 60_000
"""If a wait ends within this time, a queue whose clock is ahead may have woken the run for it: clocks differ by up to a
minute, if rarely. A run that is busy is looked at for other reasons too, so there the grace is the limit."""


@dataclass(frozen=True)
class Look:
    """What a driver sees when it looks at a run.

    Attributes:
        what: Whether the run is due, is driven already, or waits.
        at: When to look again, in milliseconds since the epoch; None: when somebody wakes the run.
        soon: Whether `at` is so soon that a queue whose clock is ahead may have woken the run for that moment.
    """

    what: Literal["due", "busy", "waiting"]
    at: int | None = None
    soon: bool = False


def look_at(id: str, state: FlowState, *, now: int, lease: int) -> Look:
    """Return whether the run, which has not ended, is due, busy or waiting.

    Args:
        id: The id of the run.
        state: Its state.
        now: The time, in milliseconds since the epoch.
        lease: How long a claim lasts, in milliseconds.
    """
    record, wake = record_of(state), wake_at(state)
    if record.owner is not None and wake is not None:
        free_at = claimable_at(id, record, wake, lease=lease)
        return Look("due") if free_at <= now else Look("busy", free_at, free_at - now <= _LEAST_GRACE_MILLISECONDS)
    if record.owner is not None or inbox_of(state).cancel is not None or _has_answer(record, state):
        return Look("due")
    # Without waits, only the first drive may be delayed. After it `wakeAt` is of a retry or a hand-over: if that lies
    # ahead, so does the clock that wrote it.
    if not record.waits and (wake is None or record.drives):
        return Look("due")
    if wake is None:
        return Look("waiting")
    early = EARLY_MILLISECONDS if record.waits else 0
    return Look("due") if wake - early <= now else Look("waiting", wake, wake - now <= _SOON_MILLISECONDS)


def claimable_at(id: str, record: RunRecord, wake: int, *, lease: int) -> int:
    """Return the first moment at which others may claim a run whose lease ends at `wake`.

    The owner has a grace after its lease: a tenth of the lease, and at least 2 s, since clocks differ. After each
    recovery in a row the pause is longer, up to 5 minutes. All processes with this lease compute the same moment, since
    the jitter of the pause is a hash of the id.

    Args:
        id: The id of the run.
        record: Its record.
        wake: The end of the lease, in milliseconds since the epoch.
        lease: How long a claim lasts, in milliseconds.
    """
    grace = max(_LEAST_GRACE_MILLISECONDS, lease // 10)
    return wake + max(grace, _backoff(id, record.recoveries))


def _backoff(id: str, recoveries: int) -> int:
    if not recoveries:
        return 0
    longest: int = min(1000 * 2 ** min(recoveries, 20), _MOST_BACKOFF_MILLISECONDS)
    share = zlib.crc32(f"{id}\n{recoveries}".encode()) / 2**32
    return round(longest * (0.5 + share / 2))


def _has_answer(record: RunRecord, state: FlowState) -> bool:
    return any(
        key in state.events_triggered and not (wait.kind == "child" and wait.knocked) and wait.kind != "retry"
        for key, wait in record.waits.items()
    )
