from __future__ import annotations

from typing import Any

import pytest

from firestore_flowstate import (
    UNSET,
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateSettings,
    FlowStateTooLargeError,
)
from firestore_flowstate._limits import MAX_DOCUMENT_BYTES, document_size, size_at_most
from firestore_flowstate._rpc.database import Metadata
from firestore_flowstate._rpc.link import Link
from firestore_flowstate._rpc.messages import Write
from firestore_flowstate._rpc.outcome import Refused
from tests.faults.writes import incompressible


@pytest.fixture
def native_settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    return flow_state_settings.model_copy(update={"layout": "native"})


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the calls of all stores."""
    calls: list[str] = []
    call = Link.call

    async def note(self: Link, name: str, request: bytes, metadata: Metadata, timeout: float) -> list[bytes]:
        calls.append(name)
        return await call(self, name, request, metadata, timeout)

    monkeypatch.setattr(Link, "call", note)
    return calls


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


async def test_a_native_state_of_a_byte_too_many_is_never_sent(
    native_settings: FlowStateSettings, sent: list[str]
) -> None:
    """It fails at once, naming the largest value, its size and the limit. Nothing is changed."""
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
        sent.clear()
        with pytest.raises(FlowStateTooLargeError) as error:
            await store.save("flow", state)

        assert error.value.size == MAX_DOCUMENT_BYTES + 1
        assert error.value.limit == MAX_DOCUMENT_BYTES
        assert error.value.path == 'cache["more"]'
        assert error.value.flow_id == "flow"
        assert [] == sent
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


async def _edited(store: FirestoreFlowStateStore, **parts: Any) -> None:
    async with store.edit("x") as state:
        if "blocked_on_step" in parts:
            state.blocked_on_step = parts["blocked_on_step"]
        for key, value in parts.get("extra", {}).items():
            setattr(state, key, value)


TOO_LARGE: dict[str, tuple[dict[str, Any], str]] = {
    "blocked step": ({"blocked_on_step": BlockedOnStep(name="s" * 1_100_000)}, "blocked_on_step.name"),
    "blocked step beyond a request": (
        {"blocked_on_step": BlockedOnStep(name="s" * 12_000_000)},
        "blocked_on_step.name",
    ),
    "unknown keys": ({"extra": {f"key{number}": "v" * 1_400 for number in range(400)}}, "extra"),
    "unknown keys beyond a request": ({"extra": {f"key{number}": "v" * 1_400 for number in range(6_000)}}, "extra"),
}


@pytest.mark.parametrize("write", ["update", "update of a version", "edit"])
@pytest.mark.parametrize(("parts", "path"), TOO_LARGE.values(), ids=TOO_LARGE)
async def test_an_update_larger_than_a_document_is_refused_before_it_is_sent(
    flow_state_store: FirestoreFlowStateStore, sent: list[str], parts: dict[str, Any], path: str, write: str
) -> None:
    """What stays in the head, whatever its size, is too large by itself, so that no read has to tell it."""
    await flow_state_store.create("x", FlowState.start(flow_id="x"))
    before = await flow_state_store.load("x")
    assert before is not None
    version = {"if_version": before.version or ""} if write == "update of a version" else {}
    sent.clear()
    with pytest.raises(FlowStateTooLargeError) as caught:
        await (
            _edited(flow_state_store, **parts) if write == "edit" else flow_state_store.update("x", **parts, **version)
        )

    assert (path, "x", MAX_DOCUMENT_BYTES) == (caught.value.path, caught.value.flow_id, caught.value.limit)
    assert caught.value.size > MAX_DOCUMENT_BYTES
    assert "Commit" not in sent
    assert before == await flow_state_store.load("x")


@pytest.mark.parametrize("name", ["extra", "remove"])
async def test_names_that_no_request_has_room_for_are_refused_before_they_are_sent(
    flow_state_settings: FlowStateSettings, sent: list[str], name: str
) -> None:
    """An update names what it removes, and may name what is not there."""
    names = [f"{number}".ljust(1_400, "n") for number in range(4_000)]
    changes: dict[str, Any] = {"extra": dict.fromkeys(names, UNSET)} if name == "extra" else {"remove": names}
    layout = "native" if name == "remove" else "serialized"  # whose log has room for the names of any steps
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": layout})) as store:
        await store.create("x", FlowState.start(flow_id="x"))
        sent.clear()
        with pytest.raises(FlowStateTooLargeError) as caught:
            await store.update("x", **changes)
        await store.update("x", **{name: dict.fromkeys(names[:100], UNSET) if name == "extra" else names[:100]})

    assert (name, "x") == (caught.value.path, caught.value.flow_id)
    assert caught.value.size > caught.value.limit
    assert 1 == sent.count("Commit")


async def test_an_update_that_fits_is_sent(flow_state_store: FirestoreFlowStateStore) -> None:
    """Whoever asks too early by how much it could be too large would refuse what Firestore takes."""
    await flow_state_store.create("x", FlowState.start(flow_id="x"))
    blocked = BlockedOnStep(name="s" * (MAX_DOCUMENT_BYTES - 2_000))
    await flow_state_store.update("x", blocked_on_step=blocked, cache={"step": CacheEntry(value=1)})
    loaded = await flow_state_store.load("x")

    assert loaded is not None
    assert blocked == loaded.blocked_on_step


async def test_a_state_is_too_large_by_what_takes_the_most(flow_state_store: FirestoreFlowStateStore) -> None:
    """The path is that of the largest value which no part can take."""
    blocked, keyed = FlowState.start(flow_id="x"), FlowState.start(flow_id="x")
    blocked.blocked_on_step = BlockedOnStep(name="s" * 1_100_000)
    for number in range(400):
        setattr(keyed, f"key{number}", "v" * (1_400 + (number == 7)))
    for state, path in ((blocked, "blocked_on_step.name"), (keyed, "key7")):
        with pytest.raises(FlowStateTooLargeError) as caught:
            await flow_state_store.save("x", state)
        assert path == caught.value.path


@pytest.mark.parametrize(
    ("layout", "write", "path"),
    [
        ("serialized", {"extra": {f"key{number}": "v" * 1_400 for number in range(200)}}, "blocked_on_step.name"),
        ("serialized", {"cache": {"step": CacheEntry(value=incompressible(60_000))}}, "blocked_on_step.name"),
        ("native", {"cache": {"step": CacheEntry(value="v" * 600_000)}}, 'cache["step"]'),
    ],
)
async def test_an_update_without_room_beside_what_is_stored_is_too_large(
    flow_state_settings: FlowStateSettings, layout: str, write: dict[str, Any], path: str
) -> None:
    """Firestore alone knows what is stored, and refuses it in words of its own. The error says what takes the room."""
    filled = 600_000 if "step" not in write.get("cache", {}) or layout == "native" else 1_020_000
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"layout": layout})) as store:
        await store.create("x", FlowState.start(flow_id="x"))
        await store.update("x", blocked_on_step=BlockedOnStep(name="s" * filled))
        before = await store.load("x")
        with pytest.raises(FlowStateTooLargeError) as caught:
            await store.update("x", **write)

        assert (path, "x", MAX_DOCUMENT_BYTES) == (caught.value.path, caught.value.flow_id, caught.value.limit)
        assert caught.value.size > MAX_DOCUMENT_BYTES
        assert isinstance(caught.value.__cause__, Refused)
        assert before == await store.load("x")
