"""Documents damaged by hand: a typed error that names the id, others still served, nothing written."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowStateDecodeError,
    FlowStateExistsError,
    FlowStateQuery,
    FlowStateQueryResponse,
    FlowStateSettings,
)
from firestore_flowstate.emulator import Emulator
from tests.support.damage import (
    HARMLESS,
    HEADS,
    NATIVE,
    NATIVE_HEADS,
    SERIALIZED,
    STARTS,
    Damage,
    put,
    sound,
    sound_native,
    text,
)
from tests.support.raw_documents import Fields, RawCollection

START = 1795336740800  # milliseconds: the start of the first document, below which the others are ordered

LISTED: dict[str, tuple[Fields, Damage]] = {
    **{f"serialized, {name}": (sound(), damage) for name, damage in SERIALIZED.items()},
    **{f"native, {name}": (sound_native(), damage) for name, damage in NATIVE.items()},
}
UNLISTED: dict[str, tuple[Fields, Damage]] = {
    **{f"serialized, {name}": (sound(), damage) for name, damage in STARTS.items()},
    **{f"native, {name}": (sound_native(), damage) for name, damage in STARTS.items()},
}
UNREADABLE = {**LISTED, **UNLISTED}
NOT_OF_ITS_FORMAT = [
    "serialized, version is newer",
    "serialized, version is missing",
    "serialized, payload is text",
    "serialized, payload is empty",
    "native, operation is missing",
]


@pytest.fixture(scope="module")
def settings(firestore_emulator: Emulator) -> FlowStateSettings:
    fresh = uuid.uuid4().hex[:12]
    return FlowStateSettings(project=f"demo-{fresh}", collection="damaged", emulator_host=firestore_emulator.host)


@pytest.fixture(scope="module")
def raw(settings: FlowStateSettings) -> RawCollection:
    """Each damaged document under its name, and after each in the order of lists a sound one, with an id in front."""
    raw = RawCollection(settings)
    for index, (name, (fields, damage)) in enumerate(UNREADABLE.items()):
        raw.write(id_of(name), damaged(with_start(fields, START - 2 * index), damage))
        raw.write(f"sound-{index:03}", with_start(sound(), START - 2 * index - 1))
    return raw


@pytest.fixture(scope="module")
def store(settings: FlowStateSettings) -> Iterator[FirestoreFlowStateStore]:
    store = FirestoreFlowStateStore(settings)
    yield store
    asyncio.run(store.close())


@pytest.mark.parametrize("name", UNREADABLE)
async def test_load_names_what_it_cannot_read(name: str, raw: RawCollection, store: FirestoreFlowStateStore) -> None:
    """It raises FlowStateDecodeError with the id, and no other exception. The document stays as it is."""
    id = id_of(name)
    before = raw.read(id), raw.update_time(id)
    with pytest.raises(FlowStateDecodeError) as caught:
        await store.load(id)

    assert id == caught.value.flow_id
    assert repr(id) in str(caught.value)
    assert before == (raw.read(id), raw.update_time(id))


async def test_edit_and_modify_write_nothing_to_what_they_cannot_read(
    raw: RawCollection, store: FirestoreFlowStateStore
) -> None:
    """What cannot be read cannot be changed."""
    ids = [id_of(name) for name in UNREADABLE]
    before = [raw.update_time(id) for id in ids]

    async def edit(id: str) -> None:
        async with store.edit(id):
            pytest.fail("the block is not entered")

    edits = await asyncio.gather(*map(edit, ids), return_exceptions=True)
    changes = await asyncio.gather(*(store.modify(id, lambda _: None) for id in ids), return_exceptions=True)

    assert [(FlowStateDecodeError, id) for id in [*ids, *ids]] == [
        (type(error), getattr(error, "flow_id", None)) for error in [*edits, *changes]
    ]
    assert before == [raw.update_time(id) for id in ids]


async def test_list_serves_what_is_around_damaged_documents(raw: RawCollection, store: FirestoreFlowStateStore) -> None:
    """Each error carries the rest of its page, and the page's token leads on behind it."""
    named: list[str | None] = []
    served, token = [], None
    while True:
        query = FlowStateQuery(limit=2, continuation_token=token)
        try:
            page = await store.list(query)
        except FlowStateDecodeError as error:
            named.append(error.flow_id)
            page = rest_of_page(error)
        served += [START - int(state.start_time) for state in page.flow_states]
        token = page.continuation_token
        if token is None:
            break

    assert [id_of(name) for name in LISTED] == named
    assert [2 * index + 1 for index in range(len(UNREADABLE))] == served


async def test_list_can_skip_damaged_documents(raw: RawCollection, store: FirestoreFlowStateStore) -> None:
    """They are named. Those whose start has no place in the order are not come upon."""
    query = FlowStateQuery(limit=300, on_error="skip")
    page = await store.list(query)

    assert tuple(id_of(name) for name in LISTED) == page.skipped
    assert len(UNREADABLE) == len(page.flow_states)
    assert page.continuation_token is None


async def test_iterate_skips_if_it_is_told_to(raw: RawCollection, store: FirestoreFlowStateStore) -> None:
    """The first damaged document ends the iteration without on_error="skip"."""
    states = [state async for state in store.iterate(FlowStateQuery(limit=50, on_error="skip"))]
    with pytest.raises(FlowStateDecodeError):
        await anext_of(store)

    assert len(UNREADABLE) == len(states)


@pytest.mark.parametrize("name", NOT_OF_ITS_FORMAT)
async def test_update_writes_nothing_to_what_is_not_of_its_format(
    name: str, raw: RawCollection, store: FirestoreFlowStateStore
) -> None:
    """A step is not added to a document whose layout is not known."""
    id = id_of(name)
    before = raw.read(id), raw.update_time(id)
    with pytest.raises(FlowStateDecodeError) as caught:
        await store.update(id, cache={"step": CacheEntry(value=1)})

    assert id == caught.value.flow_id
    assert before == (raw.read(id), raw.update_time(id))


async def test_update_names_the_flow_whose_head_it_cannot_read(
    raw: RawCollection, store: FirestoreFlowStateStore
) -> None:
    """The little that an update reads may be what is damaged."""
    id = id_of("serialized, executions are cut off")
    with pytest.raises(FlowStateDecodeError) as caught:
        await store.update(id, cache={"step": CacheEntry(value=1)})

    assert id == caught.value.flow_id


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_only_queries_see_is_not_needed_to_load(
    name: str, flow_state_store: FirestoreFlowStateStore
) -> None:
    """The head repeats what the payload has: a damaged head takes nothing from the state."""
    raw = RawCollection(flow_state_store.settings)
    raw.write("sound", sound())
    raw.write("damaged", damaged(sound(), HARMLESS[name]))

    assert await flow_state_store.load("sound") == await flow_state_store.load("damaged")


async def test_summaries_leave_out_damaged_heads(flow_state_store: FirestoreFlowStateStore) -> None:
    """They are read from heads alone: a damaged one is an error that names it, and the others are served."""
    raw = RawCollection(flow_state_store.settings)
    tables = [("serialized", sound, HEADS), ("native", sound_native, NATIVE_HEADS)]
    cases = [(f"{layout}, {name}", make(), table[name]) for layout, make, table in tables for name in table]
    for index, (name, fields, damage) in enumerate(cases):
        raw.write(id_of(name), damaged(with_start(fields, START - 2 * index), damage))
        raw.write(f"sound-{index:03}", with_start(sound(), START - 2 * index - 1))
    named, served, token = [], [], None
    for _ in cases:
        with pytest.raises(FlowStateDecodeError) as caught:
            await flow_state_store.list_summaries(FlowStateQuery(limit=2, continuation_token=token))
        page = caught.value.response
        assert page is not None
        named.append(caught.value.flow_id)
        served += [shown.id for shown in page.summaries]
        token = page.continuation_token
    skipping = await flow_state_store.list_summaries(FlowStateQuery(limit=300, on_error="skip"))

    assert [id_of(name) for name, _, _ in cases] == named
    assert [f"sound-{index:03}" for index in range(len(cases))] == served
    assert (served, tuple(named)) == ([shown.id for shown in skipping.summaries], skipping.skipped)


@pytest.mark.parametrize("name", [*NOT_OF_ITS_FORMAT, "serialized, parts are missing", "native, cache is text"])
async def test_a_damaged_document_can_be_replaced_and_deleted(
    name: str, raw: RawCollection, store: FirestoreFlowStateStore
) -> None:
    """It is there for create. A save or a delete is the way out."""
    sound_state = await store.load("sound-000")
    assert sound_state is not None
    fields, damage = UNREADABLE[name]
    try:
        raw.write("replaced", damaged(fields, damage))
        with pytest.raises(FlowStateExistsError):
            await store.create("replaced", sound_state)
        await store.save("replaced", sound_state)
        repaired = await store.load("replaced")
        raw.write("replaced", damaged(fields, damage))
    finally:
        await store.delete("replaced")

    assert sound_state == repaired
    assert await store.load("replaced") is None


async def test_many_damaged_documents_on_one_page(flow_state_store: FirestoreFlowStateStore) -> None:
    """The error names the first and counts the others. A page can be damaged whole."""
    raw = RawCollection(flow_state_store.settings)
    raw.write("older", with_start(sound(), START - 1))
    for index in range(5):
        raw.write(f"damaged-{index}", damaged(sound(), put("_flowstate.input", text("{"))))
    with pytest.raises(FlowStateDecodeError, match="4 more") as caught:
        await flow_state_store.list()
    page = await flow_state_store.list(FlowStateQuery(limit=2, on_error="skip"))

    assert "damaged-4" == caught.value.flow_id
    assert ([], ("damaged-4", "damaged-3")) == (list(page.flow_states), page.skipped)
    assert page.continuation_token is not None


def rest_of_page(error: FlowStateDecodeError) -> FlowStateQueryResponse:
    """Return the page that the error of a list carries."""
    assert isinstance(error.response, FlowStateQueryResponse)
    return error.response


async def anext_of(store: FirestoreFlowStateStore) -> Any:
    """Return the first state. Leave no page behind that is being read ahead."""
    states = store.iterate()
    try:
        return await states.__anext__()
    finally:
        await states.aclose()  # type: ignore[attr-defined]  # an iteration


def id_of(name: str) -> str:
    """Return the id of a damaged document."""
    return name.replace("/", " ")


def damaged(fields: Fields, damage: Damage) -> Fields:
    """Return a copy of the fields, damaged."""
    copy = deepcopy(fields)
    damage(copy)
    return copy


def with_start(fields: Fields, start: int) -> Fields:
    """Return the fields with a start in milliseconds."""
    return {**fields, "startTime": {"integerValue": str(start)}}
