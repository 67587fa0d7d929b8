"""A run as the drive that holds its lease knows it: what is stored, and what is in hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from firestore_flowstate import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation

from .entries import order_of, value_of
from .record import Inbox, RunRecord, inbox_of, metadata_of, parent_of, record_of
from .values import ANYTHING, Values, exact_json, parsed_json, plain_json


@dataclass
class Image:
    """What is stored of a run, as far as its driver knows.

    Attributes:
        id: The id that the run is stored under.
        name: The name of the flow.
        version: The version of the stored state, which the next write is on top of.
        cache: The stored entries, by key.
        events: The stored answers, by key.
        operation: The operation; what is in its metadata beside `record` and `inbox` stays.
        record: ``operation.metadata.run``, which the driver keeps.
        inbox: ``operation.metadata.inbox``: what others want of the run.
        executions: The stretches, of which the last one goes on.
        parent: The id of the run that started this one.
        input: The input in its JSON form.
        has_input: Whether the state has an input: None may be one.
        start_time: When `start` was called, in milliseconds since the epoch.
        trace_context: The trace that the run was started in, as JSON text.
        loaded: The entries as they were loaded, which nobody else holds.
        given: By key, the JSON text of each loaded result that the function was given itself, and may have changed.
    """

    id: str
    name: str | None
    version: str
    cache: dict[str, CacheEntry]
    events: dict[str, Any]
    operation: Operation
    record: RunRecord
    inbox: Inbox
    executions: list[FlowStateExecution]
    parent: str | None
    input: Any
    has_input: bool
    start_time: int
    trace_context: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    loaded: Mapping[str, CacheEntry] = field(default_factory=dict)
    given: dict[str, bytes] = field(default_factory=dict)

    def numbers(self) -> Iterator[int]:
        """Yield the ``n`` of the recorded results: their places in the order in which they reach the function."""
        for entry in self.cache.values():
            if (n := order_of(entry)) is not None:
                yield n

    def result(self, key: str, entry: CacheEntry, kind: Any, values: Values) -> Any:
        """Return the result of the entry, validated as the type, as an object of the function's own.

        A container of a loaded entry is given to the function itself, and its JSON text is kept in case the function
        asks again. To write the text costs a third of reading a copy back from it, and few functions ask twice.

        Raises:
            ValidationError: The result does not fit the type.
        """
        form = value_of(entry)
        if kind in ANYTHING and isinstance(form, (dict, list)) and self.loaded.get(key) is entry:
            if (text := self.given.get(key)) is not None:
                return parsed_json(text)
            self.given[key] = plain_json(form) or exact_json(form)
            return form
        return values.read(form, kind)

    def lost(self, stored: Mapping[str, CacheEntry]) -> dict[str, CacheEntry]:
        """Return the entries that are not stored any more, or have lost their ``n``, with the values that they had.

        Entries that were loaded are copied, so that no function is given an object that is about to be written.
        """
        missing = missing_entries(stored, self.cache)
        for key, entry in missing.items():
            if self.loaded.get(key) is entry:
                text = self.given.get(key)
                missing[key] = entry.model_copy(update={} if text is None else {"value": parsed_json(text)})
        return missing

    def operation_with(self, record: RunRecord, **changes: Any) -> Operation:
        """Return the operation to store with the record."""
        operation = copy.copy(self.operation)
        for name, value in changes.items():
            setattr(operation, name, value)
        operation.metadata = metadata_of(self.operation, record, self.inbox)
        return operation


def image_of(id: str, state: FlowState) -> Image:
    """Return the image of a stored state.

    Raises:
        ValueError: The state was not stored.
        FlowStateDecodeError: Its ``operation.metadata`` is not of the form that drives write.
    """
    if state.version is None:
        raise ValueError(f"the state of {id!r} was not stored")
    return Image(
        id=id,
        name=state.name,
        version=state.version,
        cache=dict(state.cache),
        loaded=state.cache,
        events=dict(state.events_triggered),
        operation=state.operation,
        record=record_of(state),
        inbox=inbox_of(state),
        executions=list(state.executions),
        parent=parent_of(state),
        input=state.input,
        has_input=state.has("input"),
        start_time=int(state.start_time),
        trace_context=state.trace_context,
    )


def blocked_on(record: RunRecord) -> BlockedOnStep | None:
    """Return what ``blockedOnStep`` is to say; None: the run waits for nothing."""
    first = record.first_wait()
    if first is None:
        return None
    key, wait = first
    return BlockedOnStep(name=key) if wait.schema is None else BlockedOnStep(name=key, schema=wait.schema)


def missing_entries(stored: Mapping[str, CacheEntry], wanted: Mapping[str, CacheEntry]) -> dict[str, CacheEntry]:
    """Return those of the wanted entries that are not stored, or whose stored form has another ``n``."""
    return {
        key: entry for key, entry in wanted.items() if key not in stored or order_of(stored[key]) != order_of(entry)
    }
