"""The watcher's side of a target of Listen: waits on its own loop for what a stream on any loop shows."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from .deadline import Deadline, sleep
from .loop_thread import call_threadsafe
from .messages import Document, Target
from .outcome import CallFailed, read_again
from .watched import Watched

if TYPE_CHECKING:
    from .connection import Connection

_ATTEMPT_SECONDS: Final = 30.0  # for a stream to be asked for, after another was lost
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class Watching:
    """The documents of some targets, each as of one moment. To be used on the loop that it is made on, and ended.

    It holds the last of what it was shown, and nothing else, however long its user takes. No stream holds it: if it is
    dropped it ends.
    """

    def __init__(self, connection: Connection, targets: Sequence[Target]) -> None:
        self._off: dict[Watched, Callable[[], object]] = {}
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        wake = _waker_of(self)
        self._watched = [Watched(target, wake) for target in targets]
        self._latest: tuple[int, Sequence[Sequence[Document] | None]] = (0, [])  # with how often that was replaced
        self._seen = 0

    def __del__(self) -> None:
        self.end()

    async def next(
        self, *, seconds: float | None = None, deadline: Deadline | None = None
    ) -> Sequence[Sequence[Document]] | None:
        """Return the documents of each target once they are others than those returned before.

        Args:
            seconds: How long to wait; None: for ever.
            deadline: Fail with it, as for the first answer.

        Returns:
            The documents of each target, in no order; None if the time was up first.

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
                attempts, trouble = max(((w.attempts, w.trouble) for w in self._watched), key=lambda one: one[0])
                raise self._connection.unanswered_watching(attempts, trouble, deadline) from trouble
            if until is not None and until.remaining() <= 0:
                return None
            left = [end.remaining() for end in (until, deadline) if end is not None]
            await self._wait(min(left, default=None))

    async def _wait(self, seconds: float | None) -> None:
        """Wait to be woken, for some seconds at most, also if the loop's timers are frozen."""
        if seconds is None:
            await self._woken.wait()
            return
        ends = [asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(sleep(max(seconds, 0.0)))]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    def end(self) -> None:
        """Take the targets off their streams. May be called on any thread."""
        off, self._off = self._off, {}
        for take_off in off.values():
            take_off()

    def wake(self) -> bool:
        """Take what the targets show, and wake whoever waits; return whether its loop is still there.

        To be called on the loop of the streams, where nothing changes meanwhile.
        """
        self._latest = (sum(w.count for w in self._watched), [w.latest for w in self._watched])
        return call_threadsafe(self._loop, self._woken.set)

    def _shown(self) -> Sequence[Sequence[Document]] | None:
        """Return what the targets show, if all have answered and one has since the last time.

        Raises:
            BackendError: One has failed for good.
        """
        for watched in self._watched:
            if watched.failure is not None:
                raise self._connection.failure_of_watching(watched.failure) from watched.failure
        count, latest = self._latest
        shown = [documents for documents in latest if documents is not None]
        if count == self._seen or len(shown) < len(latest):
            return None
        self._seen = count
        return shown

    async def _ask(self, deadline: Deadline) -> None:
        """Put the targets on streams that have none, or none any more."""
        for watched in self._watched:
            if watched.is_lost:
                self._off[watched] = await self._connection.watch_on(watched, deadline)


def _waker_of(watching: Watching) -> Callable[[], bool]:
    """Return what wakes the watcher, for as long as somebody has it."""
    reference = weakref.ref(watching)

    def wake() -> bool:
        found = reference()
        return found is not None and found.wake()

    return wake
