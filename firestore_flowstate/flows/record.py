"""What a run keeps in ``operation.metadata``: ``run`` and ``inbox``.

``run`` has one writer, the holder of the lease. ``inbox`` has all others as writers: it says what they want of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Final, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from typing_extensions import TypedDict

from firestore_flowstate import FlowState, FlowStateDecodeError, Operation
from firestore_flowstate._limits import MAX_INTEGER, MIN_INTEGER

from .json_round_trip import fit_error

_CLOCKS_DIFFER_MILLISECONDS: Final = 60_000
"""A claim that is later than this from now was stored by a wrong clock, which is not to decide when a run is woken."""

_Part = TypeVar("_Part")
_CAMEL: Final = ConfigDict(alias_generator=to_camel)

Ended = Literal["done", "failed", "cancelled"]
WaitKind = Literal["interrupt", "sleep", "child", "retry"]


class Failure(TypedDict, total=False):
    """The failed attempts of a step that has no result yet.

    `attempts` is how many failed, `error` the last error as text, `next` when the next attempt begins, in milliseconds
    since the epoch.
    """

    attempts: int
    error: str
    next: int


class Todo(TypedDict, total=False):
    """What is left to do after the end of a run.

    `knock` is the key of this child in its parent, under which the parent is told that the child has ended. `children`
    are the ids of the children to cancel.
    """

    knock: str
    children: list[str]


@dataclass
class Wait:
    """What a run waits for, under its key.

    Attributes:
        kind: What kind of wait it is.
        n: Its place in the order in which waits began.
        until: When the wait ends by itself, in milliseconds since the epoch; of a child: when to load the child.
        since: When the wait began, in milliseconds since the epoch.
        schema: Of an interrupt: the JSON Schema of the answer, as text.
        child: The id of the child.
        knocked: Whether the child was loaded after its knock, and had not ended: it was retried meanwhile.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CAMEL

    kind: WaitKind
    n: int = 0
    until: int | None = None
    since: int | None = None
    schema: str | None = None
    child: str | None = None
    knocked: bool = False


@dataclass
class RunRecord:
    """``operation.metadata.run``: what the holder of the lease keeps.

    Attributes:
        owner: The token of the drive that holds the lease.
        last: The token of the drive whose final write this is.
        drives: How often the run was claimed.
        recoveries: How many claims in a row found an owner that had died, or a drive that had recorded nothing.
        fruitless: Whether the last drive was handed over without a new result.
        trying: The keys that a drive after a recovery was about to begin.
        code_version: `Flows.version` of the process that started the run.
        began: When the run first began, in milliseconds since the epoch.
        deadline: When the run is cancelled by the timeout of its flow, in milliseconds since the epoch.
        span: The span of the last drive, in the form of ``traceContext``.
        rewinds: How often the run was retried from a step.
        ended: How the run ended; None: it has not.
        parent: The key of this child in its parent.
        parent_id: The id of the parent, also if a save of Genkit JS has dropped the state's own key ``parent``.
        waits: What the run waits for, by key.
        retries: The failed attempts of steps that have no result yet, by key: attempts, error, next.
        intents: The keys of steps with ``at_most_once`` that were about to begin.
        failed_by: The keys of the recorded errors that ended the run.
        dropped_children: The ids of the children that the function does not wait for any more, by their keys. They go
            on, and are cancelled with the run.
        cancelled_children: The ids of the children that were cancelled with the run, by their keys.
        earlier_children: The keys of the children from before an end of the run that may go on, by their ids. They are
            cancelled with the run. One that ends while the run has ended can tell it nothing, so that the function,
            when it comes to one again, has to look. After a retry from a step another child may have its key.
        todo: What is left to do after the end.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CAMEL

    owner: str | None = None
    last: str | None = None
    drives: int = 0
    recoveries: int = 0
    fruitless: bool = False
    trying: list[str] = field(default_factory=list)
    code_version: str | None = None
    began: int | None = None
    deadline: int | None = None
    span: str | None = None
    rewinds: int = 0
    ended: Ended | None = None
    parent: str | None = None
    parent_id: str | None = None
    waits: dict[str, Wait] = field(default_factory=dict)
    retries: dict[str, Failure] = field(default_factory=dict)
    intents: list[str] = field(default_factory=list)
    failed_by: list[str] = field(default_factory=list)
    dropped_children: dict[str, str] = field(default_factory=dict)
    cancelled_children: dict[str, str] = field(default_factory=dict)
    earlier_children: dict[str, str] = field(default_factory=dict)
    todo: Todo | None = None

    def waits_in_order(self) -> list[tuple[str, Wait]]:
        """Return the waits in the order in which they began, which a native map does not keep."""
        return sorted(self.waits.items(), key=lambda item: item[1].n)

    def children(self) -> dict[str, str]:
        """Return the ids of the children that the run waits for, by their keys."""
        waits = self.waits_in_order()
        return {key: wait.child for key, wait in waits if wait.kind == "child" and wait.child is not None}

    def open_children(self, events: Mapping[str, Any]) -> dict[str, str]:
        """Return the ids of the children that go on, by their keys, also of those that the function has dropped.

        One that was dropped and has told its end is left out: a retry of this run would retry it too.

        Args:
            events: What is stored in ``eventsTriggered``.
        """
        dropped = {key: child for key, child in self.dropped_children.items() if not has_told(events.get(key), child)}
        return {**dropped, **self.children()}

    def first_wait(self) -> tuple[str, Wait] | None:
        """Return the first interrupt, else the first other wait: what the run is blocked on."""
        waits = self.waits_in_order()
        interrupts = [item for item in waits if item[1].kind == "interrupt"]
        return next(iter(interrupts or waits), None)


@dataclass
class Inbox:
    """``operation.metadata.inbox``: what others than the holder of the lease want of the run.

    Attributes:
        cancel: The reason, if the run is to be cancelled; it may be empty. None: the run is not to be cancelled.
        answers: The ``key`` that each answer was given with, by the key of the step.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CAMEL

    cancel: str | None = None
    answers: dict[str, str] = field(default_factory=dict)


def has_told(event: Any, child: str) -> bool:
    """Return whether what is stored under a key of ``eventsTriggered`` tells of an end of the child."""
    return isinstance(event, dict) and event.get("child") == child


def is_run(state: FlowState) -> bool:
    """Return whether a drive of these flows has written the state, or is to."""
    return _part(state, "run") is not None


def record_of(state: FlowState) -> RunRecord:
    """Return the record of the run; for a run that Genkit JS left, one made of what its state says.

    Raises:
        FlowStateDecodeError: What is stored is not of the form that drives write.
    """
    stored = _part(state, "run")
    return _record_of_genkit(state) if stored is None else _read(_records(), stored, "run", state)


def inbox_of(state: FlowState) -> Inbox:
    """Return the inbox of the run.

    Raises:
        FlowStateDecodeError: What is stored is not of the form that `resume` and `cancel` write.
    """
    return _read(_inboxes(), _part(state, "inbox") or {}, "inbox", state)


def metadata_of(operation: Operation, record: RunRecord, inbox: Inbox) -> dict[str, Any]:
    """Return the operation's metadata with the record and the inbox in it; what else is there stays."""
    there = operation.metadata if isinstance(operation.metadata, dict) else {}
    metadata = {**there, "run": _stored(record), "inbox": _stored(inbox)}
    if not metadata["inbox"]:
        del metadata["inbox"]
    return metadata


def ended_of(state: FlowState) -> Ended | None:
    """Return how the run ended, or None if it has not."""
    result = state.operation.result
    if not state.operation.done and (result is None or result.error is None):
        return None
    ended = (_part(state, "run") or {}).get("ended")
    if ended in ("done", "failed", "cancelled"):
        return ended  # type: ignore[no-any-return]  # one of the three
    return "done" if result is None or result.error is None else "failed"


def wake_at(state: FlowState) -> int | None:
    """Return ``wakeAt``: the moment from which a driver should look at the run, in milliseconds since the epoch."""
    return wake_in(state.model_extra or {})


def is_owned(state: FlowState, record: RunRecord) -> bool:
    """Return whether a drive holds the run, though its lease may be over.

    An owner without ``wakeAt`` holds nothing: a save of Genkit JS drops that key.
    """
    return record.owner is not None and wake_at(state) is not None


def open_interrupts(state: FlowState, record: RunRecord) -> list[str]:
    """Return the keys of the interrupts that have no answer yet, in the order in which they began."""
    return [
        key
        for key, wait in record.waits_in_order()
        if wait.kind == "interrupt" and key not in state.events_triggered and key not in state.cache
    ]


def wake_in(extra: Mapping[str, Any]) -> int | None:
    """Return ``wakeAt`` from the unknown keys of a state; None: the key is absent, or not a number.

    Others can write any value there. An infinity, or a number that is too large, becomes the nearest integer that
    Firestore holds.
    """
    value = extra.get("wakeAt")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:  # NaN
        return None
    return int(min(max(value, MIN_INTEGER), MAX_INTEGER))


def wake_now(state: FlowState, now: int) -> int:
    """Return `now` as a wake time that the run has not had, in milliseconds since the epoch.

    A wake time that the run has had would do nothing: the queue takes only one task of a name, which is made of the
    wake time. The run may have had any until its last claim, which a clock that is ahead may have written, and the one
    that it has.
    """
    claimed = state.executions[-1].start_time if state.executions else None
    if claimed is not None and now <= claimed < now + _CLOCKS_DIFFER_MILLISECONDS:
        now = int(claimed) + 1
    return now + 1 if now == wake_at(state) else now


def parent_of(state: FlowState) -> str | None:
    """Return the id of the run that started this one as a child."""
    for value in ((state.model_extra or {}).get("parent"), (_part(state, "run") or {}).get("parentId")):
        if isinstance(value, str):
            return value
    return None


def _record_of_genkit(state: FlowState) -> RunRecord:
    record = RunRecord()
    if state.blocked_on_step is not None and ended_of(state) is None:
        blocked = state.blocked_on_step
        record.waits[blocked.name] = Wait("interrupt", schema=blocked.schema_)
    return record


def _part(state: FlowState, name: str) -> dict[str, Any] | None:
    metadata = state.operation.metadata
    part = metadata.get(name) if isinstance(metadata, dict) else None
    return part if isinstance(part, dict) else None


def _read(reader: TypeAdapter[_Part], stored: Mapping[str, Any], name: str, state: FlowState) -> _Part:
    """Return a part of the metadata, checked, since anybody who may write to the collection can have written it."""
    try:
        part = reader.validate_python({key: value for key, value in stored.items() if value is not None})
    except ValidationError as error:
        raise FlowStateDecodeError(
            f"The run {state.flow_id!r} cannot be read: operation.metadata.{name}: {fit_error(error)}",
            flow_id=state.flow_id,
        ) from error
    return part


@cache
def _records() -> TypeAdapter[RunRecord]:
    return TypeAdapter(RunRecord)


@cache
def _inboxes() -> TypeAdapter[Inbox]:
    return TypeAdapter(Inbox)


def _stored(value: Any) -> dict[str, Any]:
    """Return the fields that are not empty, by their names on the wire."""
    stored: dict[str, Any] = {}
    for each in fields(value):
        item = getattr(value, each.name)
        if isinstance(item, dict):
            item = {key: _stored(member) if isinstance(member, Wait) else member for key, member in item.items()}
        if not item and not (item == "" and each.name == "cancel"):
            continue
        stored[to_camel(each.name)] = list(item) if isinstance(item, list) else item
    return stored
