"""The clock of the server beside the one of this machine, as answers tell its time."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta, timezone
from typing import Final

from .._rpc.messages import Timestamp

MOST_SKEW: Final = timedelta(seconds=2)  # the least grace that drivers of flows give each other


class ServerClock:
    """How far the clock of this machine is ahead of the server's, as far as answers tell.

    An answer with the server's time was made between its request and its arrival: each narrows the difference down.
    """

    def __init__(self) -> None:
        self._least, self._most = -math.inf, math.inf

    def note(self, *, sent: float, server: Timestamp | None) -> None:
        """Take the time of an answer that has just come.

        Args:
            sent: When it was asked for, by `time.time()`.
            server: The server's time, as the answer tells it; None: it does not.
        """
        if server is None:
            return
        arrived, told = time.time(), server.seconds + server.nanos / 1e9
        self._least = max(self._least, sent - told)
        self._most = min(self._most, arrived - told)

    @property
    def skew(self) -> timedelta:
        """The least that explains the answers, over zero if this machine is ahead."""
        if self._least > self._most:  # it was set meanwhile
            return timedelta()
        return timedelta(seconds=max(self._least, 0.0) or min(self._most, 0.0))

    def now(self) -> datetime:
        """Return the server's time."""
        return datetime.now(timezone.utc) - self.skew
