"""Checkpoints: one writer per drive, group commit, and the fence that keeps a stale driver from recording.

A result is stored before the next step begins, and before the run is suspended or ends. Else its commit begins 10 ms
after it came and some passes of the loop later, or when one that is under way has ended. Results that come together go
into one commit. Each write is on top of the version of the write before. If it meets a conflict, or its outcome is
unknown, the run is loaded, and its record decides:

- The owner is our token: what is in hand is written again, on top of the version that was loaded.
- There is no owner, and `last` is our token: a final write of ours was committed, the one that says the same.
- Anything else: the lease is lost, and this drive writes nothing more.

"In hand" is what is not known to be stored: what waits for a commit, and what the commit under way has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from typing import Final as Constant

from firestore_flowstate import (
    BackendError,
    CacheEntry,
    FlowState,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateNotFoundError,
)

from .batch import Batch, changes_of, unstorable_key
from .carrying import carried
from .engine import Engine
from .final import DriveOutcome, Final
from .gate import PASSES
from .image import Image
from .lease import Lease
from .listener import Listener
from .record import inbox_of, record_of, wake_at

COMMIT_SECONDS: Constant = 0.010
"""How long a result may wait for others, to be committed with them."""
SHOW_SECONDS: Constant = 1.0
"""How long progress and new waits may wait for a commit: no step depends on them."""
PATIENCE_SECONDS: Constant = 600.0
"""How long a commit is tried while Firestore cannot be reached and no other owner has been seen."""

_FIRST_PAUSE_SECONDS: Constant = 0.05
_LAST_PAUSE_SECONDS: Constant = 2.0
"""Pauses between tries double from the first to the last."""


class Checkpoint:
    """The writer of one drive.

    Attributes:
        outcome: How the drive ended, when its final write is committed or its lease is lost; None before.
        final: The final write, when it is committed; None before.
        results: How many results this drive has stored.
    """

    def __init__(self, engine: Engine, image: Image, token: str, lease: Lease, listener: Listener) -> None:
        self._engine = engine
        self._image = image
        self._token = token
        self._lease = lease
        self._listener = listener
        self._waiting = Batch()
        self._in_commit = Batch()
        self._lock = asyncio.Lock()
        self._committing: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0
        self._tried: list[Final] = []  # final writes, each of which may have been committed, or may be yet
        self.outcome: DriveOutcome | None = None
        self.final: Final | None = None
        self.results = 0

    # What is to be written

    def note(self, key: str, entry: CacheEntry) -> None:
        """Have the entry written with the next commit, which is due in 10 ms if nothing needs it before."""
        self._waiting.entries[key] = entry
        self._arm(COMMIT_SECONDS)

    def note_record(self, *, needed: bool) -> None:
        """Have the record written: before the next step begins if that is needed, else within a second."""
        self._waiting.record = True
        self._waiting.needed = self._waiting.needed or needed
        self._arm(COMMIT_SECONDS if needed else SHOW_SECONDS)

    def note_progress(self, progress: Mapping[str, Any]) -> None:
        """Have these scalars written beside the state, within a second."""
        self._waiting.progress.update(progress)
        self._arm(SHOW_SECONDS)

    def entry(self, key: str) -> CacheEntry | None:
        """Return the entry of the key, stored or in hand; None: there is none."""
        for batch in (self._waiting, self._in_commit):
            if batch.entries and (entry := batch.entries.get(key)) is not None:
                return entry
        return self._image.cache.get(key)

    def entries(self) -> Mapping[str, CacheEntry]:
        """Return all entries, stored or in hand, by key."""
        return {**self._image.cache, **self._in_commit.entries, **self._waiting.entries}

    def is_durable(self, key: str) -> bool:
        """Return whether the entry of the key is stored."""
        return key not in self._waiting.entries and key not in self._in_commit.entries

    def replace(self, key: str, entry: CacheEntry) -> None:
        """Put another entry in the place of one that is in hand."""
        batch = self._in_commit if key in self._in_commit.entries else self._waiting
        batch.entries[key] = entry

    @property
    def has_results(self) -> bool:
        """Whether something in hand must be stored before the next step begins."""
        return self._waiting.is_needed or self._in_commit.is_needed

    @property
    def is_busy(self) -> bool:
        """Whether a commit is under way, or something in hand must be stored before the next step begins."""
        return self.has_results or (self._committing is not None and not self._committing.done())

    # Writing it

    async def flush(self) -> None:
        """Return when every result in hand is stored. When the drive is over this does not return."""
        while self.has_results:
            await self.commit()

    async def commit(self) -> None:
        """Write what is in hand, and extend the lease if half of it is used.

        If a commit is under way, this awaits that one: then look again whether anything is left in hand. When the drive
        is over this does not return: the task waits until the drive cancels it.
        """
        if self._committing is None or self._committing.done():
            self._start(None)
        await self._settle()
        if self.outcome is not None:
            await self._listener.park()

    async def finish(self, final: Callable[[], Final | None] | None) -> bool:
        """Write all that is in hand and the end of the drive in one commit; return whether the drive is over.

        Args:
            final: Called before each try; returns how the drive ends, or None if it does not end after all. None in
                place of the function: write what is in hand, without an end.
        """
        while self._committing is not None and not self._committing.done():
            await self._settle()
        if self.outcome is None:
            self._start(final)
            await self._settle()
        return self.outcome is not None

    async def save(self) -> None:
        """Write what is in hand, if the lease is still ours."""
        await self.finish(None)

    async def look(self) -> None:
        """Load the run, since somebody in this process has written to it."""
        async with self._lock:
            if self.outcome is None:
                await self._rebase(by=self._engine.clock.monotonic() + PATIENCE_SECONDS)

    def abandon(self, outcome: DriveOutcome = "busy") -> None:
        """Write nothing more, and let the lease end by itself."""
        self.outcome = self.outcome or outcome
        self._disarm()
        self._listener.over()

    def _start(self, final: Callable[[], Final | None] | None) -> None:
        waiters: list[asyncio.Future[None]] = []
        self._waiters = waiters
        self._committing = carried(lambda: self._write(final), waiters)

    async def _settle(self) -> None:
        """Return when the commit that is under way has ended. If this is cancelled, the commit goes on."""
        if self._committing is not None and self._committing.done():  # an eager task may have ended within its creation
            self._committing.result()
        else:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _arm(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due_at = loop.time() + seconds
        if self.outcome is not None or (self._timer is not None and self._due_at <= due_at):
            return
        self._disarm()
        self._due_at = due_at
        self._timer = loop.call_later(seconds, self._on_time)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        self._soon(PASSES)

    def _soon(self, passes: int) -> None:
        """Begin a commit after so many passes of the loop.

        If the loop was late, results that are about to come in these passes go into the same commit.
        """
        if passes:
            asyncio.get_running_loop().call_soon(self._soon, passes - 1)
        elif self._committing is not None and not self._committing.done():
            self._committing.add_done_callback(lambda _: self._soon(0))
        elif self.outcome is None and not self._waiting.is_empty:
            self._start(None)

    async def _write(self, final: Callable[[], Final | None] | None) -> None:
        """Try until the write is committed, the lease is lost, or `final` says that the drive does not end."""
        async with self._lock:
            by, pause = self._engine.clock.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
            was_unstorable = False
            while self.outcome is None:
                if self._engine.clock.monotonic() > by:
                    self.abandon()
                    return
                self._take()
                if final is None and self._in_commit.is_empty and not self._lease.is_half_used:
                    return
                ending = final() if final is not None else None
                if final is not None and ending is None:
                    self._put_back()
                    return
                try:
                    await self._send(ending)
                except FlowStateEncodeError as error:
                    in_hand = self._in_commit.size
                    final = self._unstorable(error)
                    if was_unstorable and self._in_commit.size == in_hand:
                        # The stored state itself leaves no room for the end: load it again, in case somebody has made
                        # it smaller. The pause lets other tasks of this loop go on.
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, _LAST_PAUSE_SECONDS)
                        await self._rebase(by=by)
                    was_unstorable = True
                except (FlowStateConflictError, FlowStateNotFoundError):
                    await self._rebase(by=by)
                except BackendError as error:
                    if type(error) is BackendError and not self._in_commit.is_empty:  # refused: another try is as well
                        final = self._unstorable(FlowStateEncodeError(str(error)))
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LAST_PAUSE_SECONDS)
                    await self._rebase(by=by)
                else:
                    return

    def _take(self) -> None:
        self._disarm()
        self._in_commit.add(self._waiting)
        self._waiting = Batch()

    def _put_back(self) -> None:
        self._in_commit.add(self._waiting)
        self._waiting, self._in_commit = self._in_commit, Batch()
        if not self._waiting.is_empty:
            self._arm(COMMIT_SECONDS)

    async def _send(self, ending: Final | None) -> None:
        batch, image, lease = self._in_commit, self._image, self._lease
        if image.record.recoveries and batch.results(image):
            image.record.recoveries, batch.record = 0, True
        until = self._engine.clock.now() + lease.length
        extends = ending is None and (lease.is_half_used or batch.everything)
        changes = changes_of(batch, image, ending, now=self._engine.clock.now(), until=until if extends else None)
        sent_at = self._engine.clock.monotonic()
        if ending is not None:
            self._tried.append(ending)
        image.version = await self._engine.store.update(image.id, if_version=image.version, **changes)
        seconds = self._engine.clock.monotonic() - sent_at
        self._engine.telemetry.event("checkpoint", name=image.name, seconds=seconds)
        if extends:
            lease.extended(until, sent_at)
        self._committed(ending)

    def _committed(self, ending: Final | None) -> None:
        self.results += self._in_commit.results(self._image)
        self._image.cache.update(self._in_commit.entries)
        self._in_commit = Batch()
        if ending is not None:
            self.outcome, self.final = ending.outcome, ending
            self._disarm()
            self._listener.over()

    def _unstorable(self, error: FlowStateEncodeError) -> Callable[[], Final]:
        """Take the entry or scalar that cannot be stored out of the commit; return what gives the run's last write."""
        key = unstorable_key(error, self._in_commit)
        if key is not None and self._in_commit.entries.pop(key, None) is None:
            self._in_commit.progress.pop(key, None)
        return self._listener.unstorable(key, error)

    async def _rebase(self, *, by: float) -> None:
        """Load the run; if it is still ours, let the next write be on top of the version that was loaded."""
        loaded, state = await self._load(by=by)
        if not loaded or self.outcome is not None:
            self.abandon()
        elif state is None:
            self.abandon("missing")
        else:
            self._compare(state)

    async def _load(self, *, by: float) -> tuple[bool, FlowState | None]:
        pause = _FIRST_PAUSE_SECONDS
        while self._engine.clock.monotonic() < by:
            try:
                return True, await self._engine.store.load(self._image.id)
            except (BackendError, FlowStateDecodeError):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_PAUSE_SECONDS)
        return False, None

    def _compare(self, state: FlowState) -> None:
        stored = record_of(state)
        if stored.owner is None and stored.last == self._token and (final := self._stored_final(state)) is not None:
            self._committed(final)
        elif stored.owner != self._token:
            self._engine.telemetry.event("lease.lost", name=self._image.name)
            self.abandon()
        else:
            self._take_over(state)

    def _stored_final(self, state: FlowState) -> Final | None:
        """Return the final write that is stored: one whose reply was lost may land when another one is tried already.

        An answer may have changed the wake time since.
        """
        ended = record_of(state).ended
        tried = [final for final in self._tried if final.record.ended == ended]
        exact = [final for final in tried if final.wake == wake_at(state)]
        return next(reversed(exact or tried), None)

    def _take_over(self, state: FlowState) -> None:
        """Take the version, the inbox and new answers from the stored state; all else stays as this drive has it."""
        image = self._image
        assert state.version is not None  # noqa: S101  # it was loaded
        image.version, image.sorts_keys = state.version, state.sorts_keys
        if missing := image.lost(state.cache):
            self._in_commit.entries = {**missing, **self._in_commit.entries}
        if missing or self._in_commit.entries or wake_at(state) != self._lease.until:
            self._in_commit.everything = True
        inbox, cancel_before = inbox_of(state), image.inbox.cancel
        image.inbox = inbox
        # A child that was retried and has ended once more knocks under the same key, with another value.
        answers = {
            key: value
            for key, value in state.events_triggered.items()
            if key not in image.events or value != image.events[key]
        }
        image.events.update(answers)
        if answers:
            self._listener.answered(answers)
        if inbox.cancel is not None and cancel_before is None:
            self._listener.cancelled(inbox.cancel)
