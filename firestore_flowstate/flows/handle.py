"""The handle of a run: what code outside of the flow asks of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from firestore_flowstate import FlowState

from .arguments import check_id

if TYPE_CHECKING:
    from .flows import Flows

Result = TypeVar("Result", covariant=True)  # the public names have no suffix


class FlowHandle(Generic[Result]):
    """A run as code outside of the flow sees it.

    A handle holds the id alone: any number of handles of one run may be made, in any process.

    ::

        handle = flows.handle("order-17")
        state = await handle.state()

    Attributes:
        id: The id of the run.
    """

    def __init__(self, flows: Flows, id: str) -> None:
        check_id(id)
        self.id = id
        self._flows = flows

    def __repr__(self) -> str:
        return f"FlowHandle({self.id!r})"

    async def state(self) -> FlowState | None:
        """Return the state of the run as it is stored, or None if there is none."""
        return await self._flows.store.load(self.id)

    async def result(self, *, timeout: timedelta | float | None = None) -> Result:
        """Wait until the run has ended, and return what it returned.

        Args:
            timeout: How long to wait, as a timedelta or in seconds; 0: look once; None: for ever.

        Raises:
            FlowFailedError: The run failed.
            FlowCancelledError: The run was cancelled.
            TimeoutError: The run has not ended in time. It goes on.
            FlowStateNotFoundError: There is no such run.
        """
        result: Result = await self._flows.result(self.id, timeout=timeout)
        return result

    async def resume(self, payload: Any = None, *, step: str | None = None, key: str | None = None) -> None:
        """Answer the run; see `Flows.resume`."""
        await self._flows.resume(self.id, payload, step=step, key=key)

    async def cancel(self, reason: str = "") -> None:
        """Cancel the run; see `Flows.cancel`."""
        await self._flows.cancel(self.id, reason)

    async def retry(self, *, from_step: str | None = None) -> None:
        """Retry the run; see `Flows.retry`."""
        await self._flows.retry(self.id, from_step=from_step)

    def watch(self) -> AsyncIterator[FlowState]:
        """Yield the state now and after each change; the last one is that of the ended run.

        ::

            async for state in flows.handle("done-17").watch():
                print(state.status)

        Raises:
            FlowStateNotFoundError: There is no such run, or it was deleted meanwhile.
        """
        return self._flows._watch(self.id)
