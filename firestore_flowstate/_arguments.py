"""What the arguments of a call must be, the same in every store; and the function that `modify` is given, and calls."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .errors import FlowStateError, shown
from .models import FlowState
from .unset import Unset

ChangeFunction: TypeAlias = Callable[[FlowState], Awaitable[FlowState | None] | FlowState | None]
"""Changes the state it is called with, or returns the one to be written in its place."""


def check_timeout(timeout: object) -> None:
    """Raise ValueError unless the timeout is None or a finite number of seconds above 0."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= sys.float_info.max:
        raise ValueError(f"timeout is a finite number of seconds above 0, not {shown(timeout)}")


def check_version(if_version: object, *, takes_none: bool = False) -> None:
    """Raise TypeError unless `if_version` is a version or UNSET; None is taken if `takes_none`.

    Anything else never is the stored version. If it raised a conflict, callers would try again and again.
    """
    if isinstance(if_version, (str, Unset)) or (if_version is None and takes_none):
        return
    if if_version is None:
        raise TypeError(
            "if_version is None, which is the version of a state that was never stored, so that there is nothing to "
            "change or delete: pass the version of a state that was loaded or saved, or leave if_version out"
        )
    raise TypeError(f"if_version is the version of a state, which is a string, not {shown(if_version)}")


def check_states(states: object) -> None:
    """Raise TypeError unless the states of a call for many are a mapping by id."""
    if not isinstance(states, Mapping):
        raise TypeError(f"states are a mapping of flow states by id, not {shown(states)}")


def check_change(change: object, attempts: object) -> None:
    """Raise TypeError if `modify` cannot call the change, and ValueError if `attempts` is not at least 1."""
    if not callable(change):
        raise TypeError(f"change is a function of the flow state, not {shown(change)}")
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ValueError(f"attempts is a whole number of at least 1, not {shown(attempts)}")


def check_keys(where: object) -> None:
    """Raise TypeError unless the unknown keys to filter by are texts; one text has its letters in place of keys."""
    if isinstance(where, (str, bytes)) or not isinstance(where, Iterable):
        raise TypeError(f"where has the keys that queries filter by, such as ['owner'], and is not {shown(where)}")


def check_progress(progress: object) -> None:
    """Raise TypeError unless the `progress` of a long call is None or can be called."""
    if progress is not None and not callable(progress):
        raise TypeError(f"progress is a function of a number, or None, not {shown(progress)}")


@dataclass(eq=False)
class _Call:
    """One call that `modify` makes of a function. Tasks that the function starts inherit it, and may outlive it.

    Attributes:
        collection: As for `changed`.
        id: The flow state.
        outer: The call around this one, if the function of one `modify` calls another.
        running: Whether the function has not returned yet. If it has, its tasks may write the state.
    """

    collection: object
    id: str
    outer: _Call | None
    running: bool = True


_INNERMOST: Final[ContextVar[_Call | None]] = ContextVar("firestore_flowstate_modify", default=None)


async def changed(change: ChangeFunction, state: FlowState, *, collection: object, id: str) -> FlowState:
    """Call the function; return the state it returned, else the one that it was given.

    Args:
        change: The function.
        state: The state as it was loaded.
        collection: Equal for stores that share their flow states, and different for all others.
        id: The flow state.
    """
    call = _Call(collection, id, _INNERMOST.get())
    token = _INNERMOST.set(call)
    try:
        result = change(state)
        if inspect.isawaitable(result):
            result = await result
    finally:
        call.running = False
        _INNERMOST.reset(token)
    if not isinstance(result, FlowState) or result is state:
        return state
    if (noted := state._noted()) is not None:
        result._note_stored(noted)  # so that it replaces the version that was loaded
    return result


def forbid_nested(ids: Iterable[str], *, collection: object) -> None:
    """Raise FlowStateError if one of the flow states is about to be written inside the function of its own `modify`.

    That write would make `modify` find a conflict at every attempt.
    """
    call = _INNERMOST.get()
    while call is not None:
        if call.running and call.collection == collection and call.id in ids:
            raise FlowStateError(
                f"The function that modify() calls for the flow state {call.id!r} writes that state itself, over which "
                "modify() would start again and again. Nothing was written: change the state that the function is "
                "given, or return the one to write.",
                flow_id=call.id,
            )
        call = call.outer


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function bound to the call of `modify` that is running now, if there is one.

    `forbid_nested` then finds that call on another thread too, which does not have this thread's context.
    """
    call = _INNERMOST.get()

    def run(*args: Any) -> Any:
        token = _INNERMOST.set(call)
        try:
            return function(*args)
        finally:
            _INNERMOST.reset(token)

    return run
