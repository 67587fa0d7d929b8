"""Looking for one order of operations that explains what every one of them was answered.

The search is that of Wing and Gong: an operation may come next if none that must come before it, having ended
before it began, is left. What is special here: operations that change nothing are taken as soon as they can be, which
never spoils an order, and the marks that readers saw tell what most writes came on top of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from .model import Append, Event, Shows, State
from .wrong import WrongError

_BUDGET: Final = 200_000  # steps of the search, which without a bound could go through every order
_SHOWN: Final = 30  # events of a kind that an error shows


class NoOrderError(WrongError):
    """No order of the operations explains their answers."""


class UndecidedError(WrongError):
    """The search was given up."""


@dataclass(frozen=True)
class Found:
    """An order that explains everything.

    Attributes:
        end: The state after it.
        order: The events in it.
        steps: How many steps the search took.
    """

    end: State
    order: Sequence[Event]
    steps: int


def linearize(events: Sequence[Event], start: State, *, budget: int = _BUDGET) -> Found:
    """Return an order in which the certain events, and any of the others, lead from answer to answer.

    Raises:
        NoOrderError: There is none. The message shows how far the best one came.
        UndecidedError: The budget was too small.
    """
    return _Search(events, start).run(budget)


class _Search:
    def __init__(self, events: Sequence[Event], start: State) -> None:
        self._events = sorted(events, key=lambda event: event.began)
        self._start = start
        certain = [i for i, event in enumerate(self._events) if event.certain]
        self._by_end = sorted(certain, key=lambda i: self._events[i].ended)
        self._goal = sum(1 << i for i in certain)
        self._on_top_of = _predecessors(self._events)

    def run(self, budget: int) -> Found:
        seen: set[tuple[int, State]] = set()
        stack: list[tuple[int, State, tuple[int, ...]]] = [(0, self._start, ())]
        best: tuple[int, State, tuple[int, ...]] = stack[0]
        steps = 0
        while stack:
            done, state, path = self._after_quiet_ones(*stack.pop())
            if (done, state) in seen:
                continue
            seen.add((done, state))
            if done & self._goal == self._goal:
                return Found(state, [self._events[i] for i in path], steps)
            if (done & self._goal).bit_count() > (best[0] & self._goal).bit_count():
                best = (done, state, path)
            steps += 1
            if steps > budget:
                raise UndecidedError(f"No order of {len(self._events)} events was found in {budget} steps.")
            following = []
            for i in self._candidates(done):
                after = self._events[i].on(state)
                if after is not None and self._is_possible(self._events[i], state, after):
                    following.append((not self._events[i].certain, self._events[i].ended, i, after))
            # The list is last in, first out: of what must come, the event that ended first is tried first.
            for _, _, i, after in sorted(following, key=lambda one: one[:2], reverse=True):
                stack.append((done | 1 << i, after, (*path, i)))
        raise NoOrderError(self._report(*best))

    def _after_quiet_ones(self, done: int, state: State, path: tuple[int, ...]) -> tuple[int, State, tuple[int, ...]]:
        while quiet := [i for i in self._candidates(done) if self._events[i].is_quiet(state)]:
            for i in quiet:
                done |= 1 << i
            path = (*path, *quiet)
        return done, state, path

    def _candidates(self, done: int) -> list[int]:
        horizon = next((self._events[i].ended for i in self._by_end if not done >> i & 1), math.inf)
        found = []
        i = (~done & (done + 1)).bit_length() - 1  # the first that is left
        while i < len(self._events) and self._events[i].began <= horizon:
            if not done >> i & 1:
                found.append(i)
            i += 1
        return found

    def _is_possible(self, event: Event, state: State, after: State) -> bool:
        """Return whether readers saw the write come on top of this state, or did not see it at all."""
        expected = self._on_top_of.get(event.mark or "")
        if expected is None or after.lineage is None or len(after.lineage) == 1:
            return True
        return state.lineage is not None and state.lineage[-1] in expected

    def _report(self, done: int, state: State, path: tuple[int, ...]) -> str:
        certain = [self._events[i] for i in self._by_end if not done >> i & 1]
        maybe = [event for i, event in enumerate(self._events) if not event.certain and not done >> i & 1]
        lines = [
            "No order of the operations explains their answers.",
            f"The best one explains {len(path)} of {len(self._events)}, the last of them",
            *(f"    {self._line(self._events[i])}" for i in path[-_SHOWN:]),
            "which ends in",
            f"    {'nothing' if state.lineage is None else ' | '.join(state.lineage)}",
            "and none of these fits:",
            *(f"    {self._line(event)}" for event in certain[:_SHOWN]),
            *(["and these may have happened or not:"] if maybe else []),
            *(f"    {self._line(event)}" for event in maybe[:_SHOWN]),
        ]
        return "\n".join(lines)

    def _line(self, event: Event) -> str:
        first = self._events[0].began
        return f"{event.began - first:8.4f} to {event.ended - first:8.4f}  {event.what}"


def _predecessors(events: Sequence[Event]) -> Mapping[str, set[str]]:
    """Return for each mark that readers saw the marks that it stood behind."""
    before: dict[str, set[str]] = {}
    for event in events:
        for case in event.cases:
            if isinstance(case.required, Shows) and isinstance(marks := case.required.look.marks, tuple):
                for mark, following in pairwise(marks):
                    before.setdefault(following, set()).add(mark)
                if isinstance(case.effect, Append):
                    before.setdefault(case.effect.mark, set()).add(marks[-1])
    return before
