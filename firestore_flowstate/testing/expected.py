"""What a store should answer: what is due, what expires, what is a scalar, and what walkers and followers see.

This is computed from a plain dict of states, and on purpose shares no code with the stores of this package.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from ..models import FlowState
from ..unset import Unset

T = TypeVar("T")

_PATIENCE_SECONDS: Final = 20.0
"""How long a watched change may take to come."""


def extra_of(state: FlowState) -> Mapping[str, Any]:
    """Return the unknown keys of a state."""
    return state.model_extra or {}


def due_order(states: Mapping[str, FlowState], before: float) -> list[str]:
    """Return the ids of the states that are due at `before`, in milliseconds, earliest first, ties by id."""

    def moment(id: str) -> Any:
        return extra_of(states[id]).get("wakeAt")

    due = [id for id in states if type(moment(id)) in (int, float) and moment(id) <= before]
    return sorted(due, key=lambda key: (moment(key), key.encode("utf-8")))


def expires(state: FlowState) -> bool:
    """Return whether a state will expire, in a store without a setting for expiry."""
    own: Any = extra_of(state).get("expireAfter")
    has_ended = state.status in ("done", "failed")
    return has_ended and type(own) in (int, float) and math.isfinite(own) and own >= 0


def payload_keys(state: FlowState) -> set[str]:
    """Return the unknown keys of a state that `update` cannot remove by UNSET once the state was saved whole.

    Their values are not scalars of Firestore, so they are kept in the payload alone.
    """

    def is_scalar(value: Any) -> bool:
        if isinstance(value, str):
            return len(value.encode("utf-8", "surrogatepass")) < 1_500
        return type(value) in (bool, float) or (type(value) is int and -(2**63) <= value < 2**63)

    return {key for key, value in extra_of(state).items() if not is_scalar(value)}


def with_duration(state: FlowState, expire_after: timedelta | Unset | None) -> FlowState:
    """Return the state as a write with this `expire_after` leaves it."""
    if not isinstance(expire_after, Unset):
        own = -1 if expire_after is None else expire_after.total_seconds() * 1000
        state.expireAfter = int(own) if own == int(own) else own
    return state


@dataclass
class Walk:
    """A list that is paged through while others write.

    Attributes:
        limit: How many states a page has.
        expected: The ids that were there when the walk began.
        token: The token of the next page.
        seen: The ids on the pages so far.
        moved: The ids that were created, deleted or got another start since.
    """

    limit: int
    expected: set[str]
    token: str | None = None
    seen: list[str] = field(default_factory=list)
    moved: set[str] = field(default_factory=set)


class Follower(Generic[T]):
    """Somebody who watches, and must see the last item that there is, though perhaps not those before.

    Args:
        watch: What the store's `watch` or `watch_list` returned.
        is_last: Returns whether an item is the last that there is.
    """

    def __init__(self, watch: AsyncIterator[T], is_last: Callable[[T], bool]) -> None:
        self._watch = watch
        self._is_last = is_last
        self._seen: list[T] = []

    async def catch_up(self) -> T:
        """Take items until the last that there is. Return that one.

        Raises:
            TimeoutError: It does not come within 20 s.
        """
        while not self._seen or not self._is_last(self._seen[-1]):
            self._seen[:] = [await asyncio.wait_for(self._step(), _PATIENCE_SECONDS)]
        return self._seen[-1]

    async def give_up(self) -> None:
        """Begin to wait for an item, and cancel that: the store must not lose what comes meanwhile."""
        step = asyncio.ensure_future(self._step())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        if not step.cancelled():
            self._seen[:] = [step.result()]

    async def end(self) -> None:
        """Stop watching."""
        await self._watch.aclose()  # type: ignore[attr-defined]  # what stores return can be closed

    async def _step(self) -> T:
        return await anext(self._watch)
