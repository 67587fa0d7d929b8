"""The lease of a drive: until when the drive may begin steps, and when it is to be extended; and a claim, with one."""

from __future__ import annotations

from dataclasses import dataclass

from .clock import Clock
from .image import Image


@dataclass
class Lease:
    """Until when the drive may begin steps: by the clock of this machine, and as it is stored for others.

    Attributes:
        clock: What tells the time.
        length: How many milliseconds the lease lasts from a write that extends it.
        until: The stored end, ``wakeAt``, in milliseconds since the epoch.
        sent_at: `Clock.monotonic` before the last stored claim or extension was sent, in seconds.
    """

    clock: Clock
    length: int
    until: int
    sent_at: float

    @property
    def is_over(self) -> bool:
        """Whether no step may begin before a write that extends the lease is stored."""
        return self._used >= self.length

    @property
    def is_half_used(self) -> bool:
        """Whether half of the lease is used, so that the next write is to extend it."""
        return self._used * 2 >= self.length

    @property
    def _used(self) -> float:
        return (self.clock.monotonic() - self.sent_at) * 1000

    def extended(self, until: int, sent_at: float) -> None:
        """Note that a write with this end is stored."""
        self.until, self.sent_at = until, sent_at


@dataclass(frozen=True)
class Claim:
    """A run that this process may drive.

    Attributes:
        image: The run as it was stored by the claim.
        token: The random token that is the run's owner.
        lease: Until when the claim holds.
    """

    image: Image
    token: str
    lease: Lease
