"""Pauses between the tries of an operation."""

from __future__ import annotations

import random
from dataclasses import dataclass

from .._rpc.clock import sleep
from .._rpc.deadline import Deadline


@dataclass
class Backoff:
    """Pauses that grow, each of random length, so that writers that collided do not collide again.

    Attributes:
        deadline: No pause takes more than half of what is left until then: the rest is for the next try.
        first: How long the first pause may be, in seconds; each further one may be twice as long.
        longest: How long any pause may be, in seconds.
        at_once: How many tries follow without a pause.
    """

    deadline: Deadline
    first: float = 0.01
    longest: float = 1.0
    at_once: int = 0
    _pauses: int = 0

    async def pause(self) -> None:
        """Wait for the next try."""
        if self.at_once > 0:
            self.at_once -= 1
            return
        limit = min(self.first * 2**self._pauses, self.longest, max(0.0, self.deadline.remaining() / 2))
        self._pauses = min(self._pauses + 1, 32)  # enough for any limit, and no overflow
        await sleep(random.uniform(0.0, limit))  # noqa: S311  # jitter is not a secret
