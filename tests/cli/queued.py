"""An application whose dispatcher has nothing driven, as if its queue were paused: a worker drives its runs."""

from __future__ import annotations

import asyncio
from datetime import datetime

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run


class Nobody:
    """A dispatcher that wakes nobody."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


flows = Flows(FirestoreFlowStateStore(), dispatcher=Nobody())


@flows.flow
async def ask(run: Run) -> bool:
    return await run.interrupt("ok", bool)


@flows.flow
async def naps(run: Run, number: int) -> None:
    """Take so many steps, each of a tenth of a second."""
    for _ in range(number):
        await run.step("nap", asyncio.sleep, 0.1)
