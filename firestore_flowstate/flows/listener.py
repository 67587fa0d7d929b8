"""What a checkpoint tells the drive that it writes for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from firestore_flowstate import FlowStateEncodeError

from .final import Final


class Listener(Protocol):
    """What a checkpoint tells its drive.

    All of it is called on the drive's event loop, and never while code of the flow runs.
    """

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Take the answers, by key, that others have stored."""
        ...

    def cancelled(self, reason: str) -> None:
        """Take that others want the run cancelled, for this reason."""
        ...

    def unstorable(self, key: str | None, error: FlowStateEncodeError) -> Callable[[], Final]:
        """Take that the result of the key, or of the run, cannot be stored; return what gives the run's last write."""
        ...

    def over(self) -> None:
        """Take that the drive is over: nothing more will be written."""
        ...

    async def park(self) -> None:
        """Wait until the drive is closed, which cancels this."""
        ...
