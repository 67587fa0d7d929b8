"""Documents of Genkit JS, and their layout, under the methods that read and write back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings

MOMENT = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
TEXT = "2024-05-01T12:00:00.000000Z"


@pytest.fixture
async def native(flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    store = FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": "native"}))
    yield store
    await store.close()


@pytest.fixture
async def serialized(flow_state_settings: FlowStateSettings) -> AsyncIterator[FirestoreFlowStateStore]:
    store = FirestoreFlowStateStore(flow_state_settings)
    yield store
    await store.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [(MOMENT, TEXT), (TEXT, MOMENT), (b"\xff", "/w=="), ("/w==", b"\xff"), ([MOMENT], [TEXT]), (1, 1.0), (True, 1)],
    ids=repr,
)
@pytest.mark.parametrize("method", ["edit", "modify"])
async def test_an_edit_sees_a_change_of_type(
    native: FirestoreFlowStateStore, before: Any, after: Any, method: str
) -> None:
    """A time and its text, bytes and their base64 are two things if the document tells them apart."""
    state = FlowState.start(input=before)
    state.cache["step"] = CacheEntry(value=before)
    state.events_triggered["event"] = before
    await native.save("id", state)

    def change(state: FlowState) -> None:
        state.input, state.events_triggered["event"] = after, after
        state.cache["step"].value = after

    if method == "edit":
        async with native.edit("id") as edited:
            change(edited)
    else:
        await native.modify("id", change)
    loaded = await native.load("id")

    assert loaded is not None
    for found in (loaded.input, loaded.events_triggered["event"], loaded.cache["step"].value):
        assert after == found
        assert isinstance(found, type(after))
    async with native.edit("id") as edited:  # nothing to write
        edited.input = after
    assert loaded.version == edited.version


@pytest.mark.parametrize("how", ["save", "save on a version", "save_many", "again", "edit", "edit and save"])
@pytest.mark.parametrize("own", ["native", "serialized"])
async def test_a_document_keeps_its_layout(
    native: FirestoreFlowStateStore, serialized: FirestoreFlowStateStore, own: str, how: str
) -> None:
    """A state that was loaded, or saved before, is written back in the layout of its document, as updates are."""
    first, other = (native, serialized) if own == "native" else (serialized, native)
    await first.save("id", FlowState.start(input=MOMENT))
    state = await other.load("id")
    assert state is not None
    if how.startswith("edit"):
        async with other.edit("id") as state:
            if how == "edit and save":
                await other.save("id", state)
            state.name = "changed"
    else:
        state.name = "changed"
        for _ in range(2 if how == "again" else 1):
            if how == "save_many":
                await other.save_many({"id": state})
            elif how == "save on a version":
                await other.save("id", state, if_version=state.version)
            else:
                await other.save("id", state)
    loaded = await first.load("id")
    assert loaded is not None

    assert "changed" == loaded.name
    state.input = MOMENT
    await other.save("id", state)
    again, copied = await first.load("id"), None
    await other.save("another id", state)
    copied = await first.load("another id")
    assert again is not None
    assert copied is not None
    # Times are their text in the serialized layout. A new document is as the settings say.
    assert [own == "native", own != "native"] == [isinstance(kept.input, datetime) for kept in (again, copied)]
