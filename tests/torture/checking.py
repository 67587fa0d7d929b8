"""Comparing a round with the model: flow state by flow state, is there an order that explains every answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .history import History, Record
from .linearize import NoOrderError, UndecidedError, linearize
from .marks import Look
from .model import NOTHING, Event, Shows, State, Summarized
from .wrong import WrongError


@dataclass(kw_only=True)
class Verdict:
    """What is to be said of a round.

    Attributes:
        ends: Each flow state after the round.
        events: How many events were explained.
        late: Flow states that can be explained only by a request that came late, once more. See `History.echoes_of`.
        wrong: What cannot be explained.
    """

    ends: dict[str, State] = field(default_factory=dict)
    events: int = 0
    late: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def judge(history: History, starts: Mapping[str, State]) -> Verdict:
    """Look for an order of the operations on each flow state."""
    verdict = Verdict(wrong=[*history.wrong, *history.torn()])
    by_key: dict[str, list[Record]] = {}
    for record in history.records:
        by_key.setdefault(record.key, []).append(record)
    for key, records in by_key.items():
        start = starts.get(key, NOTHING)
        try:
            _check_refused(history, records)
            verdict.ends[key] = _explain(history, records, start, key, verdict)
        except WrongError as error:
            verdict.wrong.append(f"{key}: {error}")
    return verdict


def _explain(history: History, records: Sequence[Record], start: State, key: str, verdict: Verdict) -> State:
    """Return the state at the end. The fewer things that may have happened are needed for it, the better."""
    events = history.events_of(records)
    seen = _seen(events)
    echoes = history.echoes_of(records)
    likely = [event for event in events if event.certain or event.mark in seen]
    problem: WrongError | None = None
    for choice in (likely, events, [*events, *echoes]):
        try:
            found = linearize(choice, start)
        except (NoOrderError, UndecidedError) as error:
            problem = type(error)(f"{problem}\nWith what else may have happened: {error}") if problem else error
        else:
            verdict.events += len(found.order)
            if any(event in echoes for event in found.order):
                verdict.late.append(key)
            return found.end
    assert problem is not None
    raise problem


def _check_refused(history: History, records: Sequence[Record]) -> None:
    """Look that nobody saw what was for certain not written: no order needs to be found to tell that.

    What the test itself sent once more, after its sender was told so, is left to the search for an order.
    """
    not_written = {
        record.attempt.mark: record
        for record in records
        if record.outcome == "unavailable"
        and record.attempt.mark is not None
        and not history.sent_once_more(record.attempt.mark)
    }
    for record in records:
        if isinstance(record.attempt.success.required, Shows) and record.outcome == "done":
            for mark in record.attempt.success.required.look.marks:
                if mark in not_written:
                    raise WrongError(f"{not_written[mark].what} was for certain not stored, and {record.what} saw it")


def _seen(events: Sequence[Event]) -> set[str]:
    marks: set[str] = set()
    for event in events:
        for case in event.cases:
            if isinstance(case.required, Shows):
                look: Look = case.required.look
                marks.update(look.marks)
            elif isinstance(case.required, Summarized):
                glance = case.required.glance
                marks.update(mark for mark in (glance.blocked_on, glance.saved, glance.last) if mark)
    return marks
