"""Calling the function that `modify` was given, and refusing writes in it to the state that `modify` changes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from .errors import FlowStateError
from .models import FlowState

ChangeFunction: TypeAlias = Callable[[FlowState], Awaitable[FlowState | None] | FlowState | None]
"""Changes the state it is called with, or returns the one to be written in its place."""


@dataclass(eq=False)
class _Call:
    """One call that `modify` makes of a function. Tasks that the function starts inherit it, and may outlive it.

    Attributes:
        collection: What `changed` was given as such.
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
    result.__pydantic_private__ = copy(state.__pydantic_private__)  # so that it replaces the version that was loaded
    return result


def refuse_nested(ids: Iterable[str], *, collection: object) -> None:
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

    `refuse_nested` then finds that call on another thread too, which does not have this thread's context.
    """
    call = _INNERMOST.get()

    def run(*args: Any) -> Any:
        token = _INNERMOST.set(call)
        try:
            return function(*args)
        finally:
            _INNERMOST.reset(token)

    return run
