"""What operations do to one flow state, one at a time: the model that the store is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .marks import Glance, Look, Mark, look_of

Lineage = tuple[str, ...]


class State(NamedTuple):
    """A flow state between two operations.

    Attributes:
        lineage: The marks of the writes that have made it, in order; None if there is no flow state.
        buried: What there was before the last deletion.
    """

    lineage: Lineage | None = None
    buried: Lineage | None = None


NOTHING: Final = State()

Requirement = Callable[[State], bool]
Effect = Callable[[State], State]


def described(requirement: Requirement) -> str:
    """Return a requirement in words."""
    return getattr(requirement, "__name__", str(requirement))


# ---- requirements
def anything(state: State) -> bool:
    """Whatever is there."""
    return True


def absent(state: State) -> bool:
    """There is no flow state."""
    return state.lineage is None


def present(state: State) -> bool:
    """There is a flow state."""
    return state.lineage is not None


@dataclass(frozen=True)
class Shows:
    """The flow state looks so."""

    look: Look

    def __call__(self, state: State) -> bool:
        lineage = state.lineage
        if lineage is None or lineage[-1] != self.look.last or len(lineage) != len(self.look):
            return False
        if isinstance(self.look.marks, tuple):
            return lineage == self.look.marks
        return look_of(lineage, ordered=False) == self.look

    def __str__(self) -> str:
        return f"shows {self.look}"


@dataclass(frozen=True)
class Differs:
    """The flow state looks otherwise, or there is none."""

    look: Look

    def __call__(self, state: State) -> bool:
        return not Shows(self.look)(state)

    def __str__(self) -> str:
        return f"differs from {self.look}"


@dataclass(frozen=True)
class Changed:
    """There is a flow state, and it looks otherwise."""

    look: Look

    def __call__(self, state: State) -> bool:
        return state.lineage is not None and not Shows(self.look)(state)


@dataclass(frozen=True)
class Buried:
    """There is none, and the last one looked so."""

    look: Look

    def __call__(self, state: State) -> bool:
        return state.lineage is None and Shows(self.look)(State(state.buried))


@dataclass(frozen=True)
class Summarized:
    """A summary of the flow state shows this."""

    glance: Glance
    native: bool

    def __call__(self, state: State) -> bool:
        return state.lineage is not None and Glance.of(state.lineage, native=self.native) == self.glance

    def __str__(self) -> str:
        glance = self.glance
        return f"shows {glance.steps} steps, saved by {glance.saved}, {glance.status} on {glance.blocked_on}"


@dataclass(frozen=True)
class NotListed:
    """No list of this status shows the flow state."""

    status: str | None

    def __call__(self, state: State) -> bool:
        if state.lineage is None:
            return True
        return self.status is not None and Mark(state.lineage[-1]).status != self.status


@dataclass(frozen=True)
class Due:
    """The wake time of the flow state has come, and is this."""

    wake_at: int

    def __call__(self, state: State) -> bool:
        return state.lineage is not None and Mark(state.lineage[-1]).wake_at == self.wake_at


@dataclass(frozen=True)
class NotDue:
    """The wake time of the flow state has not come, or it comes behind the last that was returned.

    Attributes:
        id: The flow state.
        before: Which wake time had come.
        last: The wake time and id, in bytes, of the last one; None: all were returned.
    """

    id: str
    before: int
    last: tuple[int, bytes] | None

    def __call__(self, state: State) -> bool:
        if state.lineage is None:
            return True
        wake_at = Mark(state.lineage[-1]).wake_at
        return wake_at > self.before or (self.last is not None and (wake_at, self.id.encode()) > self.last)


# ---- effects
def nothing(state: State) -> State:
    """Leave it as it is."""
    return state


def remove(state: State) -> State:
    """Delete it."""
    return state if state.lineage is None else State(None, state.lineage)


@dataclass(frozen=True)
class Replace:
    """Put a new flow state in place of the old one."""

    mark: str

    def __call__(self, state: State) -> State:
        return State((self.mark,))


@dataclass(frozen=True)
class Append:
    """Write on top of it."""

    mark: str

    def __call__(self, state: State) -> State:
        assert state.lineage is not None
        return State((*state.lineage, self.mark))


class Case(NamedTuple):
    """What an operation may have done: if this was required, that was the effect."""

    required: Requirement
    effect: Effect


@dataclass(frozen=True, kw_only=True)
class Event:
    """An operation on one flow state, which took effect at once at some time between its beginning and its end.

    Attributes:
        what: What it was, for people.
        began: When it was called.
        ended: When it returned; for ever if nothing tells when it took effect.
        cases: What it may have done. The first that is possible is taken.
        certain: Whether it has taken effect for sure. If not, it may or may not have.
        mark: What it leaves.
    """

    what: str
    began: float
    cases: tuple[Case, ...]
    ended: float = math.inf
    certain: bool = True
    mark: str | None = field(default=None)

    def is_quiet(self, state: State) -> bool:
        """Return whether it can happen now and changes nothing."""
        return any(case.effect is nothing and case.required(state) for case in self.cases)

    def on(self, state: State) -> State | None:
        """Return the state after it, or None if it cannot happen now, or changes nothing."""
        for case in self.cases:
            if case.effect is not nothing and case.required(state):
                return case.effect(state)
        return None
