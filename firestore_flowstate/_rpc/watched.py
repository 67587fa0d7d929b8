"""Watching: targets of Listen with their documents as the server tells them, and who waits on its own loop for them.

https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#listenrequest
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from ..errors import BackendError, DeadlineError
from .deadline import Deadline, sleep
from .loop_thread import call_threadsafe
from .messages import Document, Target
from .outcome import CallFailed, read_again

_ATTEMPT_SECONDS: Final = 30.0  # in which a target must be put on a new stream, after its stream was lost
_FIRST_PAUSE: Final = 0.1  # seconds before that is tried again; each further pause is twice as long
_LONGEST_PAUSE: Final = 2.0  # seconds: a server that comes back is noticed after that time at most

Versions: TypeAlias = Mapping[str, int]
"""When each document was last written, in nanoseconds since 1970, by its name."""


def versions_of(documents: Iterable[Document]) -> Versions:
    """Return the versions of documents."""
    return {document.name: document.update_time.ToNanoseconds() for document in documents}


class Watched:
    """A target that somebody watches. It is changed on the loop of its stream alone, and read from any thread.

    Args:
        target: The target, with its documents or its query and without an id.
        notify: Tells the watcher to look at `latest`, `failure` and `is_lost`; returns whether the watcher is still
            there. All targets of a watcher have the same function, so that it sees at once all that have changed in one
            moment.

    Attributes:
        latest: The documents as of one moment, replaced whole; None until the first answer.
        count: How often `latest` was replaced.
        failure: The failure that ended the watching; None while it goes on.
        trouble: The last failure of its stream since the server last sent something of it; None if there was none.
        attempts: How often the stream has failed since then.
        is_lost: Whether its stream has gone with its channel, so that it needs another.
        is_current: Whether the server has sent everything up to some moment.
        token: The resume token, from which a stream may go on; empty if it must begin anew.
        anew: How often its stream had to ask for everything again, with less than 10 s in between.
        asked_anew: When it last did, by `monotonic`.
    """

    def __init__(self, target: Target, notify: Callable[[], bool]) -> None:
        self.target = target
        self.notify = notify
        self.latest: Sequence[Document] | None = None
        self.count = 0
        self.failure: CallFailed | None = None
        self.trouble: CallFailed | None = None
        self.attempts = 0
        self.is_lost = True
        self.is_current = False
        self.token = b""
        self.anew = 0
        self.asked_anew = -math.inf
        self._documents: dict[str, Document] = {}
        self._has_changed = True

    @property
    def size(self) -> int:
        """How many documents it has."""
        return len(self._documents)

    @property
    def versions(self) -> Versions | None:
        """The versions of the documents that it has; None until the server has sent all of them."""
        return versions_of(self._documents.values()) if self.is_current else None

    def begin(self) -> None:
        """Note that it begins on another stream. The server sends what has changed since the token, or everything."""
        self.is_current = False
        if not self.token:
            self.reset()

    def reset(self) -> None:
        """Forget the documents, since the server sends all of them again. `latest` stays until it has.

        The token is forgotten too: on a stream that goes on from it the server would send changes alone.
        """
        self._documents.clear()
        self.token = b""
        self.is_current = False
        self._has_changed = True

    def set(self, document: Document) -> None:
        """Add a document, or replace it by a later version."""
        self._documents[document.name] = document
        self._has_changed = True

    def remove(self, name: str) -> None:
        """Remove a document that was deleted, or that the query does not match any more."""
        if self._documents.pop(name, None) is not None:
            self._has_changed = True

    def current(self) -> None:
        """Note that the server has sent everything up to some moment."""
        self.is_current = True
        self.trouble, self.attempts = None, 0

    def show(self) -> bool:
        """Put the documents into `latest`, if they have changed; return whether the watcher is to be notified."""
        if not self.is_current or not self._has_changed:
            return False
        self._has_changed = False
        self.latest = tuple(self._documents.values())
        self.count += 1
        return True

    def note(self, trouble: CallFailed) -> None:
        """Note that its stream has failed, and is opened again."""
        self.trouble = trouble.with_traceback(None)  # it may be kept for long, and would keep the frames
        self.attempts += 1

    def fail(self, failure: CallFailed) -> None:
        """End the watching with this failure."""
        self.failure = failure
        self.notify()

    def lose(self) -> None:
        """Note that the stream has gone, and notify the watcher, which asks for another."""
        self.is_lost = True
        self.notify()


class Watchable(Protocol):
    """What puts targets on streams: a connection."""

    async def watch_on(self, watched: Watched, deadline: Deadline) -> Callable[[], object]:
        """Put a target on a stream of this process; return the function that takes it off."""

    def failure_of_watching(self, failure: CallFailed) -> BackendError:
        """Return the public error of a target that cannot be watched any more."""

    def unanswered_watching(self, attempts: int, failure: CallFailed | None, deadline: Deadline) -> DeadlineError:
        """Return the public error of a target whose first answer did not come in time."""


class Watching:
    """The documents of some targets, each as of one moment. It is used on the loop that it is made on, then ended.

    It holds the last documents that it was shown, and no earlier ones, however long its user takes. No stream has a
    reference to it, so that it ends if its user drops it.
    """

    def __init__(self, connection: Watchable, targets: Sequence[Target]) -> None:
        self._off: dict[Watched, Callable[[], object]] = {}
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        wake = _waker_of(self)
        self._watched = [Watched(target, wake) for target in targets]
        # How often `latest` of the targets was replaced, and what it is.
        self._latest: tuple[int, Sequence[Sequence[Document] | None]] = (0, [])
        self._seen = 0

    def __del__(self) -> None:
        self.end()

    async def next(
        self, *, seconds: float | None = None, deadline: Deadline | None = None
    ) -> Sequence[Sequence[Document]] | None:
        """Return the documents of each target, as soon as they differ from those that were returned last.

        Args:
            seconds: How long to wait before None is returned; None: for ever.
            deadline: When to fail, as the first answer must; None: never.

        Returns:
            The documents of each target, in no particular order; None if the seconds have passed first.

        Raises:
            BackendError: The targets cannot be watched any more, or the deadline has passed.
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
        """Take what the targets show, and wake whoever waits; return whether its loop is still open.

        To be called on the loop of the streams, on which alone the targets change.
        """
        self._latest = (sum(w.count for w in self._watched), [w.latest for w in self._watched])
        return call_threadsafe(self._loop, self._woken.set)

    def _shown(self) -> Sequence[Sequence[Document]] | None:
        """Return what the targets show, if all have been answered and one has changed since the last time.

        Raises:
            BackendError: The watching of one has ended with a failure.
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
        """Put the targets on streams that are on none."""
        for watched in self._watched:
            if watched.is_lost:
                self._off[watched] = await self._connection.watch_on(watched, deadline)


def _waker_of(watching: Watching) -> Callable[[], bool]:
    """Return a function that wakes the watcher, without a reference that keeps it."""
    reference = weakref.ref(watching)

    def wake() -> bool:
        found = reference()
        return found is not None and found.wake()

    return wake
