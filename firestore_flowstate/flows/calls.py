"""What happens before an operation of a run: which scope calls it, in which task, and whether it may still begin."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .context import HERE
from .keys import Scope

if TYPE_CHECKING:
    from .driving import Drive

_PATIENT_CALLS: Final = 20
"""From the 20th call after the end on, calls wait for ever; the ones before raise CancelledError. A function that
swallows CancelledError in a loop would otherwise keep a processor busy."""


class Called(NamedTuple):
    """A call of an operation: its key is counted, and it has not been awaited yet.

    Attributes:
        drive: The drive that the call is a part of.
        scope: The scope that the call was made in.
        is_foreign: Whether the call was made in another task than the one that the scope's function runs in.
        is_late: Whether the drive is over, and the function has used the run too often since.
    """

    drive: Drive
    scope: Scope
    is_foreign: bool
    is_late: bool

    async def begin(self) -> None:
        """Begin the operation, now that the call is awaited.

        Raises:
            CancelledError: The drive is over.
        """
        if self.is_late:
            await self.drive.park_for_ever()
        if self.drive.is_over:
            raise asyncio.CancelledError
        if asyncio.current_task(self.drive.loop) is not self.scope.task:
            _branch(self.drive, self.scope)
        self.drive.gate.touch()


def call(drive: Drive) -> Called:
    """Note a call of an operation.

    Raises:
        RuntimeError: The call comes from another thread or loop, or from a step that has ended.
        CancelledError: The drive is over.
    """
    _check_loop(drive)
    is_over = drive.is_over
    if is_over:
        drive.late_calls += 1
        if drive.late_calls < _PATIENT_CALLS:
            raise asyncio.CancelledError
    here = HERE.get()
    scope = here.scope if here is not None and here.run.id == drive.id else drive.scope
    if scope.is_over and not is_over:
        raise RuntimeError(
            f"the step {scope.key!r} of the run {drive.id!r} has ended, and a task that it left behind uses the run: "
            "await it in the step"
        )
    foreign = asyncio.current_task(drive.loop) is not scope.task
    if foreign or not scope.straight:
        _branch(drive, scope)
    drive.gate.touch()
    return Called(drive, scope, foreign, drive.late_calls >= _PATIENT_CALLS)  # by position: half the time


def _branch(drive: Drive, scope: Scope) -> None:
    """Note that operations of the scope, and so of the run, may overlap."""
    scope.straight = False
    drive.gate.straight = False


def _check_loop(drive: Drive) -> None:
    try:
        loop: Any = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is not drive.loop:
        raise RuntimeError(
            f"an operation of the run {drive.id!r} was called from another thread or event loop: in a synchronous step "
            "only id, name, log, progress and current_step() work"
        )
