"""Invariant 7 of the format: a part never expires before its root, whenever writers die and whoever comes between."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateExistsError,
    FlowStateNotFoundError,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate._document.head import expires_at
from firestore_flowstate._document.root import read_root
from firestore_flowstate._document.stored_values import PARTS
from firestore_flowstate._operations.orphans import collect
from firestore_flowstate._operations.repacking import compact
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.messages import StructuredQuery, Write
from firestore_flowstate._rpc.outcome import Refused

ID: Final = "flow"
DAY: Final = timedelta(days=1)
KEYS: Final = {"a": "MDEyMzQ1Njc4OWFiY2RlZg==", "b": "ZmVkY2JhOTg3NjU0MzIxMA=="}
_CALLS: Final = ("commit", "get", "batch_get", "run_query")

Store = FirestoreFlowStateStore


class Killed(RuntimeError):  # noqa: N818  # what has happened to it, not what it did wrong
    """The process of a writer has ended."""


@dataclass
class Scene:
    """What the actors share.

    Attributes:
        stores: The stores that they may use, on one collection: with other keys and other expiries.
        held: The state as one of them has read it last.
        sent: Every commit so far.
    """

    stores: list[Store]
    held: FlowState | None = None
    sent: list[list[Write]] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """What one actor does.

    Attributes:
        does: What the actor does.
        store: Which store it does that with.
        meets: What another actor does in between, with which store, and before which of the calls.
        dies: Before which of its commits the actor is killed.
        repeats: Which of all commits so far arrives once more afterwards, late.
    """

    does: str
    store: int = 0
    meets: tuple[str, int, int] | None = None
    dies: int | None = None
    repeats: int | None = None


class Actor:
    """A connection of one actor, in which others come between, and which ends when the actor is killed."""

    def __init__(self, scene: Scene, store: Store, step: Step) -> None:
        self._scene, self._store, self._step = scene, store, step
        self._connection: Connection = store._connection
        self._calls = self._commits = 0

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self._connection, name)
        if name not in _CALLS:
            return method

        async def call(*args: Any, **options: Any) -> Any:
            meets = self._step.meets
            self._calls += 1
            if meets is not None and self._calls == meets[2]:
                await play(self._scene, Step(meets[0], meets[1]))
            if name == "commit":
                if self._step.dies is not None and self._commits >= self._step.dies:
                    raise Killed
                self._commits += 1
                self._scene.sent.append([_copy(write) for write in args[0]])
            answer = await method(*args, **options)
            if name == "commit":
                await check(self._store)
            return answer

        return call


def _copy(write: Write | bytes) -> Write:
    return Write.FromString(write if isinstance(write, bytes) else write.SerializeToString())


def large(scene: Scene, *, done: bool) -> FlowState:
    """Return a state of several parts, in several commits."""
    state = FlowState.start(flow_id=ID)
    state.cache = {f"{uuid.uuid4()}": CacheEntry(value="x" * 25_000) for _ in range(4)}
    state.operation = Operation(name=ID, done=done, metadata="m" * 5_000)
    return state


async def _save(store: Store, scene: Scene, *, done: bool, versioned: bool) -> None:
    state = large(scene, done=done)
    if versioned and scene.held is not None:
        await store.save(ID, state, if_version=scene.held.version)
    else:
        await store.save(ID, state)


async def _update(store: Store, scene: Scene, *, versioned: bool, **change: Any) -> None:
    if versioned and scene.held is not None and scene.held.version is not None:
        change["if_version"] = scene.held.version
    await store.update(ID, **change)


async def _edit(store: Store, scene: Scene, *, done: bool) -> None:
    async with store.edit(ID) as state:
        state.operation = Operation(name=ID, done=done)
        state.cache["edited"] = CacheEntry(value="e" * 6_000)


async def _load(store: Store, scene: Scene) -> None:
    scene.held = await store.load(ID)


async def _compact(store: Store, scene: Scene) -> None:
    collection, deadline = await store._begin()
    await compact(collection, ID, deadline)


async def _gc(store: Store, scene: Scene) -> None:
    await collect((await store._begin())[0], dry_run=False, min_age=timedelta(0))


async def _migrate(store: Store, scene: Scene) -> None:
    destination = Store(store.settings.model_copy(update={"shards": 3, "write_shards": None}))
    destination._connection = store._connection
    await store.migrate(destination)


def _step_of(size: int) -> dict[str, CacheEntry]:
    return {uuid.uuid4().hex: CacheEntry(value="s" * size)}


ENDED: Final = Operation(name=ID, done=True)
RESUMED: Final = Operation(name=ID, done=False, metadata="r" * 5_000)
ACTS: Final[dict[str, Callable[[Store, Scene], Awaitable[object]]]] = {
    "load": _load,
    "save ended": lambda store, scene: _save(store, scene, done=True, versioned=False),
    "save ended on a version": lambda store, scene: _save(store, scene, done=True, versioned=True),
    "save running": lambda store, scene: _save(store, scene, done=False, versioned=False),
    "save running on a version": lambda store, scene: _save(store, scene, done=False, versioned=True),
    "save small": lambda store, scene: store.save(ID, FlowState.start(flow_id=ID)),
    "end": lambda store, scene: _update(store, scene, versioned=False, operation=ENDED),
    "end a version": lambda store, scene: _update(store, scene, versioned=True, operation=ENDED),
    "resume": lambda store, scene: _update(store, scene, versioned=False, operation=RESUMED),
    "resume a version": lambda store, scene: _update(store, scene, versioned=True, operation=RESUMED),
    "end in an edit": lambda store, scene: _edit(store, scene, done=True),
    "resume in an edit": lambda store, scene: _edit(store, scene, done=False),
    "last longer": lambda store, scene: _update(store, scene, versioned=False, expire_after=60 * DAY),
    "last for a day, a version": lambda store, scene: _update(store, scene, versioned=True, expire_after=DAY),
    "large step": lambda store, scene: _update(store, scene, versioned=False, cache=_step_of(30_000)),
    "large step on a version": lambda store, scene: _update(store, scene, versioned=True, cache=_step_of(30_000)),
    "step": lambda store, scene: _update(store, scene, versioned=False, cache=_step_of(2_500)),
    "compact": _compact,
    "rewrap": lambda store, scene: store.rewrap(),
    "migrate": _migrate,
    "gc": _gc,
    "delete": lambda store, scene: store.delete(ID),
}


async def play(scene: Scene, step: Step) -> None:
    """Let one actor do what it does, until it has done so or is killed."""
    store = scene.stores[step.store]
    actor = Actor(scene, store, step)
    twin = Store(store.settings)
    twin._connection = actor  # type: ignore[assignment]  # the same calls
    with suppress(Killed, FlowStateConflictError, FlowStateNotFoundError, FlowStateExistsError):
        await ACTS[step.does](twin, scene)
    if step.repeats is not None and scene.sent:
        late = scene.sent[step.repeats % len(scene.sent)]
        try:
            await store._connection.commit(late, deadline=Deadline.after(10), flow_id=ID)
        except Refused:
            return
        await check(store)


async def check(store: Store) -> None:
    """Look at what is stored: a writer that is killed now leaves it like that."""
    collection, _ = await store._begin()
    connection: Connection = collection.connection
    query = StructuredQuery()
    query.from_.add().collection_id = PARTS
    document, after = None, await connection.get(collection.name(ID), deadline=Deadline.after(10), flow_id=ID)
    while document is None or document.update_time != after.update_time:  # else another has written in between
        if after is None:
            return
        document = after
        found = await connection.run_query(collection.name(ID), query, deadline=Deadline.after(10))
        after = await connection.get(collection.name(ID), deadline=Deadline.after(10), flow_id=ID)
        if after is None:
            return
    expiries = {part.name.rpartition("/")[2]: expires_at(part.fields) for part in found}
    root = read_root(document)
    named = {name for ref in root.refs for name in ref.part_names()}
    assert set() == named - expiries.keys(), "the root names parts that are not there"
    assert root.part_count >= len(named)
    root_expires = expires_at(document.fields)
    for name in named:
        expires = expiries[name]
        assert expires is None or (root_expires is not None and root_expires <= expires), (name, expires, root_expires)


EXAMPLES: Final = 400 if os.environ.get("FLOWSTATE_THOROUGH") else 40
"""How many plans are played; `make torture` sets FLOWSTATE_THOROUGH, which plays more."""
PLANS: Final = st.lists(
    st.builds(
        Step,
        does=st.sampled_from(list(ACTS)),
        store=st.integers(0, 3),
        meets=st.none() | st.tuples(st.sampled_from(list(ACTS)), st.integers(0, 3), st.integers(1, 4)),
        dies=st.none() | st.integers(0, 3),
        repeats=st.none() | st.integers(0, 30),
    ),
    min_size=2,
    max_size=8,
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything happen with less: parts of 20 KB in requests of 48 KB, and compactions at 12 KB."""
    monkeypatch.setattr("firestore_flowstate._document.stored_values.PART_BYTES", 20_000)
    monkeypatch.setattr("firestore_flowstate._document.stored_values.INLINE_BYTES", 4_000)
    monkeypatch.setattr("firestore_flowstate._document.serialized.ROOT_BYTES", 12_000)
    monkeypatch.setattr("firestore_flowstate._document.compaction._MOVE_BYTES", 3_000)
    monkeypatch.setattr("firestore_flowstate._operations.updating.COMPACT_WEIGHT", 12_000)


async def stores(given: FlowStateSettings) -> AsyncIterator[Store]:
    """Yield stores on a collection of their own: with both keys, two expiries and none."""
    common = {"collection": f"c{uuid.uuid4().hex}", "max_request_bytes": 64 * 1024, "compress_over": 2**40}
    for key, expire_after in (("a", DAY), ("b", DAY), ("a", 30 * DAY), ("b", None)):
        update = {**common, "keys": KEYS, "current_key": key, "expire_after": expire_after}
        yield Store(given.model_copy(update=update))


@pytest.mark.usefixtures("small")
def test_no_part_expires_before_its_root(flow_state_settings: FlowStateSettings) -> None:
    """None does after any commit of any plan, whose actors die, come between each other and send commits twice."""

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
    @given(PLANS)
    @example([Step("save ended"), Step("resume", repeats=0)])  # a commit of parts that went ahead comes late
    @example([Step("load"), Step("resume a version", meets=("rewrap", 1, 2))])
    @example([Step("load"), Step("large step on a version", meets=("rewrap", 1, 2)), Step("end a version", store=2)])
    @example([Step("resume in an edit", meets=("rewrap", 1, 2))])
    @example([Step("end", store=2, dies=1)])
    def run(plan: list[Step]) -> None:
        asyncio.run(play_all(plan))

    async def play_all(plan: list[Step]) -> None:
        scene = Scene([store async for store in stores(flow_state_settings)])
        first = scene.stores[0]
        async with first:
            for store in scene.stores[1:]:
                store._connection = first._connection
            scene.held = large(scene, done=True)
            await first.save(ID, scene.held)
            for step in plan:
                await play(scene, step)

    run()
