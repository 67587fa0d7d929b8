"""What a checkpoint tells the drive that it writes for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from firestore_flowstate import FlowStateEncodeError

from .final import Final


class Listener(Protocol):
    """What a checkpoint tells its drive; all of it on the loop, and never in the middle of a function of the flow."""

    def answered(self, answers: Mapping[str, Any]) -> None:
        """Others have given these answers."""
        ...

    def cancelled(self, reason: str) -> None:
        """Others want the run cancelled."""
        ...

    def refused(self, key: str | None, error: FlowStateEncodeError) -> Callable[[], Final]:
        """The store refuses the result of the key, or of the run: return how the run ends by that."""
        ...

    def over(self) -> None:
        """The drive is over: nothing more will be written."""
        ...

    async def park(self) -> None:
        """Wait until the drive cancels what waits here."""
        ...
