"""Filters in collections that Genkit JS shares: native documents carry no status, and are found all the same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.testing.conformance.filtering import QUERIES
from firestore_flowstate.testing.conformance.filtering import _population as population
from firestore_flowstate.testing.conformance.paging import flat, pages


@pytest.mark.parametrize("native_of_three", [1, 3], ids=["mixed", "native"])
async def test_every_combination_of_filters_finds_what_matches(
    flow_state_settings: FlowStateSettings, native_of_three: int
) -> None:
    """Alone and together, as pages, counts, iteration and summaries, newest first, each state once."""
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
