"""The lease of a drive: until when it may begin steps, and when to extend it."""

from __future__ import annotations

from dataclasses import dataclass

from .clock import Clock


@dataclass
class Lease:
    """How long the drive may begin steps, by the clock of this machine and by what is stored.

    Attributes:
        clock: The time.
        length: Milliseconds from a write that extends it.
        until: The stored end, ``wakeAt``, in milliseconds since the epoch.
        sent_at: `Clock.monotonic` from before the claim, or the last extension that landed, was sent.
    """

    clock: Clock
    length: int
    until: int
    sent_at: float

    @property
    def is_over(self) -> bool:
        """Whether no step may begin before a write has landed that extends it."""
        return self._used >= self.length

    @property
    def is_half_used(self) -> bool:
        """Whether the next write is to extend it."""
        return self._used * 2 >= self.length

    @property
    def _used(self) -> float:
        return (self.clock.monotonic() - self.sent_at) * 1000

    def extended(self, until: int, sent_at: float) -> None:
        """Note that a write has landed with this end."""
        self.until, self.sent_at = until, sent_at
