"""Looking for runs whose wake time has passed: a sweep dispatches them, a worker drives them itself."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from zlib import crc32

from firestore_flowstate import BackendError, FlowStateError, FlowStateSummary

from .closing import end_in_time
from .dispatch.wake_names import sweep_name
from .engine import LOG, Engine
from .final import DriveOutcome
from .lease import Claim
from .record import wake_in
from .releasing import release
from .running import drive_claimed, take

_OVERDUE_MILLISECONDS: Final = 10_000
"""A sweep leaves what has been due for less than this to the dispatcher, whose call may be on its way."""
_DISPATCHED_AT_ONCE: Final = 8
"""How many tasks a sweep makes at a time: Google says that tasks with names take significantly longer to be made."""
_PAGE: Final = 300
"""How many summaries one query reads."""
_PASSED_OVER_SECONDS: Final = 10.0
"""How long a worker leaves a run alone that it could not claim, if nobody moves it: the dispatcher has been told when
that is possible."""
_CLAIMING: Final = 4
"""A worker claims at most a quarter of what it may drive at a time: others may be about to claim the same runs."""


async def sweep(engine: Engine, limit: int) -> int:
    """Dispatch the runs that have been due for 10 s and whose flow this process knows; return how many there were."""
    now = engine.clock.now()
    count = 0
    waiting: list[FlowStateSummary] = []

    async def dispatch(summary: FlowStateSummary) -> None:
        wake = wake_in(summary.extra)
        await engine.dispatcher.dispatch(summary.id, wake=sweep_name(now if wake is None else wake, now=now))

    async def dispatch_all() -> None:
        outcomes = await asyncio.gather(*map(dispatch, waiting), return_exceptions=True)
        failed = [(each, error) for each, error in zip(waiting, outcomes, strict=True) if error is not None]
        waiting.clear()
        for summary, error in failed[1:]:
            LOG.warning("The run %r is not dispatched: %s", summary.id, error)
        for _, error in failed[:1]:
            raise error

    try:
        async for summary in _due(engine, now - _OVERDUE_MILLISECONDS):
            waiting.append(summary)
            count += 1
            if len(waiting) == _DISPATCHED_AT_ONCE:
                await dispatch_all()
            if count >= limit:
                break
    except FlowStateError:
        await dispatch_all()  # what was found before a page that cannot be read
        raise
    await dispatch_all()
    return count


async def _due(engine: Engine, before: int) -> AsyncIterator[FlowStateSummary]:
    """Yield the runs that were due at `before`, in milliseconds since the epoch, and whose flow this process knows.

    It reads page after page, so that runs which nobody here can drive delay no others.
    """
    after: FlowStateSummary | None = None
    while True:
        summaries = await engine.store.due(before, limit=_PAGE, after=after)
        for summary in summaries:
            if summary.name in engine.flows:
                yield summary
        if len(summaries) < _PAGE:
            return
        after = summaries[-1]


class _Found(NamedTuple):
    """A run that is due, and its ``wakeAt`` then, in milliseconds since the epoch; None: it has none."""

    id: str
    wake: int | None


@asynccontextmanager
async def worker(engine: Engine, *, at_once: int, poll: float) -> AsyncIterator[None]:
    """Drive the runs that are due, for as long as the context is held open; see `Worker`."""
    working = asyncio.ensure_future(Worker(engine, at_once=at_once, poll=poll).work())
    engine.workers += 1
    try:
        yield
    finally:
        engine.workers -= 1
        working.cancel()
        await asyncio.wait([working])


class Worker:
    """Drives the runs that are due in this process, some at a time.

    Several workers see the same runs. So that they do not all claim the same one, each worker has a place on a ring of
    all ids, and takes the runs that are due from there onwards. When it meets a run that another worker has claimed, it
    goes to another place, and claims fewer runs at a time, down to one: there may be few left for all workers.

    Args:
        engine: What all drives share.
        at_once: How many runs it drives at a time.
        poll: Seconds between two looks when nothing is due.
    """

    def __init__(self, engine: Engine, *, at_once: int, poll: float) -> None:
        self._engine = engine
        self._at_once = at_once
        self._poll = poll
        self._drives: dict[str, asyncio.Task[None]] = {}
        self._claims = 0
        self._most_claims = float(max(1, at_once // _CLAIMING))
        self._place = random.random()  # noqa: S311  # spreads load, guards nothing
        self._next: deque[_Found] = deque()
        self._taken = 0
        self._passed_over: dict[_Found, float] = {}
        self._is_free = asyncio.Event()
        self._is_closing = False

    async def work(self) -> None:
        """Look and drive until cancelled; then hand over what is driven."""
        try:
            await asyncio.sleep(random.uniform(0, self._poll))  # noqa: S311  # as above
            while True:
                if self._engine.is_closing:  # what is driven here is handed over, and nothing more is claimed
                    self._next.clear()
                try:
                    if not self._next and not self._engine.is_closing:
                        self._next = await self._look()
                except FlowStateError as error:
                    LOG.warning("The worker cannot read which runs are due, and tries again: %s", error)
                if not self._next:
                    await asyncio.sleep(self._poll)
                while self._next and not self._engine.is_closing:
                    if len(self._drives) < self._at_once and self._claims < self._most_claims:
                        self._begin(self._next.popleft())
                    else:
                        self._is_free.clear()
                        await self._is_free.wait()
        finally:
            await self._end()

    async def _look(self) -> deque[_Found]:
        """Return the runs that are due, in the order of the ring from this worker's place."""
        now = self._engine.clock.monotonic()
        self._passed_over = {each: until for each, until in self._passed_over.items() if until > now}
        self._taken = 0
        found: list[_Found] = []
        async for summary in _due(self._engine, self._engine.clock.now()):
            id = summary.id
            each = _Found(id, wake_in(summary.extra))
            if id not in self._drives and self._engine.driven(id) is None and each not in self._passed_over:
                found.append(each)
            if len(found) >= _PAGE:
                break
        return deque(sorted(found, key=self._distance))

    def _distance(self, found: _Found) -> float:
        return (crc32(found.id.encode()) / 2**32 - self._place) % 1

    def _begin(self, found: _Found) -> None:
        task = asyncio.ensure_future(self._drive(found))
        self._drives[found.id] = task
        self._claims += 1
        task.add_done_callback(lambda _: self._ended(found.id))

    def _ended(self, id: str) -> None:
        self._drives.pop(id, None)
        self._is_free.set()

    async def _drive(self, found: _Found) -> None:
        id = found.id
        try:
            taken = await self._take(found)
            if isinstance(taken, Claim):
                await (release if self._is_closing else drive_claimed)(self._engine, taken)
        except BackendError as error:
            LOG.warning("The run %r cannot be driven now: %s", id, error)
        except FlowStateError:
            LOG.exception("The run %r cannot be driven.", id)

    async def _take(self, found: _Found) -> Claim | DriveOutcome | None:
        taken = None
        try:
            with self._engine.claims(found.id):
                taken = await take(self._engine, found.id)
        finally:
            self._claims -= 1
            self._is_free.set()
            if isinstance(taken, Claim):
                self._taken += 1
                self._most_claims = min(self._most_claims + 0.25, max(1, self._at_once // _CLAIMING))
            else:
                self._go_elsewhere(found)
        return taken

    def _go_elsewhere(self, found: _Found) -> None:
        """Leave the run to the worker that has claimed it, and that part of the ring too, since it is at work there.

        The list of what is due is old by now. It is read again only after some claims. Runs whose driver has died are
        on the list too while nobody may take them over yet, and to meet one of these is not a reason to read it again.
        A run whose ``wakeAt`` is another one than on the list has been moved, such as by an answer, and is not passed
        over.
        """
        self._passed_over[found] = self._engine.clock.monotonic() + _PASSED_OVER_SECONDS
        self._place = random.random()  # noqa: S311  # as above
        self._most_claims = max(1.0, self._most_claims / 2)
        enough = self._taken >= max(1, self._at_once // _CLAIMING)
        self._next = deque() if enough else deque(sorted(self._next, key=self._distance))

    async def _end(self) -> None:
        self._is_closing = True
        for id in list(self._drives):
            if (driven := self._engine.driven(id)) is not None:
                driven.hand_over()
        await end_in_time(self._drives.values())
