"""What a dispatcher does."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Dispatcher(Protocol):
    """Has a run driven: now, or at a time. At least once; a call more does no harm."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Have ``flows.drive(id)`` called somewhere.

        Args:
            id: The id of the run, which is all that is to be passed on.
            wake: Names the wake time and the hop: two calls with the same id and wake may be one task.
            at: When; None: now. It may be any time ahead: a dispatcher that cannot wait so long has the run driven
                earlier, and the drive dispatches again, under another `wake`.
        """
        ...

    async def close(self) -> None:
        """Release what it holds."""
        ...
