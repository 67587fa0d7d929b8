"""The timeline of a run: what has happened in it, in order, as far as its state tells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from ..flows.entries import child_of, kind_of, order_of, value_of
from ..flows.record import RunRecord, Wait, ended_of, inbox_of, record_of, wake_at
from ..flows.stretches import is_of_a_drive
from ..models import CacheEntry, FlowState, FlowStateExecution
from .output import print_rows, shown, when, zone
from .parameters import spelled

_LONGEST: Final = 80  # characters of a value in a table


@dataclass(frozen=True)
class Happening:
    """One line of a timeline.

    Attributes:
        at: When it began, in milliseconds since the epoch; None: the state does not tell.
        what: start, drive, step, interrupt, sleep, child, now, waits, retry, answer, cancel or end.
        name: The key, the number of the drive, or how the run ended.
        took: How long it took, in milliseconds; None: the state does not tell.
        details: What else is known, by the names that it has in JSON.
    """

    at: float | None
    what: str
    name: str
    took: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return all that is known, as it is printed in JSON."""
        known = {"at": self.at, "what": self.what, "name": self.name, "took": self.took}
        return {name: value for name, value in known.items() if value is not None} | dict(self.details)

    def about(self) -> str:
        """Return the details in words."""
        return ", ".join(_words(self.details))


def timeline(state: FlowState) -> list[Happening]:
    """Return what has happened in the run, earliest first; last is what it waits for, or its end.

    The ends before retries are among what has happened.
    """
    record = record_of(state)
    happened = [*_drives(state, record), *_results(state), *_dropped_waits(state), *_earlier_ends(state)]
    # Entries of Genkit JS have no time: each stands behind the one that is before it in the state.
    known: float = 0
    times = []
    for each in happened:
        # Compared by itself to find NaN, since math.isnan makes a float, for which an integer may be too large.
        known = known if each.at is None or each.at != each.at else each.at
        times.append(known)
    order = sorted(range(len(happened)), key=times.__getitem__)
    begin = Happening(state.start_time, "start", state.name or "", details=_start(state, record))
    return [begin, *(happened[number] for number in order), *_now(state, record), *_end(state)]


def print_timeline(happened: Sequence[Happening]) -> None:
    """Print a line for each thing that has happened."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (f"at ({zone()})", "what", "name", "took", "about"):
        is_number, is_long = heading == "took", heading in ("name", "about")
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold", no_wrap=not is_long)
    for each in happened:
        table.add_row(
            "" if each.at is None else when(each.at),
            each.what,
            Text(shown(each.name)),
            "" if each.took is None else lasted(each.took),
            Text(shown(each.about())),
        )
    print_rows(table)


def lasted(milliseconds: float) -> str:
    """Return in words how long something took: a number of milliseconds that `_between` has returned."""
    if milliseconds < 1000:
        return f"{round(milliseconds)} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    return spelled(timedelta(milliseconds=round(milliseconds)))


def _time(value: object) -> float | None:
    """Return a time of a state, or None if it is none: others may write anything there, also an infinity."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _between(began: object, ended: object) -> float | None:
    """Return the milliseconds between two times of a state; None: they do not tell, or a `timedelta` has no room."""
    first, last = _time(began), _time(ended)
    if first is None or last is None:
        return None
    try:
        took = last - first
        timedelta(milliseconds=took)
    except (OverflowError, ValueError):  # beyond the 2.7 million years that it holds; ValueError: NaN
        return None
    return took


def _start(state: FlowState, record: RunRecord) -> dict[str, Any]:
    about = {"codeVersion": record.code_version, "parent": (state.model_extra or {}).get("parent")}
    return {name: value for name, value in about.items() if value is not None}


def _drives(state: FlowState, record: RunRecord) -> Iterator[Happening]:
    driven = [execution for execution in state.executions if is_of_a_drive(execution)]
    first = max(record.drives - len(driven), 0) + 1  # a state keeps the last 100 stretches
    for number, execution in enumerate(driven, first):
        is_last = execution is state.executions[-1]
        began, took = execution.start_time, _between(execution.start_time, execution.end_time)
        yield Happening(began, "drive", str(number), took, _drive(state, record, execution, is_last=is_last))


def _drive(state: FlowState, record: RunRecord, execution: FlowStateExecution, *, is_last: bool) -> dict[str, Any]:
    about: dict[str, Any] = {"traceIds": list(execution.trace_ids)} if execution.trace_ids else {}
    if execution.end_time is None and record.drives:
        if is_last and record.owner is not None:
            return about | {"leaseUntil": wake_at(state)}
        return about | {"cutOff": True}
    return about


def _results(state: FlowState) -> Iterator[Happening]:
    given = inbox_of(state).answers
    entries = sorted(state.cache.items(), key=lambda item: order_of(item[1]) or 0)
    for key, entry in entries:
        kind = kind_of(entry)
        if kind == "show":
            continue
        about = entry.model_extra or {}
        began, ended = _time(about.get("startTime")), _time(about.get("endTime"))
        details = dict(_result(key, kind, entry, state))
        if key in given:
            details["answerKey"] = given[key]
        yield Happening(began if began is not None else ended, kind, key, _between(began, ended), details)


def _result(key: str, kind: str, entry: CacheEntry, state: FlowState) -> Iterator[tuple[str, Any]]:
    about = entry.model_extra or {}
    if about.get("attempts") is not None:
        yield "attempts", about["attempts"]
    if (child := child_of(entry)) is not None:
        yield "child", child
    if isinstance(error := about.get("error"), dict):
        yield "error", f"{error.get('type', 'Exception')}: {error.get('message', '')}"
        if error.get("stacktrace"):
            yield "stacktrace", error["stacktrace"]
    elif kind == "interrupt":
        yield "answer", value_of(entry)
    elif kind == "sleep" and key in state.events_triggered:
        yield "endedBy", "an answer"
    elif kind == "now":
        yield "value", value_of(entry)


def _dropped_waits(state: FlowState) -> Iterator[Happening]:
    """Yield what the run waited for when it failed or was cancelled."""
    for execution in state.executions:
        for wait in _listed(execution, "waits"):
            about = {name: wait[name] for name in ("kind", "until", "child") if name in wait}
            since = _time(wait.get("since"))
            took = _between(since, execution.end_time)
            yield Happening(since, "waits", str(wait.get("step", "")), took, about)


def _earlier_ends(state: FlowState) -> Iterator[Happening]:
    """Yield the ends that retries have undone."""
    for execution in state.executions:
        about = execution.model_extra or {}
        if (how := about.get("ended")) is not None:
            at = execution.end_time
            yield Happening(at, "end", str(how), _between(state.start_time, at), {"error": str(about.get("error", ""))})


def _listed(execution: FlowStateExecution, name: str) -> Iterator[Mapping[str, Any]]:
    there = (execution.model_extra or {}).get(name)
    yield from (each for each in there if isinstance(each, dict)) if isinstance(there, list) else ()


def _now(state: FlowState, record: RunRecord) -> Iterator[Happening]:
    """Yield what goes on: open waits, attempts to come, answers that the run has not taken yet, a cancellation."""
    if ended_of(state) is not None:
        return
    for key, wait in record.waits_in_order():
        yield Happening(wait.since, "waits", key, details=_wait(wait, record.retries.get(key)))
    for key, retry in record.retries.items():
        if key not in record.waits:
            yield Happening(None, "retry", key, details=_retry(retry))
    for key, payload in state.events_triggered.items():
        if key not in state.cache:
            yield Happening(None, "answer", key, details={"answer": payload})
    if (reason := inbox_of(state).cancel) is not None:
        yield Happening(None, "cancel", "", details={"reason": reason})


def _wait(wait: Wait, retry: Mapping[str, Any] | None) -> dict[str, Any]:
    about = {"kind": wait.kind, "until": wait.until, "child": wait.child}
    return {name: value for name, value in about.items() if value is not None} | _retry(retry or {})


def _retry(retry: Mapping[str, Any]) -> dict[str, Any]:
    about = {"attempts": retry.get("attempts"), "error": retry.get("error"), "next": retry.get("next")}
    return {name: value for name, value in about.items() if value is not None}


def _end(state: FlowState) -> Iterator[Happening]:
    how = ended_of(state)
    if how is None:
        return
    last = state.executions[-1].end_time if state.executions else None
    result = state.operation.result
    details: dict[str, Any] = {}
    if result is not None and result.error is not None:
        details["error"] = result.error
        if result.stacktrace:
            details["stacktrace"] = result.stacktrace
    yield Happening(last, "end", how, _between(state.start_time, last), details)


def _words(details: Mapping[str, Any]) -> Iterator[str]:
    if "codeVersion" in details:
        yield f"version {details['codeVersion']}"
    if "parent" in details:
        yield f"child of {details['parent']}"
    if "leaseUntil" in details:
        yield f"goes on, lease until {when(details['leaseUntil'])}" if details["leaseUntil"] else "goes on"
    if details.get("cutOff"):
        yield "cut off: its process died, or lost the lease"
    if (attempts := details.get("attempts")) is not None:
        yield f"{attempts} attempt{'' if attempts == 1 else 's'}"
    if "child" in details:
        yield f"run {details['child']}"
    if "answer" in details:
        yield f"answered {_short(details['answer'])}"
    if "answerKey" in details:
        yield f"key {details['answerKey']}"
    if "value" in details:
        yield _short(details["value"])
    if "endedBy" in details:
        yield f"ended by {details['endedBy']}"
    if "reason" in details:
        yield f"requested{': ' if details['reason'] else ''}{details['reason']}"
    if "error" in details:
        yield details["error"].partition("\n")[0]
    if details.get("kind") == "interrupt":
        yield "for an answer"
    if (until := _time(details.get("next", details.get("until")))) is not None:
        yield f"{'next attempt' if 'next' in details else 'until'} {when(until)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
