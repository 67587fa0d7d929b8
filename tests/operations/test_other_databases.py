"""What a state knows of its document is bound to the project and the database, not to the path alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateError,
    FlowStateSettings,
)
from firestore_flowstate.testing.comparison import exactly
from firestore_flowstate.testing.conformance.states import with_steps
from tests.support.raw_documents import RawCollection

Open = Callable[..., FirestoreFlowStateStore]
Save = Callable[[FirestoreFlowStateStore, FlowState], Awaitable[object]]

KEYS: Final = {"keys": {"k": b"0" * 32}, "current_key": "k"}
SAVES: Final[dict[str, Save]] = {
    "save": lambda store, state: store.save("id", state),
    "create": lambda store, state: store.create("id", state),
    "save_many": lambda store, state: store.save_many({"id": state}),
}
ON_A_VERSION: Final[dict[str, Callable[[FirestoreFlowStateStore, str], Awaitable[object]]]] = {
    "save": lambda store, version: store.save("id", with_steps("mine"), if_version=version),
    "update": lambda store, version: store.update("id", cache={"mine": CacheEntry()}, if_version=version),
    "delete": lambda store, version: store.delete("id", if_version=version),
}


@pytest.fixture
async def opened(flow_state_settings: FlowStateSettings) -> AsyncIterator[Open]:
    """Return a store with other settings than those of the test."""
    async with AsyncExitStack() as stack:

        def open_store(**changes: Any) -> FirestoreFlowStateStore:
            store = FirestoreFlowStateStore(flow_state_settings.model_copy(update=changes))
            stack.push_async_callback(store.close)
            return store

        yield open_store


def elsewhere(settings: FlowStateSettings, place: str) -> dict[str, str]:
    """Return what of the settings names another place."""
    return {
        "project": {"project": f"{settings.project}-b"},
        "database": {"database": "another"},
        "collection": {"collection": f"{settings.collection}-b"},
    }[place]


@pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)
@pytest.mark.parametrize("encrypted", [{}, KEYS], ids=["in the clear", "encrypted"])
async def test_a_state_of_another_database_is_stored_as_a_new_document(
    opened: Open, flow_state_settings: FlowStateSettings, save: Save, encrypted: dict[str, Any]
) -> None:
    """Its layout there does not count here: the settings say how it is stored."""
    there = elsewhere(flow_state_settings, "project")
    await opened(layout="native").create("id", FlowState.start(input={"secret": "TOPSECRET"}))
    state = await opened(layout="native").load("id")
    assert state is not None
    store = opened(**there, **encrypted)
    await save(store, state)
    fields = RawCollection(flow_state_settings.model_copy(update=there)).read("id")

    assert "_flowstate" in fields
    assert ("TOPSECRET" in str(fields)) == (not encrypted)
    assert exactly(state) == exactly(await store.load("id"))


@pytest.mark.parametrize("write", ON_A_VERSION.values(), ids=ON_A_VERSION)
@pytest.mark.parametrize("own", ["native", "serialized", None])
@pytest.mark.parametrize("layout", ["native", "serialized"])
@pytest.mark.parametrize("as_text", [False, True], ids=["of this process", "as text"])
async def test_a_version_of_another_database_is_never_the_stored_one(
    opened: Open,
    flow_state_settings: FlowStateSettings,
    write: Callable[[FirestoreFlowStateStore, str], Awaitable[object]],
    own: str | None,
    layout: str,
    as_text: bool,
) -> None:
    """A write on top of it is a conflict, or finds nothing, whatever the two documents are."""
    state, stored = FlowState.start(), with_steps("stored")
    await opened(layout=layout).create("id", state)
    version = str(state.version) if as_text else state.version
    there = elsewhere(flow_state_settings, "project")
    store = opened(**there, layout=own or "serialized")
    if own is not None:
        await store.create("id", stored)
    before = stored.version
    with pytest.raises(FlowStateConflictError if own is not None else FlowStateError):
        await write(store, version or "")
    found = await store.load("id")

    assert (own is None) == (found is None)
    if found is not None:
        assert exactly(stored) == exactly(found)
        assert before == found.version


@pytest.mark.parametrize("place", ["project", "database", "collection"])
@pytest.mark.parametrize("layout", ["native", "serialized"])
@pytest.mark.parametrize("method", ["edit", "modify"])
async def test_the_state_of_an_edit_may_be_saved_under_its_id_in_another_place(
    opened: Open, flow_state_settings: FlowStateSettings, place: str, layout: str, method: str
) -> None:
    """The change is stored here all the same. The other document is as the settings of its store say."""
    here = opened(layout=layout)
    other = opened(**elsewhere(flow_state_settings, place))
    await here.save("id", FlowState.start(name="flow"))

    async def change(state: FlowState) -> None:
        state.cache["step"] = CacheEntry(value=1)
        await other.save("id", state)

    if method == "edit":
        async with here.edit("id") as state:
            await change(state)
    else:
        state = await here.modify("id", change, attempts=1)
    loaded, copied = await here.load("id"), await other.load("id")

    assert loaded is not None
    assert copied is not None
    assert exactly(state) == exactly(loaded) == exactly(copied)
    assert state.version == loaded.version != copied.version


async def test_a_state_that_was_archived_keeps_the_layout_of_its_own_document(
    opened: Open, flow_state_settings: FlowStateSettings
) -> None:
    """It remembers the document that it was loaded from, beside the one that it was last saved to."""
    await opened(layout="native").save("id", FlowState.start(name="flow"))
    store, archive = opened(), opened(**elsewhere(flow_state_settings, "collection"))
    state = await store.load("id")
    assert state is not None
    await archive.save("id", state)
    state.name = "changed"
    await store.save("id", state)

    here, there = (RawCollection(kept.settings).read("id") for kept in (store, archive))
    assert (False, True) == ("_flowstate" in here, "_flowstate" in there)
    assert {"stringValue": "changed"} == here["name"]
