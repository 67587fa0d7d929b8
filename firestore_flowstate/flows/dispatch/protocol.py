"""The protocol of dispatchers, for implementers."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Dispatcher(Protocol):
    """What has runs driven: now, or at a time.

    Each dispatched run is to be driven at least once. To drive it more often does no harm: the claim decides.

    ::

        class Printed:
            async def dispatch(self, id, *, wake, at=None):
                print(f"drive {id} at {at or 'once'}")

            async def close(self):
                pass
    """

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Have ``flows.drive(id)`` called in some process.

        Args:
            id: The id of the run: all that must be passed on.
            wake: A name of the wake time and the hop. Two calls with the same `id` and `wake` may become one task.
            at: When, with its time zone; None: now. It may be any time ahead. A dispatcher that cannot wait so long has
                the run driven earlier; that drive dispatches the run again, under another `wake`.

        Raises:
            DispatchError: The run cannot be dispatched now. Its state is stored, and a sweep finds it.
        """
        ...

    async def close(self) -> None:
        """Release what the dispatcher holds in this process."""
        ...
