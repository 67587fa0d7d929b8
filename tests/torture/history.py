"""What was asked and answered, and what it tells: records of operations, which become events of the model."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from firestore_flowstate import FlowStateError, StoreUnavailableError

from .model import (
    Append,
    Case,
    Event,
    NotDue,
    NotListed,
    Requirement,
    Shows,
    absent,
    anything,
    nothing,
    present,
    remove,
)
from .wrong import WrongError

Outcome = Literal["done", "refused", "unavailable", "unknown", "cancelled"]
"""How an operation ended: `unavailable` is for certain not done, `unknown` and `cancelled` may be done or not."""

_AFTERMATH: Final = 0.5  # seconds until a client has noticed that its connection is broken
_LATENESS: Final = 3.0  # seconds until what a fault held up has arrived or is lost
_SERVER: Final = "server"
now = time.monotonic


class UnexpectedError(WrongError):
    """An operation ended in an error that no fault and no other writer explains."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What an operation was to do to one flow state.

    Attributes:
        success: What it did if it was done.
        refusals: What each error says of the flow state, if it may end in one.
        mark: The mark that it leaves.
        began: When it began, if that is later than the call.
        since: When the version was read that the operation rests on, if only its time tells it.
        or_else: What else a success may mean if a reply was lost.
    """

    success: Case
    refusals: Mapping[type[FlowStateError], Requirement] = field(default_factory=dict)
    mark: str | None = None
    began: float | None = None
    since: float = math.inf
    or_else: Case | None = None

    def outcome(self, error: FlowStateError) -> tuple[Outcome, Requirement]:
        """Return how an operation ended that raised this, and what that says of the flow state.

        Raises:
            UnexpectedError: It may not end so.
        """
        if type(error) in self.refusals:
            return "refused", self.refusals[type(error)]
        if isinstance(error, StoreUnavailableError):
            return ("unknown" if error.outcome_unknown else "unavailable"), anything
        raise UnexpectedError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Record:
    """An operation on one flow state.

    Attributes:
        key: The flow state, as collection and id.
        what: What it was, for people.
        line: The connection that it went over.
        began: When it was called.
        ended: When it returned.
        outcome: How it ended.
        attempt: What it was to do.
        refusal: What was required for its refusal.
    """

    key: str
    what: str
    line: str
    began: float
    ended: float
    outcome: Outcome
    attempt: Attempt
    refusal: Requirement = anything


class Trouble(NamedTuple):
    """A time in which requests or replies of one connection, or of all, were lost or late.

    Attributes:
        line: The connection; None: all of them.
        began: When it began.
        ended: When it ended.
        late: Whether requests may have arrived after their sender had given them up.
    """

    line: str | None
    began: float
    ended: float
    late: bool = True

    def meets(self, record: Record) -> bool:
        """Return whether the operation was under way then."""
        on_it = self.line is None or self.line == record.line
        return on_it and record.began <= self.ended + _AFTERMATH and self.began <= record.ended


@dataclass
class History:
    """Everything that was recorded of a round, from any thread.

    Attributes:
        records: The operations on single flow states.
        troubles: When faults were at work.
        kills: When the server was killed, in this round and before.
        repeats: Commits that were sent once more, with the time.
        counts: How many calls of which kind ended how.
        late: The most seconds by which a call has missed its deadline, and which call it was.
        unreadable: What could not be read, with the times.
        wrong: What is seen to be wrong without looking for an order.
    """

    records: list[Record] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    kills: list[Trouble] = field(default_factory=list)
    repeats: list[tuple[float, bytes]] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    late: tuple[float, str] = (-math.inf, "")
    unreadable: list[tuple[float, float, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *records: Record) -> None:
        """Record operations."""
        with self._lock:
            self.records.extend(records)

    def count(self, kind: str, outcome: str, number: int = 1) -> None:
        """Count calls of the store, or what came of them."""
        with self._lock:
            self.counts[kind, outcome] += number

    def took(self, what: str, seconds: float, *, allowed: float) -> None:
        """Note how long a call took that was to end in its time."""
        with self._lock:
            self.late = max(self.late, (seconds - allowed, what))

    def torn(self) -> list[str]:
        """Return what could not be read, though the server had lost nothing meanwhile.

        Large states are read in several requests. If the server has lost everything in between, no reading of its
        past can give the rest.
        """
        return [
            what
            for began, ended, what in self.unreadable
            if not any(kill.began <= ended and began <= kill.ended for kill in self.kills)
        ]

    def events_of(self, records: Iterable[Record]) -> list[Event]:
        """Return what records say has happened, and what may have."""
        events = (self._event(record) for record in records)
        return [event for event in events if event is not None]

    def echoes_of(self, records: Iterable[Record]) -> list[Event]:
        """Return what may have happened once more, as the known limits of docs/reliability.md have it.

        A save without a version, and a create when there is nothing again, do not tell that they come late, or
        twice. What they bring back is the version that it was, on which another write may then go on top again. A
        server that was killed and has forgotten what it had stored may store any write twice.
        """
        echoes: list[Event] = []
        for record in records:
            mark, case = record.attempt.mark, record.attempt.success
            killed = any(kill.meets(record) for kill in self.kills)
            if isinstance(case.effect, Append) and killed:
                case = Case(present, case.effect)
            elif case.effect is nothing or case.required is present or record.line == _SERVER:
                continue
            # The test itself sent these commits once more, byte for byte, also those that were refused before.
            times = [(at, at + _LATENESS) for at in self.sent_once_more(mark)]
            if record.outcome not in ("refused", "unavailable"):
                times += self._times_of_another(record, killed=killed)
            elif record.outcome == "refused" and case.required is absent:
                # A create asks only that nothing is there. A lost one is stored later, if that is so when it comes.
                times += [(record.ended, until) for _, until in self._times_of_another(record, killed=False)]
            what = f"{record.line}: {record.what}: once more"
            echoes += (
                Event(what=what, began=began, ended=ended, cases=(case,), certain=False) for began, ended in times
            )
        return echoes

    def sent_once_more(self, mark: str | None) -> list[float]:
        """Return when the test itself sent a commit again that leaves this mark."""
        return [at for at, sent in self.repeats if mark is not None and mark.encode() in sent]

    def _times_of_another(self, record: Record, *, killed: bool) -> list[tuple[float, float]]:
        """Return when a write that was stored may have been stored once more."""
        met = [trouble for trouble in (*self.troubles, *self.kills) if trouble.meets(record)]
        required, effect = record.attempt.success
        on_a_version = isinstance(required, Shows)
        blind = effect is not remove and any(trouble.late for trouble in met)  # a deletion names what it deletes
        if not (killed or (on_a_version and met) or blind):
            return []
        return [(record.began, max(record.ended, *(trouble.ended for trouble in met)) + _LATENESS)]

    def _event(self, record: Record) -> Event | None:
        attempt, began, ended = record.attempt, record.began, record.ended
        what = f"{record.line}: {record.what}: {record.outcome}"
        if isinstance(attempt.success.required, (NotListed, NotDue)) and any(kill.meets(record) for kill in self.kills):
            # All queries of a page but the first are read as of the first one's time. Of a time before it was killed, a
            # server knows nothing, though it may have been given all that it had.
            return None
        # A server that has lost its history cannot tell whether an earlier write was stored.
        forgotten = any(kill.began <= ended and kill.ended >= min(began, attempt.since) for kill in self.kills)
        if record.outcome == "done":
            cases = (attempt.success,)
            if attempt.or_else is not None and any(t.meets(record) for t in (*self.troubles, *self.kills)):
                cases = (attempt.or_else, attempt.success)
            return Event(what=what, began=began, ended=ended, cases=cases, mark=attempt.mark)
        if record.outcome == "unavailable":
            return None
        if record.outcome == "refused" and not forgotten:
            return Event(what=what, began=began, ended=ended, cases=(Case(record.refusal, nothing),))
        return Event(what=what, began=began, cases=(attempt.success,), certain=False, mark=attempt.mark)


def wipe(key: str, began: float, ended: float) -> Record:
    """Return the record of a kill with which everything was lost."""
    attempt = Attempt(success=Case(anything, remove))
    return Record(key=key, what="killed", line=_SERVER, began=began, ended=ended, outcome="done", attempt=attempt)
