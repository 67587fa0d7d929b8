"""Two operations on one flow state: each call to Firestore is let through in a chosen order, or held up by others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate._document.stored_values import PARTS
from firestore_flowstate._rpc.calling import serialized_commit
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.messages import CommitRequest, Write

_CALLS = ("commit", "get", "batch_get", "run_query")


class Schedule:
    """Lets the calls of two actors through, one at a time, by a sequence of choices.

    When both wait the next choice decides. When one has ended the other goes on.
    """

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices = list(choices)
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        self._running = 0
        self._under_way = False
        self.trace: list[tuple[int, str]] = []

    async def run(self, *actors: Awaitable[Any]) -> list[Any]:
        """Return what each actor returned or raised."""
        self._running = len(actors)
        return await asyncio.gather(*(self._actor(actor) for actor in actors), return_exceptions=True)

    async def gate(self, actor: int, call: str) -> None:
        """Wait for the turn of an actor's call."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(actor, []).append(turn)
        self._choose()
        await turn
        self.trace.append((actor, call))

    def leave(self) -> None:
        """Say that a call that was let through has ended."""
        self._under_way = False
        self._choose()

    async def _actor(self, actor: Awaitable[Any]) -> Any:
        try:
            return await actor
        finally:
            self._running -= 1
            self._choose()

    def _choose(self) -> None:
        if self._under_way or not self._waiting or len(self._waiting) < self._running:
            return
        self._under_way = True
        actors = sorted(self._waiting)
        chosen = actors[0]
        if len(actors) > 1:
            chosen = actors[self._choices.pop(0) % len(actors)] if self._choices else actors[-1]
        calls = self._waiting.pop(chosen)
        calls.pop(0).set_result(None)
        if calls:
            self._waiting[chosen] = calls


class GatedConnection:
    """A connection of an actor whose calls wait for their turn."""

    def __init__(self, connection: Connection, schedule: Schedule, actor: int) -> None:
        self._connection = connection
        self._schedule = schedule
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._connection, name)
        if name not in _CALLS:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._schedule.gate(self._actor, name)
            try:
                return await method(*args, **kwargs)
            finally:
                self._schedule.leave()

        return call


def gated(store: FirestoreFlowStateStore, schedule: Schedule, actor: int) -> FirestoreFlowStateStore:
    """Return a store on the same connection whose calls wait for their turn."""
    twin = FirestoreFlowStateStore(store.settings)
    twin._connection = GatedConnection(store._connection, schedule, actor)  # type: ignore[assignment]  # the same calls
    return twin


async def before_commits(
    store: FirestoreFlowStateStore, id: str, others: Callable[[], Awaitable[object]], *, times: int
) -> list[int]:
    """Let others act before the next commits of a store that write the root of a flow state.

    Args:
        store: The store, whose connection the others do not use.
        id: The flow state.
        others: What they do.
        times: Before how many commits they do it.

    Returns:
        A list that has one element more with each such commit.
    """
    collection, _ = await store._begin()
    commit, sent = collection.connection.commit, list[int]()

    async def after_others(writes: Sequence[Write | bytes], **options: Any) -> Any:
        roots = [write.update.name for write in CommitRequest.FromString(serialized_commit("", writes)).writes]
        if collection.name(id) in roots:
            sent.append(len(sent))
            if len(sent) <= times:
                await others()
        return await commit(writes, **options)

    collection.connection.commit = after_others  # type: ignore[method-assign]  # the same call
    return sent


async def before_parts(
    store: FirestoreFlowStateStore, others: Callable[[], Awaitable[object]], *, times: int
) -> list[int]:
    """Let others act before the next reads of parts by a store.

    Args:
        store: The store, whose connection the others do not use.
        others: What they do.
        times: Before how many reads they do it.

    Returns:
        A list that has one element more with each read of parts.
    """
    collection, _ = await store._begin()
    batch_get, asked = collection.connection.batch_get, list[int]()

    async def after_others(names: Sequence[str], **options: Any) -> Any:
        if any(f"/{PARTS}/" in name for name in names):
            asked.append(len(asked))
            if len(asked) <= times:
                await others()
        return await batch_get(names, **options)

    collection.connection.batch_get = after_others  # type: ignore[method-assign]  # the same call
    return asked
