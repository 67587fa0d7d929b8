"""Expired states that nobody deletes: how a missing TTL policy is known."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ..errors import FlowStateWarning

LATEST_DELETION: Final = timedelta(hours=72)
"""Firestore deletes "typically within 24 hours" of the expiry (https://cloud.google.com/firestore/docs/ttl)."""


@dataclass
class MissingTtlWarning:
    """Warns once, when a list meets a state that should have been deleted long ago.

    No call of Firestore's data interface tells whether there is a TTL policy; a state that is stored long after its
    expiry suggests that there is none.
    """

    _warned: bool = False

    def saw(self, expire_at: datetime, now: datetime, *, path: str) -> None:
        """Take note of an expired document in the collection with this path."""
        if self._warned or now - expire_at < LATEST_DELETION:
            return
        self._warned = True
        warnings.warn(
            f"States of {path!r} that expired more than {LATEST_DELETION // timedelta(hours=1)} hours ago are still "
            "stored: it seems that no TTL policy deletes them, and lists read them in vain. Deploy the one that "
            "`flowstate indexes` prints, or call purge(). See docs/retention.md.",
            FlowStateWarning,
            stacklevel=2,
        )
