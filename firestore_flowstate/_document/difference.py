"""What an edit changed of a flow state, found by comparing JSON: 1, 1.0 and True differ, NaN equals itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation, WireModel
from ..unset import UNSET, Unset
from .json_text import encode
from .paths import in_cache, in_events
from .wire import entry_of, execution_of, executions_to_wire, not_a, to_wire


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a partial write names: the parameters of `update`. Steps are removed before others are set.

    Raises:
        FlowStateEncodeError: A value is not of the type that the parameter takes.
    """

    cache: Mapping[str, CacheEntry] = field(default_factory=dict)
    remove: Iterable[str] = ()
    events_triggered: Mapping[str, Any] = field(default_factory=dict)
    operation: Operation | Unset = UNSET
    blocked_on_step: BlockedOnStep | Unset | None = UNSET
    executions: Sequence[FlowStateExecution] | Unset = UNSET
    trace_context: str | Unset | None = UNSET
    new_steps: int | None = None
    """By how much the count of steps grows, where that is known."""

    def __post_init__(self) -> None:
        cache = {step: entry_of(entry, in_cache(step)) for step, entry in _mapping("cache", self.cache).items()}
        object.__setattr__(self, "cache", cache)
        _mapping("events_triggered", self.events_triggered)
        if isinstance(self.remove, str):  # an iterable of strings too, of other ones than was meant
            raise not_a("an iterable of names of steps", "remove", self.remove)
        object.__setattr__(self, "remove", tuple(self.remove))
        for step in self.remove:
            if not isinstance(step, str):
                raise not_a("the name of a step", "remove", step)
        if not isinstance(self.operation, (Operation, Unset)):
            raise not_a("an Operation", "operation", self.operation)
        if not (self.blocked_on_step is None or isinstance(self.blocked_on_step, (BlockedOnStep, Unset))):
            raise not_a("a BlockedOnStep or None", "blocked_on_step", self.blocked_on_step)
        if not (self.trace_context is None or isinstance(self.trace_context, (str, Unset))):
            raise not_a("a string or None", "trace_context", self.trace_context)
        if not isinstance(self.executions, Unset):
            if not isinstance(self.executions, (list, tuple)):
                raise not_a("a sequence of FlowStateExecution", "executions", self.executions)
            executions = [execution_of(execution, f"executions[{i}]") for i, execution in enumerate(self.executions)]
            object.__setattr__(self, "executions", executions)


WHOLE: Final = "whole"
"""A difference that no partial write can express, such as another name or another order of steps."""

_FIELDS_OF_UPDATE: Final = ("operation", "blocked_on_step", "executions", "trace_context")


class Snapshot:
    """A flow state as it was before an edit, as JSON, so that the edit cannot change it."""

    def __init__(self, state: FlowState) -> None:
        self._cache = _encoded_cache(state)
        self._events = _encoded_events(state)
        self._fields = _encoded_fields(state)

    def difference(self, state: FlowState) -> Change | str | None:
        """Return what was changed since: None, a Change for a partial write, or `WHOLE`.

        Raises:
            FlowStateEncodeError: The state has a value now that cannot be stored.
        """
        cache, events, fields = _encoded_cache(state), _encoded_events(state), _encoded_fields(state)
        if cache == self._cache and list(cache) == list(self._cache) and events == self._events:
            if fields == self._fields:
                return None
        elif not _appends(self._events, events):
            return WHOLE
        changed = {key for key in fields.keys() | self._fields.keys() if fields.get(key) != self._fields.get(key)}
        if not changed <= set(_FIELDS_OF_UPDATE) or any(key not in fields for key in changed):
            return WHOLE
        removed = [step for step in self._cache if step not in cache]
        kept = [step for step in self._cache if step in cache]
        added = [step for step in cache if step not in self._cache]
        if kept + added != list(cache):  # steps in another order than an update would leave
            return WHOLE
        return Change(
            cache={s: entry_of(e) for s, e in state.cache.items() if cache[s] != self._cache.get(s)},
            remove=removed,
            events_triggered={s: e for s, e in state.events_triggered.items() if events[s] != self._events.get(s)},
            new_steps=len(added) - len(removed),
            **{key: getattr(state, key) for key in _FIELDS_OF_UPDATE if key in changed},
        )


def _mapping(name: str, value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise not_a("a mapping by name of step", name, value)
    return value


def _appends(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> bool:
    """Return whether setting keys alone leads from one to the other, order included."""
    return list(after)[: len(before)] == list(before)


def _encoded_cache(state: FlowState) -> dict[str, bytes]:
    return {
        step: encode(to_wire(entry_of(entry, in_cache(step))), in_cache(step)) for step, entry in state.cache.items()
    }


def _encoded_events(state: FlowState) -> dict[str, bytes]:
    return {step: encode(event, in_events(step)) for step, event in state.events_triggered.items()}


def _encoded_fields(state: FlowState) -> dict[str, bytes]:
    """Return every other present field by Python name; unknown keys under their name and a dot in front."""
    encoded = {}
    for name in state.wire_names:
        if name in ("cache", "events_triggered") or not state.has(name):
            continue
        value = getattr(state, name)
        if name == "executions":
            value = executions_to_wire(value)
        elif isinstance(value, WireModel):
            value = to_wire(value)
        encoded[name] = encode(value, name)
    for key, value in (state.model_extra or {}).items():
        encoded[f".{key}"] = encode(value, key)
    return encoded
