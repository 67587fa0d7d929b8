"""The suites of the contracts notice the faults that stores have had, and ask nothing that is not in the contract."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FlowState,
    FlowStateConflictError,
    FlowStateQuery,
    FlowStateQueryResponse,
    InvalidContinuationTokenError,
    MemoryFlowStateStore,
)
from firestore_flowstate.models import StoredAs
from firestore_flowstate.testing import FlowStateStoreTests, VersionedFlowStateStoreTests
from firestore_flowstate.testing.conformance.states import VALUES


class OnlyTheContract:
    """A store with the three methods of Genkit's contract, with its parameters, and nothing else."""

    def __init__(self) -> None:
        self._store = MemoryFlowStateStore()

    async def save(self, id: str, state: FlowState) -> None:
        await self._store.save(id, state.model_copy() if isinstance(state, FlowState) else state)

    async def load(self, id: str) -> FlowState | None:
        return await self._store.load(id)

    async def list(self, query: FlowStateQuery | None = None) -> FlowStateQueryResponse:
        return await self._store.list(query)


class TestOnlyTheContract(FlowStateStoreTests):
    @pytest.fixture
    def store(self) -> OnlyTheContract:
        return OnlyTheContract()


class TokenIsTheStart(MemoryFlowStateStore):
    """Loses what shares a start with the last state of a page, as Genkit's store does."""

    async def list(self, query: FlowStateQuery | None = None, **_: Any) -> FlowStateQueryResponse:
        query = query or FlowStateQuery()
        before = float(query.continuation_token) if query.continuation_token else None
        page = await super().list(replace(query, continuation_token=None, started_before=before))
        token = str(page.flow_states[-1].start_time) if page.continuation_token else None
        return replace(page, continuation_token=token)


class TokenOnEveryFullPage(MemoryFlowStateStore):
    """Promises a page behind a full last one, which is empty, as Genkit's store does."""

    async def list(self, query: FlowStateQuery | None = None, **_: Any) -> FlowStateQueryResponse:
        query = query or FlowStateQuery()
        if query.continuation_token == "end":  # noqa: S105  # no secret: the token of a page
            return FlowStateQueryResponse(flow_states=[])
        page = await super().list(query)
        full = len(page.flow_states) == query.limit
        return replace(page, continuation_token=page.continuation_token or ("end" if full else None))


class GarbageIsAnEmptyPage(MemoryFlowStateStore):
    """Takes a wrong token for the end, as Genkit's store does."""

    async def list(self, query: FlowStateQuery | None = None, **_: Any) -> FlowStateQueryResponse:
        try:
            return await super().list(query)
        except InvalidContinuationTokenError:
            return FlowStateQueryResponse(flow_states=[])


class FalsyIsEmpty(MemoryFlowStateStore):
    """Stores a step that returned 0, false, "" or null as one that returned nothing, as Genkit's store does."""

    async def save(self, id: str, state: FlowState, **options: Any) -> None:
        if isinstance(state, FlowState):
            state = state.model_copy(deep=True)
            state.cache = {step: e if e.value else CacheEntry(empty=True) for step, e in state.cache.items()}
        await super().save(id, state, **options)


class NaNIsNull(MemoryFlowStateStore):
    """Stores NaN as null, as JSON does that is strict on one side only."""

    async def load(self, id: str, **_: Any) -> FlowState | None:
        state = await super().load(id)
        if state is None:
            return None
        text = json.dumps(state.model_dump(by_alias=True))
        return FlowState.model_validate(json.loads(text, parse_constant=lambda name: None))


class LiveObjects(MemoryFlowStateStore):
    """Keeps what it was given and hands it out."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, FlowState] = {}

    async def save(self, id: str, state: FlowState, **options: Any) -> None:
        await super().save(id, state, **options)
        self.live[id] = state

    async def load(self, id: str, **_: Any) -> FlowState | None:
        return self.live.get(id)


class SortsSteps(MemoryFlowStateStore):
    """Sorts steps, as a database does that keeps them as fields of a map."""

    async def load(self, id: str, **_: Any) -> FlowState | None:
        state = await super().load(id)
        if state is not None:
            state.cache = dict(sorted(state.cache.items()))
        return state


class StartIsAFloat(MemoryFlowStateStore):
    """Makes a float of the start, as JavaScript does, which has one type of number."""

    async def load(self, id: str, **_: Any) -> FlowState | None:
        state = await super().load(id)
        if state is not None:
            state.start_time = float(state.start_time)
        return state


class LastWriteWins(MemoryFlowStateStore):
    """Ignores the version that a write asks for."""

    async def save(self, id: str, state: FlowState, **_: Any) -> None:
        await super().save(id, state)


class SameStateSameVersion(MemoryFlowStateStore):
    """Keeps the version at a write that changes nothing, as Firestore keeps update_time."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, tuple[FlowState, StoredAs | None]] = {}

    async def save(self, id: str, state: FlowState, **options: Any) -> None:
        before, noted = self.written.get(id, (None, None))
        await super().save(id, state, **options)
        if before == state and noted is not None:
            state._note_stored(noted)
        self.written[id] = (state.model_copy(deep=True), state._noted())


class EditOverwrites(MemoryFlowStateStore):
    """Writes back the whole state, whoever wrote meanwhile."""

    async def modify(self, id: str, change: Callable[[FlowState], Any], **_: Any) -> FlowState:
        state = await self.load(id)
        assert state is not None
        if inspect.isawaitable(waiting := change(state)):
            await waiting
        await self.save(id, state)
        return state


class NumbersAreBools(MemoryFlowStateStore):
    """Compares with Python's ==, to which True is 1."""

    async def list(self, query: FlowStateQuery | None = None, **_: Any) -> FlowStateQueryResponse:
        where = (query or FlowStateQuery()).where
        states = (await super().list(FlowStateQuery(limit=300))).flow_states
        found = [s for s in states if all((s.model_extra or {}).get(k) == v for k, v in where.items())]
        return FlowStateQueryResponse(flow_states=found)


class PartialWriteIsWhole(MemoryFlowStateStore):
    """Replaces the cache when it should merge."""

    async def update(self, id: str, **parameters: Any) -> str:
        state = await self.load(id)
        if state is not None and parameters.get("cache"):
            return await super().update(id, **{**parameters, "remove": [*state.cache]})
        return await super().update(id, **parameters)


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        (TokenIsTheStart, "test_no_tied_state_is_lost_between_pages", {}),
        (TokenOnEveryFullPage, "test_a_full_last_page_has_no_token", {"count": 5}),
        (GarbageIsAnEmptyPage, "test_refuses_a_damaged_token", {"damage": lambda _: "garbage"}),
        (FalsyIsEmpty, "test_keeps_any_json_value_exactly", {"value": False}),
        (NaNIsNull, "test_keeps_any_json_value_exactly", {"value": VALUES["NaN inside"]}),
        (LiveObjects, "test_state_is_stored_as_it_was_when_saved", {}),
        (LiveObjects, "test_each_load_returns_a_state_of_its_own", {}),
        (SortsSteps, "test_keeps_the_order_of_steps", {}),
        (StartIsAFloat, "test_keeps_the_start_exactly", {"start_time": 0}),
        (LastWriteWins, "test_if_version_none_stores_new_states_only", {}),
        (SameStateSameVersion, "test_every_write_makes_a_version", {}),
        (EditOverwrites, "test_modify_runs_again_on_a_conflict", {}),
        (EditOverwrites, "test_concurrent_modifications_lose_nothing", {}),
        (NumbersAreBools, "test_where_tells_types_apart", {"asked": True, "expected": ["true"]}),
        (PartialWriteIsWhole, "test_changes_only_what_is_named", {}),
    ],
    ids=lambda value: value.__name__ if inspect.isclass(value) else value if isinstance(value, str) else "",
)
async def test_a_fault_is_noticed(store: type[MemoryFlowStateStore], test: str, arguments: dict[str, Any]) -> None:
    """The test that should fail for a fault does, and passes for the store without it."""
    run = getattr(VersionedFlowStateStoreTests(), test)
    await run(MemoryFlowStateStore(), **arguments)
    with pytest.raises((AssertionError, pytest.fail.Exception, FlowStateConflictError)):
        await run(store(), **arguments)
