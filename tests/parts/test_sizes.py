from __future__ import annotations

import time

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateSettings,
    FlowStateTooLargeError,
)
from firestore_flowstate._limits import MAX_DOCUMENT_BYTES, document_size, size_at_most
from firestore_flowstate._rpc.messages import Write
from firestore_flowstate._rpc.outcome import Refused


@pytest.fixture
def native_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"layout": "native"})


def fill(write: Write, kind: str) -> None:
    """Fill a document with values of one kind, all but the last one that tunes its size."""
    fields = write.update.fields
    if kind == "text":
        fields["naïve ü"].string_value = "ü" * 1000
    elif kind == "scalars":
        fields["i"].integer_value = 2**62
        fields["d"].double_value = 0.5
        fields["b"].boolean_value = True
        fields["n"].null_value = 0
        fields["t"].timestamp_value.seconds = 1
        fields["g"].geo_point_value.latitude = 1.0
    elif kind == "nested":
        inner = fields["m"].map_value.fields["k" * 100].map_value.fields
        for i in range(50):
            inner[f"step {i}"].array_value.values.add().string_value = "x" * i
            inner[f"step {i}"].array_value.values.add().integer_value = i
        fields["e"].map_value.SetInParent()
        fields["a"].map_value.fields["in"].array_value.SetInParent()
    elif kind == "reference":
        fields["r"].reference_value = write.update.name
    fields["bytes"].bytes_value = b""


@pytest.mark.parametrize("kind", ["text", "scalars", "nested", "reference"])
@pytest.mark.parametrize("collection", ["flows", "tenants/ä/flows"])
async def test_sizes_are_firestores_to_the_byte(
    flow_state_store: FirestoreFlowStateStore, kind: str, collection: str
) -> None:
    """A document that we compute at 1,048,576 bytes is taken, and one byte more is refused."""
    store = flow_state_store
    there, deadline = await store._begin()
    path = f"{collection}/idé"
    write = Write()
    write.update.name = f"{there.documents}/{path}"
    fill(write, kind)
    room = MAX_DOCUMENT_BYTES - document_size(path, write.update.fields)
    half = room // 2  # no value alone may have as much as a document
    write.update.fields["more"].bytes_value = b""
    half = (MAX_DOCUMENT_BYTES - document_size(path, write.update.fields)) // 2
    write.update.fields["more"].bytes_value = b"x" * half
    rest = MAX_DOCUMENT_BYTES - document_size(path, write.update.fields)

    write.update.fields["bytes"].bytes_value = b"x" * rest
    assert document_size(path, write.update.fields) == MAX_DOCUMENT_BYTES
    await there.connection.commit([write], deadline=deadline, flow_id=None)
    write.update.fields["bytes"].bytes_value = b"x" * (rest + 1)
    with pytest.raises(Refused) as refused:
        await there.connection.commit([write], deadline=deadline, flow_id=None)
    assert refused.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("kind", ["text", "scalars", "nested", "reference", "integers"])
@pytest.mark.parametrize("count", [0, 1, 10, 3_000])
def test_the_quick_bound_is_never_below_the_size(kind: str, count: int) -> None:
    """What is taken to fit without a look at each value does fit: documents of the densest values too."""
    write = Write()
    fill(write, kind)
    for _ in range(count):
        write.update.fields["a"].array_value.values.add().integer_value = 0

    assert size_at_most("flows/id", write.update) >= document_size("flows/id", write.update.fields)


async def test_a_native_state_of_a_byte_too_many_is_never_sent(native_settings: FlowStateSettings) -> None:
    """It fails within milliseconds, naming the largest value, its size and the limit. Nothing is changed."""
    async with FirestoreFlowStateStore(native_settings) as store:
        state = FlowState.start(name="n", flow_id="flow")
        state.cache = {
            "small": CacheEntry(value=1),
            "large": CacheEntry(value="x" * 500_000),
            "more": CacheEntry(value=""),
        }
        write = Write()
        from firestore_flowstate._document.native import write_native

        write_native(write.update.fields, state)
        rest = MAX_DOCUMENT_BYTES - document_size(f"{native_settings.collection}/flow", write.update.fields)
        state.cache["more"] = CacheEntry(value="x" * rest)
        await store.save("flow", state)

        state.cache["more"] = CacheEntry(value="x" * (rest + 1))
        began = time.perf_counter()
        with pytest.raises(FlowStateTooLargeError) as error:
            await store.save("flow", state)
        took = time.perf_counter() - began

        assert error.value.size == MAX_DOCUMENT_BYTES + 1
        assert error.value.limit == MAX_DOCUMENT_BYTES
        assert error.value.path == 'cache["more"]'
        assert error.value.flow_id == "flow"
        assert took < 1.0  # it takes milliseconds, and a busy machine up to 1 s. A request would take its deadline
        loaded = await store.load("flow")
        assert loaded is not None
        assert len(loaded.cache["more"].value) == rest


async def test_what_no_part_can_take_is_too_large(flow_state_store: FirestoreFlowStateStore) -> None:
    """The head stays in the document. A head beyond the limit is refused before anything is sent."""
    state = FlowState.start(flow_id="f" * 1_100_000)
    with pytest.raises(FlowStateTooLargeError) as error:
        await flow_state_store.save("flow", state)

    assert error.value.flow_id == "flow"
    assert error.value.path == "flow_id"
    assert await flow_state_store.load("flow") is None


async def test_an_update_larger_than_a_native_document_is_refused_before_it_is_sent(
    native_settings: FlowStateSettings,
) -> None:
    """It is refused as a whole state is, since the size of what it names tells enough."""
    async with FirestoreFlowStateStore(native_settings) as store:
        await store.create("x", FlowState.start(flow_id="x"))
        with pytest.raises(FlowStateTooLargeError) as caught:
            await store.update("x", cache={"large": CacheEntry(value="x" * 20_000_000)})

    assert MAX_DOCUMENT_BYTES == caught.value.limit
    assert 'cache["large"]' == caught.value.path
