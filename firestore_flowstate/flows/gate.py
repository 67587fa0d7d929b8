"""Ordered replay: results reach the function one at a time, in the order in which they first did.

Each result has a number, its ``n``. Recorded results are expected from the start. A result that is new gets the next
number when it comes in, so it stands behind all that are recorded. A result goes through if it is the first of all that
are expected, and if the event loop has made 20 passes in which nothing else was asked for: by then the function has
done all that the result before has set going. So `gather`, `as_completed`, `wait` and queues between branches replay as
they ran.

If only one task calls operations, others may still work on what it passes on to them. Then fewer passes are
enough: those until nothing of the run is about to go on. With one task alone that is none. If the function still goes
on after 20 passes, there are more, on a loop that shows it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakSet

from .context import HERE, Here

PASSES: Final = 20
"""Passes of the loop between two results: more than the hops from a result through gather, wait and a queue."""
_IDLE_SECONDS: Final = 0.005
"""How long nothing must have been asked for until a recorded result that nobody asks for is passed over."""
_STRAIGHT_ON: Final = 64
"""How many results of one task go through in a row without a pass of the loop: about a millisecond's worth."""
MOST_PASSES: Final = 200
"""Passes after which the next result goes through although the function is still at work on the one before."""
_HANDLES_A_LOOK: Final = 100
"""How many callbacks are looked at on a loop that shows what is about to run; of more nobody looks whose they are."""
_TASKS_A_LOOK: Final = 16
"""How many tasks are looked at for each result, to see whether others than the function's have come."""


@dataclass
class _Turn:
    futures: list[asyncio.Future[None]]  # of all who ask for the result
    series: object | None


class _Others:
    """The tasks of a loop that does not show what is about to run, such as that of uvloop.

    Args:
        loop: The event loop. The tasks that it has now are not the function's, whose own task is made later.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._earlier = WeakSet(asyncio.all_tasks(loop))
        self._unasked = 0

    def are_none(self) -> bool:
        """Return whether the function has made no task. If there are many tasks, this looks seldom, and says no."""
        if self._unasked:
            self._unasked -= 1
            return False
        tasks = asyncio.all_tasks(self._loop)
        self._unasked = len(tasks) // _TASKS_A_LOOK
        return sum(task not in self._earlier for task in tasks) <= 1  # the task of the function itself


class Gate:
    """Lets one result after the other through to the function.

    Args:
        loop: The event loop of the function.
        moved: Called after each result that had to wait for its turn, and whenever a result is no
            longer on its way since nobody asks for it.
        id: The id of the run.

    Attributes:
        straight: Whether every operation so far was called and awaited by the flow's own task, so that only one order
            is possible.
        active_at: When something was last asked for or went through, by the loop's clock, in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, moved: Callable[[], None], *, id: str = "") -> None:
        self._loop = loop
        self._id = id
        self._ready = _ready(loop)
        self._others = _Others(loop) if self._ready is None else None
        self._moved = moved
        self.straight = True
        self.active_at = loop.time()
        self._heap: list[int] = []
        self._expected: set[int] = set()
        self._turns: dict[int, _Turn] = {}
        self._held: set[int] = set()
        self._series: object | None = None  # of the result that went through last
        self._passes = 0
        self._straight_on = 0
        self._is_passing = False

    @property
    def is_open(self) -> bool:
        """Whether no result is on its way to the function."""
        return not self._turns and not self._held

    def expect(self, numbers: Iterable[int]) -> None:
        """Let no result with a larger number through before these, unless nobody asks for these."""
        for n in numbers:
            if n not in self._expected:
                self._expected.add(n)
                heapq.heappush(self._heap, n)

    def hold(self, n: int) -> None:
        """Expect the result, and wait for it also while nobody asks for it: whoever called it is about to."""
        self.expect([n])
        self._held.add(n)

    def release(self, n: int) -> None:
        """Take back a `hold`: do not wait for the result if nobody asks for it."""
        if n in self._held:
            self._held.discard(n)
            self._moved()
        self._pass_on()

    def touch(self) -> None:
        """Note that something was asked for, so that the passes are counted anew: more may be asked for."""
        self._passes = 0
        self.active_at = self._loop.time()

    async def pass_through(self, n: int | None, *, series: object | None = None) -> None:
        """Return when it is the turn of the result.

        Args:
            n: The number of the result; None: the result stands before all others.
            series: What the result is an item of, such as a map; None: of nothing. Between two items of one series no
                passes are needed: the function goes on after the last of them.
        """
        if n is None or n not in self._expected:
            self._series = None
            self.touch()
            await asyncio.sleep(0)
            return
        if self.straight and not self._turns and self._first() == n and not self._may_hide_a_task(series):
            self._take(n, series)
            return
        self.touch()
        turn, future = self._turns.setdefault(n, _Turn([], series)), self._loop.create_future()
        turn.futures.append(future)
        self._pass_on()
        try:
            await future
        finally:
            turn.futures.remove(future)
            if not turn.futures and self._turns.get(n) is turn:
                del self._turns[n]
                self._held.discard(n)
                self._moved()
            self._pass_on()

    def close(self) -> None:
        """Cancel all that wait."""
        for turn in self._turns.values():
            for future in turn.futures:
                future.cancel()

    def _may_hide_a_task(self, series: object | None) -> bool:
        """Return whether another task may be at work on the result before; each 64th time yes, for the sake of timers.

        It does not matter between items of one series.
        """
        self._straight_on += 1
        if self._straight_on % _STRAIGHT_ON == 0:
            return True
        return (self._ready is None or bool(self._ready)) and not self._goes_on(series)

    def _goes_on(self, series: object | None) -> bool:
        """Return whether a result of the series follows one of the same."""
        return series is not None and series is self._series

    def _first(self) -> int | None:
        while self._heap and self._heap[0] not in self._expected:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def _take(self, n: int, series: object | None) -> None:
        self._series = series
        self._expected.discard(n)
        self._held.discard(n)
        self.touch()

    def _pass_on(self) -> None:
        if self._turns and not self._is_passing:
            self._is_passing = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._is_passing = False
        if not self._turns:
            return
        self._passes += 1
        if self._is_still_at_work() if self._passes >= PASSES else not self._is_early():
            self._pass_on()
            return
        first = self._first()
        if first in self._turns:
            self._let_through(first)
        elif first in self._held:
            return  # pass_through or release is about to be called for it
        elif first is not None:
            self._step_over(first)
        self._pass_on()

    def _is_early(self) -> bool:
        """Return whether the next result is there, and nothing is at work any more on the one before it."""
        is_quiet = self.straight and self._is_quiet()
        if not is_quiet and self._series is None:
            return False
        turn = self._turns.get(self._first() or 0)
        return turn is not None and (is_quiet or self._goes_on(turn.series))

    def _is_quiet(self) -> bool:
        """Return whether nothing of this run is about to go on but the task that asks."""
        if self._ready is None:
            return self._passes == 1 and self._others is not None and self._others.are_none()
        return len(self._ready) <= _HANDLES_A_LOOK and not any(True for _ in self._about_to_run(self._ready))

    def _is_still_at_work(self) -> bool:
        """Return whether the function has more to do than all passes are enough for; what goes on in steps may wait."""
        if self._passes >= MOST_PASSES or self._ready is None or len(self._ready) > _HANDLES_A_LOOK:
            return False
        return any(here.step is None for here in self._about_to_run(self._ready))

    def _about_to_run(self, ready: deque[Any]) -> Iterator[Here]:
        """Yield what is about to run on the loop that this run has set going, by the contexts."""
        for handle in tuple(ready):  # other threads add to it
            here = handle._context.get(HERE)
            if here is not None and here.run.id == self._id:
                yield here

    def _let_through(self, n: int) -> None:
        turn = self._turns.pop(n)
        self._take(n, turn.series)
        self._moved()
        for future in turn.futures:
            if not future.done():
                future.set_result(None)

    def _step_over(self, n: int) -> None:
        """Pass over a result that nobody asks for, if the loop is idle; else look again when it may be."""
        idle = self._loop.time() - self.active_at
        if self.straight or idle >= _IDLE_SECONDS:
            self._expected.discard(n)
            return
        self._is_passing = True
        self._loop.call_later(_IDLE_SECONDS - idle, self._pass)


def _ready(loop: asyncio.AbstractEventLoop) -> deque[Any] | None:
    """Return the queue of what is about to run on the loop, new tasks among it; None: the loop has no such queue.

    An event loop of Qt inherits asyncio's queue and never fills it, since its `call_soon` is another one.
    """
    if getattr(type(loop), "call_soon", None) is not asyncio.BaseEventLoop.call_soon:
        return None
    if not hasattr(asyncio.Handle, "_context"):  # which tells whose it is
        return None
    ready = getattr(loop, "_ready", None)
    return ready if isinstance(ready, deque) else None
