"""What an edit changed of a flow state, found by comparing JSON: 1, 1.0 and True differ, NaN equals itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from .._error_texts import in_extra, with_flow_id
from .._limits import exact
from ..errors import FlowStateEncodeError
from ..models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from ..query import check_extra
from ..unset import UNSET, Unset
from .encoded_state import (
    EncodedState,
    check_storable,
    detached,
    encode_cache,
    encode_events,
    encode_field,
    encode_state,
)
from .head import EXPIRE_AFTER, StatusChange, own_duration, own_duration_of
from .json_text import encode
from .wire import by_step, field_values_by_path, not_a, sound, sound_cache, sound_state, taken


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a partial write names: the parameters of `update`. Steps are removed before others are set.

    Raises:
        FlowStateEncodeError: A value is not of the type that the parameter takes.
        TypeError: `expire_after` is not a duration.
        ValueError: It is not above 0.
    """

    cache: Mapping[str, CacheEntry] = field(default_factory=dict)
    remove: Iterable[str] = ()
    events_triggered: Mapping[str, Any] = field(default_factory=dict)
    operation: Operation | Unset = UNSET
    blocked_on_step: BlockedOnStep | Unset | None = UNSET
    executions: Sequence[FlowStateExecution] | Unset = UNSET
    trace_context: str | Unset | None = UNSET
    extra: Mapping[str, str | int | float | bool | Unset] = field(default_factory=dict)
    expire_after: timedelta | Unset | None = UNSET
    new_steps: int | None = None
    """By how much the count of steps grows, if that is known."""
    new_bytes: int | None = None
    """By how many bytes of JSON the state grows, if that is known."""
    names_status: bool = field(init=False)
    """Whether it names what the status follows from."""
    names_expiry: bool = field(init=False)
    """Whether it names what the expiry follows from: the status, or the flow's own duration."""

    @classmethod
    def of_update(
        cls,
        id: str,
        *,
        cache: Mapping[str, CacheEntry] | None,
        remove: Iterable[str],
        events_triggered: Mapping[str, Any] | None,
        operation: Operation | Unset,
        blocked_on_step: BlockedOnStep | Unset | None,
        executions: Sequence[FlowStateExecution] | Unset,
        trace_context: str | Unset | None,
        extra: Mapping[str, str | int | float | bool | Unset] | None,
        expire_after: timedelta | Unset | None,
        is_detached: bool = False,
    ) -> Change:
        """Return what a call of `update` names, which has these parameters; errors name the flow state.

        `is_detached` says whether the values are copied, as is needed if the caller can change them before they are
        encoded.

        Raises:
            FlowStateEncodeError: A value is not of the type that the parameter takes.
            TypeError: `expire_after` is not a duration.
            ValueError: It is not above 0.
        """
        if is_detached:
            cache, events_triggered = detached(cache), detached(events_triggered)
            operation, blocked_on_step, executions = (
                detached(operation),
                detached(blocked_on_step),
                detached(executions),
            )
        try:
            return cls(
                cache={} if cache is None else cache,
                remove=remove,
                events_triggered={} if events_triggered is None else events_triggered,
                operation=operation,
                blocked_on_step=blocked_on_step,
                executions=executions,
                trace_context=trace_context,
                extra={} if extra is None else extra,
                expire_after=expire_after,
            )
        except FlowStateEncodeError as error:
            raise with_flow_id(error, id) from error.__cause__

    def detached(self) -> Change:
        """Return the change with copies of its values, which stay what they are if the caller changes his."""
        return replace(
            self,
            cache=detached(self.cache),
            events_triggered=detached(self.events_triggered),
            operation=detached(self.operation),
            blocked_on_step=detached(self.blocked_on_step),
            executions=detached(self.executions),
        )

    @property
    def status_change(self) -> StatusChange:
        """What the write makes of what the status follows from."""
        return StatusChange.of(self.operation, self.blocked_on_step, self.executions)

    @property
    def unset(self) -> frozenset[str]:
        """The unknown keys that it removes."""
        return frozenset(key for key, value in self.extra.items() if isinstance(value, Unset))

    @property
    def set_extra(self) -> dict[str, str | int | float | bool]:
        """The unknown keys that it sets, with their values."""
        return {key: value for key, value in self.extra.items() if not isinstance(value, Unset)}

    @property
    def most_names(self) -> str:
        """The parameter whose names take the most bytes, of the two whose names may be many."""
        return max(("extra", "remove"), key=lambda names: sum(map(len, getattr(self, names))))

    def own_duration_after(self, base: float | None) -> int | float | None:
        """Return the flow's own duration after the write, in milliseconds; `base` is that before it."""
        return own_duration(self.extra) if EXPIRE_AFTER in self.extra else base

    def values_by_path(self) -> Iterator[tuple[str, Any]]:
        """Yield each value that it sets, with its path as an application would write it."""
        for name in ("cache", "events_triggered", "operation", "blocked_on_step", "executions"):
            yield from field_values_by_path(getattr(self, name), name, name)
        for key, value in self.set_extra.items():
            yield in_extra(key), value

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", sound_cache(self.cache))
        object.__setattr__(self, "events_triggered", by_step(self.events_triggered, "events_triggered"))
        if not isinstance(self.extra, Mapping):
            raise not_a("a mapping by key", "extra", self.extra)
        object.__setattr__(
            self, "extra", {exact(key): exact(value) for key, value in taken(self.extra, "extra").items()}
        )
        if not isinstance(own := own_duration_of(self.expire_after), Unset):
            object.__setattr__(self, "extra", {**self.extra, EXPIRE_AFTER: own})
        for key, value in self.extra.items():
            check_extra(key, value)
        given: object = self.remove
        # A string is an iterable of strings too, and each letter would count as a step.
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise not_a("an iterable of names of steps", "remove", self.remove)
        object.__setattr__(self, "remove", tuple(map(exact, self.remove)))
        for step in self.remove:
            if not isinstance(step, str):
                raise not_a("the name of a step", "remove", step)
        if not isinstance(self.operation, (Operation, Unset)):
            raise not_a("an Operation", "operation", self.operation)
        if not (self.blocked_on_step is None or isinstance(self.blocked_on_step, (BlockedOnStep, Unset))):
            raise not_a("a BlockedOnStep or None", "blocked_on_step", self.blocked_on_step)
        if not isinstance(self.operation, Unset):
            object.__setattr__(self, "operation", sound(Operation, self.operation, "operation"))
        if not (self.blocked_on_step is None or isinstance(self.blocked_on_step, Unset)):
            object.__setattr__(self, "blocked_on_step", sound(BlockedOnStep, self.blocked_on_step, "blocked_on_step"))
        if not (self.trace_context is None or isinstance(self.trace_context, (str, Unset))):
            raise not_a("a string or None", "trace_context", self.trace_context)
        object.__setattr__(self, "trace_context", exact(self.trace_context))
        if not isinstance(self.executions, Unset):
            if not isinstance(self.executions, (list, tuple)):
                raise not_a("a sequence of FlowStateExecution", "executions", self.executions)
            executions = [sound(FlowStateExecution, e, f"executions[{i}]") for i, e in enumerate(self.executions)]
            object.__setattr__(self, "executions", executions)
        names_status = not (
            isinstance(self.operation, Unset)
            and isinstance(self.blocked_on_step, Unset)
            and isinstance(self.executions, Unset)
        )
        object.__setattr__(self, "names_status", names_status)
        object.__setattr__(self, "names_expiry", names_status or EXPIRE_AFTER in self.extra)


WHOLE: Final = "whole"
"""A difference that no partial write can express, such as another name or another order of steps."""

_FIELDS_OF_UPDATE: Final = {
    FlowState.wire_names[name]: name for name in ("operation", "blocked_on_step", "executions", "trace_context")
}


class Snapshot:
    """A flow state as it was before an edit, encoded, so that the edit cannot change it.

    Args:
        state: The state.
        encode: Encodes it by field, step and event. Two values must have the same text only if they are stored alike.
    """

    def __init__(self, state: FlowState, encode: Callable[[FlowState], EncodedState] = encode_state) -> None:
        self._encode = encode
        self._before = encode(state)
        self._unknown = dict(state.model_extra or {})

    def difference(self, state: FlowState) -> Change | str | None:
        """Return what was changed since: None, a Change for a partial write, or `WHOLE`.

        Raises:
            FlowStateEncodeError: The state has a value now that cannot be stored.
        """
        state = sound_state(state)
        before, after = self._before, self._encode(state)
        if before.fields == after.fields and _same(before.cache, after.cache) and _same(before.events, after.events):
            return None
        if list(after.events)[: len(before.events)] != list(before.events):
            return WHOLE  # an event is gone or has moved, and an update can only set events
        both = after.fields.keys() | before.fields.keys()
        changed = {key for key in both if after.fields.get(key) != before.fields.get(key)}
        fields = changed & _FIELDS_OF_UPDATE.keys()
        extra = {key: _own(state, key) for key in changed - fields}
        if not fields <= after.fields.keys() or not all(map(self._can_be_set, extra, extra.values())):
            return WHOLE
        removed = [step for step in before.cache if step not in after.cache]
        kept = [step for step in before.cache if step in after.cache]
        added = [step for step in after.cache if step not in before.cache]
        if kept + added != list(after.cache):  # steps in another order than an update would leave
            return WHOLE
        return Change(
            cache={s: e for s, e in state.cache.items() if after.cache[s] != before.cache.get(s)},
            remove=removed,
            events_triggered={
                s: e for s, e in state.events_triggered.items() if after.events[s] != before.events.get(s)
            },
            extra=extra,
            new_steps=len(added) - len(removed),
            new_bytes=after.size - before.size,
            **{_FIELDS_OF_UPDATE[key]: getattr(state, _FIELDS_OF_UPDATE[key]) for key in fields},
        )

    def _can_be_set(self, key: str, value: Any) -> bool:
        """Return whether an update can make the value of an unknown key what it is now."""
        if isinstance(value, Unset) and key in self._before.fields:
            value = self._unknown.get(key, UNSET)  # to be removed it must have been a field of the document's own
        try:
            check_extra(key, value)
        except FlowStateEncodeError:
            return False
        return True


def apply(change: Change, encoded: EncodedState) -> EncodedState:
    """Return the encoded state with what the change names.

    Raises:
        FlowStateEncodeError: A value cannot be stored without loss; `path` names it.
    """
    named = ((key, name, getattr(change, name)) for key, name in _FIELDS_OF_UPDATE.items())
    try:
        fields = {key: encode_field(name, value) for key, name, value in named if not isinstance(value, Unset)}
        fields.update({key: encode(value, in_extra(key)) for key, value in change.set_extra.items()})
        cache, events = encode_cache(change.cache), encode_events(change.events_triggered)
    except FlowStateEncodeError:
        check_storable(change.values_by_path())
        raise
    removed, unset = set(change.remove), change.unset
    kept = {step: text for step, text in encoded.cache.items() if step not in removed}
    return EncodedState(
        fields={**{key: text for key, text in encoded.fields.items() if key not in unset}, **fields},
        cache={**kept, **cache},
        events={**encoded.events, **events},
    )


def _own(state: FlowState, key: str) -> Any:
    """Return the value of an unknown key; UNSET if the state has none."""
    return (state.model_extra or {}).get(key, UNSET)


def _same(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> bool:
    return before == after and list(before) == list(after)
