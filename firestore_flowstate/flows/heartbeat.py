"""The heartbeat of a drive: it extends the lease while steps run long, and notices a loop that is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .clock import Timer
from .engine import LOG

if TYPE_CHECKING:
    from .driving import Drive


class Heartbeat:
    """Looks at the lease four times in its length, for as long as the drive goes on.

    So the lease is extended at the latest at three quarters of its length, though no step ends.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._timer: Timer | None = None
        self._due_at = 0.0

    def start(self) -> None:
        """Have the next beat come after a quarter of the lease."""
        seconds = self._drive.lease.length / 4000
        self._due_at = self._drive.loop.time() + seconds
        self._timer = self._drive.engine.clock.call_later(seconds, self._beat, background=True)

    def stop(self) -> None:
        """Let no further beat come."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        drive = self._drive
        if drive.is_over:
            return
        late = drive.loop.time() - self._due_at
        if late * 4000 >= drive.lease.length:
            LOG.warning(
                "The event loop was blocked for %.1f s, a quarter of the lease or more, while %s of the run %r ran: "
                "make what blocks a step whose function is not async, which runs in a thread.",
                late,
                ", ".join(sorted(drive.flights)) or "the function",
                drive.id,
            )
        if drive.lease.is_half_used:
            drive.waits.spawn(drive.checkpoint.commit())
        self.start()
