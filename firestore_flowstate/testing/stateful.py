"""Random operations on a store and on a plain dict, which must agree.

The side of the dict shares no code with the stores of this package, on purpose: neither for the order, the pages and
the filters, nor for merging, for what is due and for what expires.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar, get_args

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ..errors import (
    FlowStateConflictError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateExistsError,
    FlowStateNotFoundError,
)
from ..models import CacheEntry, FlowState, FlowStatus
from ..pages import FlowStateSummary
from ..query import FlowStateQuery
from ..store import VersionedFlowStateStore
from ..unset import Unset
from .comparison import exactly
from .expected import Follower, Walk, due_order, expires, extra_of, payload_keys, with_duration
from .few_arguments import IDS, STEPS, Choice, caches, choices, durations, extras, few_states, ids, optional, steps
from .strategies import json_values

T = TypeVar("T")


class FlowStateStoreMachine(RuleBasedStateMachine):
    """A VersionedFlowStateStore against a dict.

    ::

        def test_store_agrees_with_a_dict(store):
            run_state_machine_as_test(lambda: FlowStateStoreMachine(store))

    The store must be empty, must have no setting for expiry, and nobody else may use it. Each run deletes what it has
    stored. States are stored under few ids, so that operations meet.
    """

    def __init__(self, store: VersionedFlowStateStore) -> None:
        super().__init__()
        self._store = store
        self._states: dict[str, FlowState] = {}
        self._versions: dict[str, str] = {}
        self._all_versions: dict[str, str] = {}  # each version with the id that it was made for
        self._payload: dict[str, set[str] | None] = {}  # None: it depends on how the last write was made
        self._walk: Walk | None = None
        self._followers: dict[str, Follower[Any]] = {}
        self._loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        """Leave the store empty."""
        try:
            self._run(self._store.delete_many(IDS))
            for follower in self._followers.values():
                self._run(follower.end())
        finally:
            self._loop.close()

    @rule(id=ids, state=few_states, expire_after=durations)
    def save(self, id: str, state: FlowState, expire_after: timedelta | Unset | None) -> None:
        """The last write wins."""
        state.flow_id = id
        expected = with_duration(copy.deepcopy(state), expire_after)
        self._run(self._store.save(id, state, expire_after=expire_after))
        assert exactly(expected) == exactly(state)
        self._wrote(id, state, state.version, payload=payload_keys(state))

    @rule(id=ids, state=few_states, choice=choices | st.none())
    def save_if_version(self, id: str, state: FlowState, choice: Choice | None) -> None:
        """Only the stored version is replaced."""
        state.flow_id = id
        version = None if choice is None else self._version(id, choice)
        if version == self._versions.get(id):
            self._run(self._store.save(id, state, if_version=version))
            self._wrote(id, state, state.version, payload=payload_keys(state))
        else:
            self._fails(FlowStateConflictError, self._store.save(id, state, if_version=version))

    @rule(id=ids, state=few_states, expire_after=durations)
    def create(self, id: str, state: FlowState, expire_after: timedelta | Unset | None) -> None:
        """Only what is not there is created."""
        state.flow_id = id
        expected = copy.deepcopy(state)
        if id in self._states:
            self._fails(FlowStateExistsError, self._store.create(id, state, expire_after=expire_after))
            assert exactly(expected) == exactly(state)
        else:
            self._run(self._store.create(id, state, expire_after=expire_after))
            assert exactly(with_duration(expected, expire_after)) == exactly(state)
            self._wrote(id, state, state.version, payload=payload_keys(state))

    @rule(
        id=ids,
        cache=caches,
        remove=st.lists(steps, max_size=2),
        events=st.dictionaries(steps, json_values(), max_size=2),
        fields=st.fixed_dictionaries({}, optional=optional),
        extra=extras,
        expire_after=durations,
        choice=choices | st.none(),
    )
    def update(
        self,
        id: str,
        cache: Mapping[str, CacheEntry],
        remove: Sequence[str],
        events: Mapping[str, Any],
        fields: Mapping[str, Any],
        extra: Mapping[str, Any],
        expire_after: timedelta | Unset | None,
        choice: Choice | None,
    ) -> None:
        """What is named is written, the rest stays."""
        given: dict[str, Any] = {"cache": cache, "remove": remove, "events_triggered": events, **fields}
        given |= {"extra": extra, "expire_after": expire_after}
        if choice is not None:
            given["if_version"] = self._version(id, choice)
        call = self._store.update(id, **given)
        if id not in self._states:
            # A text that was never a version of this state may be refused without a look at what is stored.
            never = choice is not None and self._all_versions.get(given["if_version"]) != id
            self._fails((FlowStateNotFoundError, FlowStateConflictError) if never else FlowStateNotFoundError, call)
        elif choice is not None and given["if_version"] != self._versions[id]:
            self._fails(FlowStateConflictError, call)
        elif self._cannot_be_taken_out(id, extra):
            self._fails(FlowStateEncodeError, call)
        else:
            try:
                version = self._run(call)
            except FlowStateEncodeError:
                assert self._payload[id] is None
                return
            state = with_duration(copy.deepcopy(self._states[id]), expire_after)
            pairs = [(step, entry) for step, entry in state.cache.items() if step not in remove]
            for step, entry in cache.items():
                place = next((i for i, (name, _) in enumerate(pairs) if name == step), len(pairs))
                pairs[place : place + 1] = [(step, entry)]
            state.cache = dict(pairs)
            for step, event in events.items():
                state.events_triggered[step] = event
            for name, value in fields.items():
                setattr(state, name, value)
            for key, value in extra.items():
                if not isinstance(value, Unset):
                    setattr(state, key, value)
                elif key in extra_of(state):
                    delattr(state, key)
            self._wrote(id, state, version, payload=self._payload[id])

    def _cannot_be_taken_out(self, id: str, extra: Mapping[str, Any]) -> bool:
        payload = self._payload[id] or set()
        return any(key in payload for key, value in extra.items() if isinstance(value, Unset))

    @rule(
        id=ids,
        new=few_states,
        kept=st.sets(st.sampled_from(STEPS)),
        extra=extras,
        whole=st.booleans(),
        by=st.sampled_from(["edit", "modify"]),
    )
    def change(self, id: str, new: FlowState, kept: set[str], extra: Mapping[str, Any], whole: bool, by: str) -> None:
        """What a block or a function did to the state is what is stored."""

        def rewrite(state: FlowState) -> None:
            for key, value in extra.items():
                if not isinstance(value, Unset):
                    setattr(state, key, value)
                elif key in extra_of(state):
                    delattr(state, key)
            state.cache = {**{step: entry for step, entry in state.cache.items() if step in kept}, **new.cache}
            state.events_triggered.update(new.events_triggered)
            state.operation = new.operation
            if whole:
                state.name, state.start_time = new.name, new.start_time

        if id not in self._states:
            self._fails(FlowStateNotFoundError, self._change(id, rewrite, by))
            return
        expected = copy.deepcopy(self._states[id])
        rewrite(expected)
        changed = exactly(expected) != exactly(self._states[id])
        state = self._run(self._change(id, rewrite, by))
        assert exactly(expected) == exactly(state)
        if changed:
            # The store decides whether it writes the state whole, and by that which keys UNSET can remove.
            nothing = not self._payload[id] and self._payload[id] is not None and not payload_keys(state)
            self._wrote(id, state, state.version, payload=set() if nothing else None)
        else:
            assert self._versions[id] == state.version

    @rule(id=ids, choice=choices | st.none())
    def delete(self, id: str, choice: Choice | None) -> None:
        """A state is deleted if it is the version asked for."""
        if choice is None:
            self._run(self._store.delete(id))
        elif (version := self._version(id, choice)) == self._versions.get(id):
            self._run(self._store.delete(id, if_version=version))
        else:
            self._fails(FlowStateConflictError, self._store.delete(id, if_version=version))
            return
        self._gone(id)

    @rule(states=st.dictionaries(ids, few_states, max_size=4))
    def save_many(self, states: dict[str, FlowState]) -> None:
        """Many are saved like one."""
        for id, state in states.items():
            state.flow_id = id
        self._run(self._store.save_many(states))
        for id, state in states.items():
            self._wrote(id, state, state.version, payload=payload_keys(state))

    @rule(some=st.lists(ids, max_size=4))
    def delete_many(self, some: list[str]) -> None:
        """Many are deleted like one."""
        self._run(self._store.delete_many(some))
        for id in some:
            self._gone(id)

    @rule(some=st.lists(ids, max_size=4))
    def load_many(self, some: list[str]) -> None:
        """Many are loaded like one."""
        expected = {id: self._states[id] for id in dict.fromkeys(some) if id in self._states}
        loaded = self._run(self._store.load_many(some))
        assert list(expected) == list(loaded)
        assert exactly(expected) == exactly(loaded)

    @rule(id=ids)
    def load(self, id: str) -> None:
        """What is there is loaded, with its version."""
        loaded = self._run(self._store.load(id))
        assert exactly(self._states.get(id)) == exactly(loaded)
        assert self._versions.get(id) == (loaded.version if loaded is not None else None)

    @rule(
        limit=st.integers(1, 4),
        name=st.sampled_from([None, None, "", "flow"]),
        status=st.none() | st.sets(st.sampled_from(get_args(FlowStatus)), min_size=1, max_size=3),
        owner=st.sampled_from([None, None, "me", "", 1, True]),
        after=st.sampled_from([None, None, 0, 1.0, 2**53]),
    )
    def query(self, limit: int, name: str | None, status: Any, owner: Any, after: float | None) -> None:
        """Pages, summaries, iteration and count have the states that match, in order."""
        expected = [
            id
            for id in self._order()
            if (name is None or self._states[id].name == name)
            and (status is None or self._states[id].status in status)
            and (owner is None or exactly(owner) == exactly(extra_of(self._states[id]).get("owner")))
            and (after is None or self._states[id].start_time >= after)
        ]
        where = {} if owner is None else {"owner": owner}
        query = FlowStateQuery(limit=limit, name=name, status=status, started_after=after, where=where)
        first = self._run(self._store.list(query))
        assert expected[:limit] == [state.flow_id for state in first.flow_states]
        assert (len(expected) > limit) == (first.continuation_token is not None)
        assert expected == [state.flow_id for state in self._run(self._iterated(query))]
        assert len(expected) == self._run(self._store.count(query))
        summaries = self._run(self._store.list_summaries(query)).summaries
        assert [(id, self._states[id].status) for id in expected[:limit]] == [(s.id, s.status) for s in summaries]

    @rule(before=st.sampled_from([-5, 0, 1, 1.25, 2**53, 2**53 + 1]), limit=st.integers(1, 4))
    def due(self, before: float, limit: int) -> None:
        """The pages have each state once whose time has come, and no other, with the time in its type."""
        expected = due_order(self._states, before)
        found: list[FlowStateSummary] = []
        while True:
            page = self._run(self._store.due(before, limit=limit, after=found[-1] if found else None))
            found += page
            if len(page) < limit:
                break
        assert expected == [summary.id for summary in found]
        wakes = [extra_of(self._states[id])["wakeAt"] for id in expected]
        assert exactly(wakes) == exactly([summary.extra["wakeAt"] for summary in found])

    @rule(id=ids)
    def start_following(self, id: str) -> None:
        """Somebody begins to watch: first the first page of the list, then a state."""
        if not self._followers:
            self._followers["first page"] = Follower(
                self._store.watch_list(FlowStateQuery(limit=3)),
                lambda page: (
                    [(id, self._states[id].status) for id in self._order()[:3]]
                    == [(summary.id, summary.status) for summary in page]
                ),
            )
        elif len(self._followers) < 3 and id not in self._followers:
            self._followers[id] = Follower(
                self._store.watch(id),
                lambda state: (None if state is None else state.version) == self._versions.get(id),
            )

    @precondition(lambda self: self._followers)
    @rule(gives_up=st.booleans())
    def follow(self, gives_up: bool) -> None:
        """Whoever watches sees the last item that there is, whatever came before, and however often it stopped."""
        for id, follower in self._followers.items():
            if gives_up:
                self._run(follower.give_up())
            else:
                last = self._run(follower.catch_up())
                if id in IDS:
                    assert exactly(self._states.get(id)) == exactly(last)

    @precondition(lambda self: self._walk is None)
    @rule(limit=st.integers(1, 3))
    def start_walking(self, limit: int) -> None:
        """A walk through all pages begins. The other rules write between the pages."""
        self._walk = Walk(limit, expected=set(self._states))
        self.walk_on()

    @precondition(lambda self: self._walk is not None)
    @rule()
    def walk_on(self) -> None:
        """No page repeats a state that did not move, and all pages together have every one that stayed."""
        walk = self._walk
        assert walk is not None
        page = self._run(self._store.list(FlowStateQuery(limit=walk.limit, continuation_token=walk.token)))
        found = [state.flow_id for state in page.flow_states]
        assert not {*found} & {*walk.seen} - walk.moved
        assert found == [id for id in self._order() if id in found]
        walk.seen += found
        walk.token = page.continuation_token
        if walk.token is None:
            assert walk.expected - walk.moved <= {*walk.seen}
            self._walk = None
        else:
            assert len(found) == walk.limit

    @invariant()
    def all_states_agree(self) -> None:
        """The whole list is what the dict has."""
        listed = self._run(self._store.list(FlowStateQuery(limit=300))).flow_states
        assert [exactly(self._states[id]) for id in self._order()] == [exactly(state) for state in listed]
        assert [self._versions[id] for id in self._order()] == [state.version for state in listed]
        assert [expires(state) for state in listed] == [state.expire_at is not None for state in listed]

    def _order(self) -> list[str]:
        return sorted(self._states, key=lambda key: (self._states[key].start_time, key.encode()), reverse=True)

    def _version(self, id: str, choice: Choice) -> str:
        if choice == "stored" and id in self._versions:
            return self._versions[id]
        return next(iter(self._all_versions), "nonsense") if choice == "old" else "nonsense"

    def _wrote(self, id: str, state: FlowState, version: str | None, *, payload: set[str] | None) -> None:
        assert version is not None
        assert version not in self._all_versions
        self._all_versions[version] = id
        self._versions[id] = version
        self._payload[id] = payload
        before = self._states.get(id)
        if self._walk is not None and (before is None or before.start_time != state.start_time):
            self._walk.moved.add(id)
        self._states[id] = copy.deepcopy(state)

    def _gone(self, id: str) -> None:
        self._versions.pop(id, None)
        if self._states.pop(id, None) is not None and self._walk is not None:
            self._walk.moved.add(id)

    async def _change(self, id: str, rewrite: Any, by: str) -> FlowState:
        if by == "modify":
            return await self._store.modify(id, rewrite)
        async with self._store.edit(id) as state:
            rewrite(state)
        return state

    async def _iterated(self, query: FlowStateQuery) -> list[FlowState]:
        return [state async for state in self._store.iterate(query)]

    def _fails(self, error: type[FlowStateError] | tuple[type[FlowStateError], ...], call: Awaitable[object]) -> None:
        try:
            self._run(call)
        except error:
            return
        raise AssertionError(f"{error} was to be raised")

    def _run(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self._loop.run_until_complete(wait())
