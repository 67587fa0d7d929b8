"""Filters in collections that Genkit JS shares: native documents carry no status, and are found all the same."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateExecution,
    FlowStateSettings,
    FlowStateWarning,
    Operation,
)
from firestore_flowstate.testing.comparison import exactly
from firestore_flowstate.testing.conformance.filtering import QUERIES
from firestore_flowstate.testing.conformance.filtering import _population as population
from firestore_flowstate.testing.conformance.paging import flat, pages
from firestore_flowstate.testing.conformance.states import with_steps


@pytest.mark.parametrize("native_of_three", [1, 3], ids=["mixed", "native"])
async def test_every_combination_of_filters_finds_what_matches(
    flow_state_settings: FlowStateSettings, native_of_three: int
) -> None:
    """Filters work alone and together, in pages, counts, iteration and summaries, newest first, each state once."""
    native_settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with (
        FirestoreFlowStateStore(flow_state_settings) as store,
        FirestoreFlowStateStore(native_settings) as native,
    ):
        states = population()
        places = {id: place for place, id in enumerate(states)}
        await native.save_many({id: state for id, state in states.items() if places[id] // 4 % 3 < native_of_three})
        await store.save_many({id: state for id, state in states.items() if places[id] // 4 % 3 >= native_of_three})
        for query, wanted in QUERIES:
            expected = [id for id, place in places.items() if wanted(states[id], place)][::-1]

            assert expected == flat(await pages(store, replace(query, limit=3))), query
            assert expected == [state.flow_id async for state in store.iterate(query)], query
            assert len(expected) == await store.count(query), query
            summaries = (await store.list_summaries(replace(query, limit=300))).summaries
            assert expected == [summary.id for summary in summaries], query


async def test_a_summary_of_a_native_document_shows_what_its_fields_say(
    flow_state_settings: FlowStateSettings,
) -> None:
    """When it last ended is among its fields. Its steps and its bytes are not: only a whole read could count them."""
    native_settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with FirestoreFlowStateStore(native_settings) as native:
        state = with_steps("a", "b")
        state.executions = [FlowStateExecution(start_time=1, end_time=end, trace_ids=[]) for end in (2, 4.5)]
        await native.save("ended", state)
        state.executions.append(FlowStateExecution(start_time=5, trace_ids=[]))
        await native.save("goes on", state)
        summaries = {summary.id: summary for summary in (await native.list_summaries()).summaries}

    assert {"ended": 4.5, "goes on": None} == {id: summary.last_end_time for id, summary in summaries.items()}
    assert (0, 0) == (summaries["ended"].step_count, summaries["ended"].size_bytes)


MEETS: dict[str, Callable[[FirestoreFlowStateStore], Awaitable[object]]] = {
    "load": lambda store: store.load("native"),
    "load_many": lambda store: store.load_many(["native"]),
    "list": lambda store: store.list(),
    "list_summaries": lambda store: store.list_summaries(),
}
WRITES: dict[str, Callable[[FirestoreFlowStateStore], Awaitable[object]]] = {
    "create": lambda store: store.create("new", FlowState.start()),
    "save": lambda store: store.save("new", FlowState.start()),
    "save_many": lambda store: store.save_many({"new": FlowState.start()}),
}


@pytest.mark.parametrize("met", MEETS)
@pytest.mark.parametrize("write", WRITES)
async def test_a_store_that_has_met_native_documents_warns_once(
    flow_state_settings: FlowStateSettings, met: str, write: str
) -> None:
    """It warns before it writes what Genkit JS cannot read. It does not if it has met none, or writes native itself."""
    native_settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with FirestoreFlowStateStore(native_settings) as native:
        await native.save("native", FlowState.start())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await MEETS[met](native)
            await native.save("other", FlowState.start())
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await store.save("before", FlowState.start())
            await MEETS[met](store)
            await store.update("native", cache={"a": CacheEntry(value=1)})  # it stays native
        with pytest.warns(FlowStateWarning, match=r'set layout="native"'):
            await WRITES[write](store)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await store.save("again", FlowState.start())


async def test_on_a_version_of_the_other_layout_a_state_is_stored_as_it_is_at_the_call(
    flow_state_settings: FlowStateSettings,
) -> None:
    """If the version comes as a text, a read precedes the write. What the caller changes meanwhile is not stored."""
    native_settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with (
        FirestoreFlowStateStore(native_settings) as native,
        FirestoreFlowStateStore(flow_state_settings) as store,
    ):
        for id in ("saved", "updated"):
            await native.save(id, with_steps("step"))
        versions = {id: (await store.load(id)) for id in ("saved", "updated")}
        rows, operation, state = [1], Operation(name="op"), with_steps("new")
        before = exactly(state)
        texts = {id: "".join([*str(loaded.version)]) for id, loaded in versions.items() if loaded is not None}
        saving = asyncio.ensure_future(store.save("saved", state, if_version=texts["saved"]))
        updating = asyncio.ensure_future(
            store.update(
                "updated", cache={"new": CacheEntry(value=rows)}, operation=operation, if_version=texts["updated"]
            )
        )
        await asyncio.sleep(0)  # they run up to the first point at which they wait
        state.cache["new"].value = "other"
        state.operation.name = "other"
        rows.append(2)
        operation.done = True
        await asyncio.gather(saving, updating)
        updated = await store.load("updated")

        assert before == exactly(await store.load("saved"))
        assert updated is not None
        assert ([1], "op", False) == (updated.cache["new"].value, updated.operation.name, updated.operation.done)


async def test_migrating_does_not_warn(flow_state_settings: FlowStateSettings) -> None:
    """Migrating ends the mixture."""
    native_settings = flow_state_settings.model_copy(update={"layout": "native"})
    async with (
        FirestoreFlowStateStore(flow_state_settings) as store,
        FirestoreFlowStateStore(native_settings) as native,
    ):
        await native.save("native", FlowState.start())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await store.migrate(store)
            await store.load("native")
            await store.save("new", FlowState.start())
