"""Marks: what every write leaves in several fields of a flow state, so that a half of it is seen."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from firestore_flowstate import (
    BlockedOnStep,
    CacheEntry,
    FlowResult,
    FlowState,
    FlowStateExecution,
    FlowStateSummary,
    Operation,
)

from .wrong import WrongError

_SAVED: Final = "saved"  # an unknown key: it is in the head, so that filters and summaries see it
_LAST: Final = "last"  # another, which updates set too
_LATER: Final = 4_102_444_800_000  # milliseconds: the year 2100, so that no run is late for doctor
_DURATIONS: Final = (None, timedelta(days=7), timedelta(days=400))  # until expiry; none of them is over in a run


class TornError(WrongError):
    """A flow state that no write has made: a half of one, a mixture of two, or a value that was changed."""


@dataclass(frozen=True)
class Mark:
    """What a write leaves, told from its text alone.

    Attributes:
        text: The name of the step that the write caches. No other write has it.
    """

    text: str

    @classmethod
    def of(cls, name: str, *, whole: bool, size: int, ends: bool) -> Mark:
        """Return the mark of a write.

        Args:
            name: No other write has it.
            whole: Whether it writes what an update cannot write.
            size: About how many bytes of incompressible text it writes.
            ends: Whether the flow is done with it. If not, it is blocked.
        """
        return cls(f"{name}; {'whole' if whole else 'part'}; {size}; {'done' if ends else 'blocked'}")

    @property
    def whole(self) -> bool:
        """Whether the write left the unknown key and the input as well."""
        return self.text.split("; ")[1] == "whole"

    @property
    def status(self) -> str:
        """The status of the flow after the write."""
        return self.text.split("; ")[3]

    @property
    def size(self) -> int:
        """About how many bytes of text it writes."""
        return int(self.text.split("; ")[2])

    @property
    def wake_at(self) -> int:
        """The wake time that it sets, of which there are few."""
        return _LATER + zlib.crc32(self.text.encode()) % 4

    @property
    def expire_after(self) -> timedelta | None:
        """The flow's own time until it expires that it sets."""
        return _DURATIONS[zlib.crc32(self.text.encode()) // 4 % len(_DURATIONS)]

    @property
    def milliseconds(self) -> int:
        """The flow's own time until it expires in milliseconds, as it is kept."""
        own = self.expire_after
        return -1 if own is None else own // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Look:
    """What a reader sees of a flow state.

    Attributes:
        marks: The marks of the writes that made it, in their order; a set if the layout keeps none.
        last: The mark of the last one.
        saved: The mark of the last one that was whole.
    """

    marks: Sequence[str] | frozenset[str]
    last: str
    saved: str

    @property
    def ordered(self) -> bool:
        """Whether the order of the writes is seen."""
        return isinstance(self.marks, tuple)

    def plus(self, mark: Mark, *, fresh: bool = False) -> Look:
        """Return how it looks after another write, on top of it or afresh."""
        if fresh:
            return look_of([mark.text], ordered=self.ordered)
        marks = (*self.marks, mark.text) if self.ordered else frozenset({*self.marks, mark.text})
        return Look(marks, mark.text, mark.text if mark.whole else self.saved)

    def __len__(self) -> int:
        return len(self.marks)

    def __str__(self) -> str:
        marks = self.marks if isinstance(self.marks, tuple) else (*sorted({*self.marks} - {self.last}), self.last)
        return " | ".join(marks)


def look_of(lineage: Sequence[str], *, ordered: bool) -> Look:
    """Return how a flow state looks that these writes have made, the last ones last."""
    saved = next(mark for mark in reversed(lineage) if Mark(mark).whole)
    return Look(tuple(lineage) if ordered else frozenset(lineage), lineage[-1], saved)


def new_state(id: str, mark: Mark, *, name: str, start_time: int) -> FlowState:
    """Return a state that has this mark and no other."""
    state = FlowState.start(flow_id=id, name=name)
    state.start_time = start_time
    add(state, mark)
    return state


def add(state: FlowState, mark: Mark, *, fresh: bool = False) -> None:
    """Leave the mark in a state, as `changes` does. `fresh` takes out all others, which only whole marks may."""
    changes = changes_of(mark, id=state.flow_id)
    if fresh:
        state.cache, state.events_triggered = {}, {}
    state.cache.update(changes.pop("cache"))
    state.events_triggered.update(changes.pop("events_triggered"))
    state.expireAfter = mark.milliseconds
    del changes["expire_after"]
    for name, value in {**changes.pop("extra"), **changes}.items():
        setattr(state, name, value)
    if mark.whole:
        state.input = {"mark": mark.text, "text": _text(mark.text, mark.size // 8)}
        setattr(state, _SAVED, mark.text)


def changes_of(mark: Mark, *, id: str) -> dict[str, Any]:
    """Return the arguments by which `update` leaves a mark."""
    done = mark.status == "done"
    response = FlowResult(response=mark.text) if done else None
    operation = Operation(name=id, done=done, metadata={"mark": mark.text}, **({"result": response} if done else {}))
    return {
        "cache": {mark.text: CacheEntry(value=_value(mark))},
        "events_triggered": {mark.text: {"mark": mark.text}},
        "operation": operation,
        "blocked_on_step": None if done else BlockedOnStep(name=mark.text),
        "executions": [FlowStateExecution(start_time=1, trace_ids=[mark.text])],
        "trace_context": json.dumps({"traceId": mark.text}),
        "extra": {_LAST: mark.text, "wakeAt": mark.wake_at},
        "expire_after": mark.expire_after,
    }


def look_at(state: FlowState, id: str, *, name: str, start_time: int, ordered: bool) -> Look:
    """Return how a state looks.

    Raises:
        TornError: It is not whole.
    """
    last = str(state.executions[-1].trace_ids[0])
    expected = new_state(id, Mark(last), name=name, start_time=start_time)
    for field in ("flow_id", "name", "start_time", "operation", "blocked_on_step", "executions", "trace_context"):
        _agree(id, field, getattr(expected, field), getattr(state, field))
    for key in (_LAST, "wakeAt", "expireAfter"):
        _agree(id, key, (expected.model_extra or {})[key], (state.model_extra or {}).get(key))
    expires = Mark(last).status == "done" and Mark(last).expire_after is not None
    _agree(id, "whether it expires", expires, state.expire_at is not None)
    marks, events = list(state.cache), list(state.events_triggered)
    _agree(id, "steps and events", *((marks, events) if ordered else (sorted(marks), sorted(events))))
    for text in marks:
        _agree(id, f"cache[{text!r}]", _value(Mark(text)), state.cache[text].value)
        _agree(id, f"events_triggered[{text!r}]", {"mark": text}, state.events_triggered[text])
    saved = getattr(state, _SAVED)
    _agree(id, "input", {"mark": saved, "text": _text(saved, Mark(saved).size // 8)}, state.input)
    if not {last, saved} <= set(marks):
        raise TornError(f"{id}: the steps of the writes {last!r} and {saved!r} are not both in {marks}")
    look = Look(tuple(marks) if ordered else frozenset(marks), last, saved)
    if ordered:
        _agree(id, "order of the writes", look_of(marks, ordered=True), look)
    return look


@dataclass(frozen=True)
class Glance:
    """What a summary shows of a flow state. Native documents do not tell their steps, nor unknown keys unasked."""

    status: str
    blocked_on: str | None
    steps: int
    saved: str | None
    last: str | None

    @classmethod
    def at(cls, summary: FlowStateSummary) -> Glance:
        """Return what this summary shows."""
        return cls(
            summary.status, summary.blocked_on, summary.step_count, summary.extra.get(_SAVED), summary.extra.get(_LAST)
        )

    @classmethod
    def of(cls, lineage: Sequence[str], *, native: bool) -> Glance:
        """Return what the summary is to show of a state that these writes have made."""
        last = Mark(lineage[-1])
        blocked_on = last.text if last.status == "blocked" else None
        if native:
            return cls(last.status, blocked_on, 0, None, None)
        return cls(last.status, blocked_on, len(lineage), look_of(lineage, ordered=True).saved, last.text)


def _value(mark: Mark) -> Any:
    return {"mark": mark.text, "text": _text(mark.text, mark.size)}


@lru_cache(maxsize=512)
def _text(seed: str, size: int) -> str:
    return base64.b64encode(random.Random(seed).randbytes(size * 3 // 4)).decode()


def _agree(id: str, where: str, expected: object, found: object) -> None:
    if expected != found:
        raise TornError(f"{id}: {where} is {found!r:.300}, and is to be {expected!r:.300}")
