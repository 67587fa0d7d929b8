"""The block of `edit`: the state is loaded when it begins, and what was changed is written when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeAlias

from typing_extensions import override

from .errors import FlowStateError
from .models import FlowState

Begun: TypeAlias = tuple[FlowState, Callable[[], Awaitable[None]]]
"""A state that was loaded to be changed, and what writes the changes."""


class EditBlock(AbstractAsyncContextManager[FlowState]):
    """Loads a state, and writes it unless the block raises.

    An asynchronous generator would not do: an event loop that ends closes those that are open. If the block is left on
    another loop then, its generator has ended already, and Python takes that as if all had been written.

    Args:
        id: The flow state.
        begin: Loads it.
    """

    def __init__(self, id: str, begin: Callable[[], Awaitable[Begun]]) -> None:
        self._id = id
        self._begin = begin
        self._loop: asyncio.AbstractEventLoop | None = None
        self._write: Callable[[], Awaitable[None]] | None = None

    @override
    async def __aenter__(self) -> FlowState:
        if self._loop is not None:
            raise RuntimeError("one call of edit() is for one block: call edit() for each")
        self._loop = asyncio.get_running_loop()
        state, self._write = await self._begin()
        return state

    @override
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        write, self._write = self._write, None
        if error is not None or write is None:
            return
        if asyncio.get_running_loop() is not self._loop:
            raise FlowStateError(
                f"The edit of the flow state {self._id!r} began on another event loop than it ends on. Nothing was "
                "written: enter and leave edit() on one loop, or use SyncFlowStateStore.",
                flow_id=self._id,
            )
        await write()
