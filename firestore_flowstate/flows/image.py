"""A run as the drive that holds its lease knows it: what is stored, and what is in hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from firestore_flowstate import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from firestore_flowstate.copies import Copier

from .entries import order_of, value_of
from .json_round_trip import ANYTHING, Values
from .record import Inbox, RunRecord, inbox_of, metadata_of, parent_of, record_of


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
        sorts_keys: Whether maps come back from the store with sorted keys, and so have these the first time too.
        copier: Makes copies of the state as it was loaded; None: its store does not tell how.
        given: The keys of the loaded results that the function was given themselves, and may have changed.
        spare: Entries of a copy that nobody was given yet.
        fresh: What results of this drive were read as before they were recorded, by key, with their entries and types.
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
    sorts_keys: bool = False
    copier: Copier | None = None
    given: set[str] = field(default_factory=set)
    spare: MutableMapping[str, CacheEntry] = field(default_factory=dict)
    fresh: dict[str, tuple[CacheEntry, Any, Any]] = field(default_factory=dict)

    def numbers(self) -> Iterator[int]:
        """Yield the ``n`` of the recorded results: their places in the order in which they reach the function."""
        for entry in self.cache.values():
            if (n := order_of(entry)) is not None:
                yield n

    def in_order(self, form: Any) -> Any:
        """Return the JSON form as a replay gets it, if the store sorts keys."""
        return _with_sorted_keys(form) if self.sorts_keys else form

    def keep(self, key: str, entry: CacheEntry, kind: Any, value: Any) -> None:
        """Keep what the result of an entry was read as, for the function that asks first, so that it is read once."""
        self.fresh[key] = entry, kind, value

    def result(self, key: str, entry: CacheEntry, kind: Any, values: Values) -> Any:
        """Return the result of the entry, validated as the type, as an object of the function's own.

        A container of a loaded entry is given to the function itself, if a copy of it can be made later: few functions
        ask twice, and a replay would be longer by a copy of each result.

        Raises:
            ValidationError: The result does not fit the type.
        """
        if self.fresh and (fresh := self.fresh.pop(key, None)) is not None and fresh[0] is entry and fresh[1] is kind:
            return fresh[2]
        form = value_of(entry)
        if self.loaded.get(key) is not entry:
            form = self.in_order(form)
        if (
            self.copier is None
            or kind not in ANYTHING
            or not isinstance(form, (dict, list))
            or self.loaded.get(key) is not entry
        ):
            return values.read(form, kind)
        if key not in self.given:
            self.given.add(key)
            return form
        if key not in self.spare:
            self.spare = self.copier().cache
        return value_of(self.spare.pop(key))

    def lost(self, stored: Mapping[str, CacheEntry]) -> dict[str, CacheEntry]:
        """Return the entries that are not stored any more, or have lost their ``n``, with the values that they had.

        Entries that were loaded are copied as they were, so that no function has an object that is about to be written.
        """
        missing = missing_entries(stored, self.cache)
        loaded = [key for key, entry in missing.items() if self.loaded.get(key) is entry]
        if self.copier is not None and loaded:
            copies = self.copier().cache
            missing.update((key, copies[key]) for key in loaded)
        return missing

    def operation_with(self, record: RunRecord, **changes: Any) -> Operation:
        """Return the operation to store with the record."""
        operation = copy.copy(self.operation)
        for name, value in changes.items():
            setattr(operation, name, value)
        operation.metadata = metadata_of(self.operation, record, self.inbox)
        return operation


def image_of(id: str, state: FlowState, *, copier: Copier | None = None) -> Image:
    """Return the image of a stored state.

    Args:
        id: The id of the run.
        state: The state.
        copier: Makes copies of the state; None: every result is given as a copy.

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
        input=_with_sorted_keys(state.input) if state.sorts_keys else state.input,
        has_input=state.has("input"),
        start_time=int(state.start_time),
        trace_context=state.trace_context,
        sorts_keys=state.sorts_keys,
        copier=copier,
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


def _with_sorted_keys(form: Any) -> Any:
    """Return the JSON form as a store gives it back that keeps no order of keys."""
    if isinstance(form, dict):
        return {key: _with_sorted_keys(form[key]) for key in sorted(form)}
    return [*map(_with_sorted_keys, form)] if isinstance(form, list) else form
