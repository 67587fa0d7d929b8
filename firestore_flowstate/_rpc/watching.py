"""The watcher's side of a target of Listen: waits on its own loop for what a stream on any loop shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ..errors import DeadlineError
from .clock import sleep
from .deadline import Deadline
from .loop_thread import from_afar
from .outcome import CallFailed
from .retry import read_again
from .watched import Watched

if TYPE_CHECKING:
    from .connection import Connection
    from .messages import Document, Target

_ATTEMPT_SECONDS: Final = 30.0  # for a stream to be asked for, after another was lost
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class Watching:
    """The documents of some targets, each as of one moment. To be used on the loop that it is made on, and ended.

    It holds the last of what it was shown, and nothing else, however long its user takes.
    """

    def __init__(self, connection: Connection, targets: Sequence[Target]) -> None:
        self._connection = connection
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._watched = [Watched(target, self._wake) for target in targets]
        self._off: dict[Watched, Callable[[], object]] = {}
        self._seen = 0
        self._is_over = False

    async def next(
        self, *, seconds: float | None = None, deadline: Deadline | None = None
    ) -> Sequence[Sequence[Document]] | None:
        """Return the documents of each target once they are others than those returned before.

        Args:
            seconds: How long to wait; None: for ever.
            deadline: Fail with it, as for the first answer.

        Returns:
            The documents of each target, in no order; None where the time was up first.

        Raises:
            BackendError: They cannot be watched any more, or the deadline has passed.
        """
        until = None if seconds is None else Deadline.after(seconds)
        pause = _FIRST_PAUSE
        while True:
            self._woken.clear()
            if (documents := self._shown()) is not None:
                return documents
            try:
                await self._ask(deadline or Deadline.after(_ATTEMPT_SECONDS))
            except CallFailed as failed:
                if not read_again(failed):
                    raise self._connection.failure_of_watching(failed) from failed
                await sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            if deadline is not None and deadline.remaining() <= 0:
                raise DeadlineError(
                    f"Listen did not answer within {deadline.allowed:g} s: Firestore cannot be reached. Retry, or look "
                    "at the network"
                )
            if until is not None and until.remaining() <= 0:
                return None
            left = [end.remaining() for end in (until, deadline) if end is not None]
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), min(left, default=None))

    def end(self) -> None:
        """Take the targets off their streams."""
        self._is_over = True
        for off in self._off.values():
            off()
        self._off.clear()

    def _shown(self) -> Sequence[Sequence[Document]] | None:
        """Return what the targets show, if all have answered and one has since the last time.

        Raises:
            BackendError: One has failed for good.
        """
        for watched in self._watched:
            if watched.failure is not None:
                raise self._connection.failure_of_watching(watched.failure)
        count = sum(watched.count for watched in self._watched)
        latest = [watched.latest for watched in self._watched]
        if count == self._seen or None in latest:
            return None
        self._seen = count
        return [documents for documents in latest if documents is not None]

    async def _ask(self, deadline: Deadline) -> None:
        """Put the targets on streams that have none, or none any more."""
        for watched in self._watched:
            if watched.is_lost:
                self._off[watched] = await self._connection.watch_on(watched, deadline)

    def _wake(self) -> bool:
        return not self._is_over and from_afar(self._loop, self._woken.set)
