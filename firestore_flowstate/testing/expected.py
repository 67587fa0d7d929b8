"""What a store is to answer about unknown keys, by a plain dict of states: what is due, what expires, what is a scalar.

Written anew on purpose: it shares no code with the stores of this package.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Generic, TypeVar

from ..models import FlowState

T = TypeVar("T")

_PATIENCE: Final = 20.0  # seconds


def extra_of(state: FlowState) -> Mapping[str, Any]:
    """Return the unknown keys of a state."""
    return state.model_extra or {}


def due_order(states: Mapping[str, FlowState], before: float) -> list[str]:
    """Return the ids of what is due, earliest first, ties by id."""

    def moment(id: str) -> Any:
        return extra_of(states[id]).get("wakeAt")

    due = [id for id in states if type(moment(id)) in (int, float) and moment(id) <= before]
    return sorted(due, key=lambda key: (moment(key), key.encode("utf-8")))


def expires(state: FlowState) -> bool:
    """Return whether a state expires some day, in a store without a setting."""
    own: Any = extra_of(state).get("expireAfter")
    has_ended = state.status in ("done", "failed")
    return has_ended and type(own) in (int, float) and math.isfinite(own) and own >= 0


def payload_keys(state: FlowState) -> set[str]:
    """Return the unknown keys that a state that is saved whole keeps out of the reach of UNSET."""

    def is_scalar(value: Any) -> bool:
        if isinstance(value, str):
            return len(value.encode("utf-8", "surrogatepass")) < 1_500
        return type(value) in (bool, float) or (type(value) is int and -(2**63) <= value < 2**63)

    return {key for key, value in extra_of(state).items() if not is_scalar(value)}


class Follower(Generic[T]):
    """Somebody who watches: the last of what there was is never missed.

    Args:
        watch: What is watched.
        is_last: Tells whether an item is the last that there is.
    """

    def __init__(self, watch: AsyncIterator[T], is_last: Callable[[T], bool]) -> None:
        self._watch = watch
        self._is_last = is_last
        self._seen: list[T] = []

    async def catch_up(self) -> T:
        """Return the last, having taken all before it; another step before is given up in the middle."""
        while not self._seen or not self._is_last(self._seen[-1]):
            self._seen[:] = [await asyncio.wait_for(self._step(), _PATIENCE)]
        return self._seen[-1]

    async def give_up(self) -> None:
        """Begin to wait for a change, and stop it: what comes meanwhile is not lost."""
        step = asyncio.ensure_future(self._step())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        step.cancel()
        await asyncio.wait([step])
        if not step.cancelled():
            self._seen[:] = [step.result()]

    async def end(self) -> None:
        """Watch no more."""
        await self._watch.aclose()  # type: ignore[attr-defined]  # what stores return can be closed

    async def _step(self) -> T:
        return await anext(self._watch)
