"""Parts, ciphertext and codecs that are not what they should be: refused, and by name."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateDecodeError, FlowStateSettings
from firestore_flowstate.doctor import examine
from tests.support.damage import drop, envelope, integer, put, raw_bytes, sound, text
from tests.support.raw_documents import Fields, RawCollection

GOLDEN = Path(__file__).parents[1] / "data" / "format-v1"
KEYS = {"key-1": base64.b64encode(b"0123456789abcdef").decode()}

LoadsWith = Callable[..., Any]


@pytest.fixture
def settings(flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    """Settings of the collection that golden ciphertexts are bound to."""
    return flow_state_settings.model_copy(update={"collection": "flows"})


@pytest.fixture
def raw(settings: FlowStateSettings) -> RawCollection:
    return RawCollection(settings)


async def load(settings: FlowStateSettings, id: str = "flow-1", **changes: Any) -> FlowState | None:
    async with FirestoreFlowStateStore(settings.model_copy(update=changes)) as store:
        return await store.load(id)


async def refused(settings: FlowStateSettings, id: str = "flow-1", **changes: Any) -> str:
    """Return what the error says that load raises."""
    with pytest.raises(FlowStateDecodeError) as caught:
        await load(settings, id, **changes)
    assert id == caught.value.flow_id
    return str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop("data"), "has no data"),
        (put("data", text("x")), "has no data"),
        (put("data", raw_bytes(b"")), "bytes instead of 1,050,002"),
        (put("data", raw_bytes(b"x" * 50_001)), "1,050,001 bytes instead of"),
        (put("data", raw_bytes(b"x" * 50_003)), "1,050,003 bytes instead of"),
        (put("data", raw_bytes(b"x" * 50_002)), "input is not JSON"),
    ],
)
async def test_a_part_that_is_damaged(
    damage: Callable[[Fields], None], message: str, raw: RawCollection, settings: FlowStateSettings
) -> None:
    """A part must have its bytes, all of its value the size that its reference says."""
    second = write_golden(raw, "parts")[-1]
    fields = raw.read(second)
    damage(fields)
    raw.write(second, fields)

    assert message in await refused(settings)


async def test_a_part_that_is_missing(raw: RawCollection, settings: FlowStateSettings) -> None:
    """It is looked for again as of the time of the root, and then given up."""
    raw.delete(write_golden(raw, "parts")[-1])

    assert "parts that it refers to are missing" in await refused(settings)


async def test_a_size_that_differs_from_its_parts(raw: RawCollection, settings: FlowStateSettings) -> None:
    """A reference must know the size of its value."""
    write_golden(raw, "parts")
    fields = raw.read("flow-1")
    put("_flowstate.input.bytes", integer(7))(fields)
    raw.write("flow-1", fields)

    assert "instead of 7" in await refused(settings)


async def test_values_of_the_log_and_the_others_declare_too_much_together(
    raw: RawCollection, settings: FlowStateSettings
) -> None:
    """Neither the log alone nor the input alone does. Nothing is unpacked."""
    large = envelope(f"zstd={300 * 2**20}", b"")
    for paths in (["_flowstate.input"], ["_flowstate.log.0.set"], ["_flowstate.input", "_flowstate.log.0.set"]):
        fields = sound()
        for path in paths:
            put(path, large)(fields)
        raw.write("flow-1", fields)

        assert ("would unpack to 629,14" in await refused(settings)) == (len(paths) == 2)


async def test_list_serves_what_is_beside_a_state_without_its_parts(
    raw: RawCollection, settings: FlowStateSettings
) -> None:
    """The missing part of one is not an error of the others."""
    raw.delete(write_golden(raw, "parts")[-1])
    raw.write("other", sound())
    async with FirestoreFlowStateStore(settings) as store:
        with pytest.raises(FlowStateDecodeError) as caught:
            await store.list()

    assert caught.value.response is not None
    assert ("flow-1", 1) == (caught.value.flow_id, len(caught.value.response.flow_states))


async def test_keys_are_needed_and_must_be_right(raw: RawCollection, settings: FlowStateSettings) -> None:
    """Nothing is read without keys, without that key, or with another key under its id. The value is named."""
    write_golden(raw, "encrypted")
    other = base64.b64encode(bytes(16)).decode()

    assert await load(settings, keys=KEYS) is not None
    encrypted = "input is encrypted with the key 'key-1'"
    assert f"{encrypted}, and the settings have no keys" in await refused(settings)
    assert f"{encrypted}; the settings have only: key-2" in await refused(settings, keys={"key-2": other})
    assert "input cannot be decrypted with the key 'key-1'" in await refused(settings, keys={"key-1": other})


async def test_plaintext_is_refused_if_encryption_is_required(raw: RawCollection, settings: FlowStateSettings) -> None:
    """A value that somebody put in place of a ciphertext is not a value."""
    write_golden(raw, "encrypted")
    required = {"keys": KEYS, "require_encryption": True}
    readable = await load(settings, **required)
    fields = raw.read("flow-1")
    put("_flowstate.operation", text('{"name":"flow-1","done":true}'))(fields)
    raw.write("flow-1", fields)

    assert readable is not None
    assert "operation is not encrypted" in await refused(settings, **required)


@pytest.mark.parametrize(
    "forged",
    [
        {"mapValue": {"fields": {"tier": text("gold")}}},
        {"arrayValue": {"values": [text("gold")]}},
        {"nullValue": None},
        text("x" * 1_500),
    ],
    ids=["map", "array", "null", "long"],
)
async def test_plaintext_in_the_head_is_refused_if_encryption_is_required(
    raw: RawCollection, settings: FlowStateSettings, forged: Any
) -> None:
    """An unknown key of the head stands for the one in the payload. One that is encrypted there is not in the clear."""
    required = settings.model_copy(update={"keys": KEYS, "require_encryption": True})
    async with FirestoreFlowStateStore(FlowStateSettings(**required.model_dump())) as store:
        unknown = {"plan": {"tier": "free"}, "owner": "ada", "number": 2.5, "yes": True, "long": "y" * 1_499}
        state = FlowState.start(flow_id="flow-1").model_dump(by_alias=True)
        await store.save("flow-1", FlowState.model_validate({**state, **unknown}))
        loaded = await store.load("flow-1")
        assert loaded is not None
        assert unknown == loaded.model_extra
        fields = raw.read("flow-1")
        fields["plan"] = forged
        raw.write("flow-1", fields)

        assert "plan is not encrypted" in await refused(settings, keys=KEYS, require_encryption=True)
        assert ["unreadable"] == [finding.kind async for finding in examine(store) if finding.id == "flow-1"]


async def test_a_ciphertext_is_bound_to_its_field(raw: RawCollection, settings: FlowStateSettings) -> None:
    """The value of one field is not the value of another."""
    write_golden(raw, "encrypted")
    fields = raw.read("flow-1")
    payload = fields["_flowstate"]["mapValue"]["fields"]
    payload["input"] = payload["operation"]
    raw.write("flow-1", fields)

    assert "belongs to another flow or field" in await refused(settings, keys=KEYS)


async def test_a_ciphertext_is_bound_to_its_flow(raw: RawCollection, settings: FlowStateSettings) -> None:
    """A document copied to another id does not read. Nor does one copied to another collection."""
    write_golden(raw, "encrypted")
    raw.write("flow-2", raw.read("flow-1"))
    elsewhere = settings.model_copy(update={"collection": "elsewhere"})
    RawCollection(elsewhere).write("flow-1", raw.read("flow-1"))

    assert "belongs to another flow or field" in await refused(settings, "flow-2", keys=KEYS)
    assert "belongs to another flow or field" in await refused(elsewhere, keys=KEYS)


@pytest.mark.parametrize("cut", [0, 5, 12, 27, 60])
async def test_a_ciphertext_that_is_cut_off(cut: int, raw: RawCollection, settings: FlowStateSettings) -> None:
    """A nonce without text, a text without tag, or not even a nonce."""
    write_golden(raw, "encrypted")
    fields = raw.read("flow-1")
    put("_flowstate.operation", raw_bytes(b"\xf5aes-gcm=key-1\n" + bytes(cut)))(fields)
    raw.write("flow-1", fields)

    assert "operation cannot be decrypted" in await refused(settings, keys=KEYS)


async def test_a_codec_of_the_application_is_needed(raw: RawCollection, settings: FlowStateSettings) -> None:
    """What was stored under a codec's name cannot be read without it. What it raises is kept as the cause."""
    write_golden(raw, "own-codec")

    class Failing:
        name = "backwards"

        def encode(self, data: bytes, /) -> bytes:
            return data

        def decode(self, data: bytes, /) -> bytes:
            raise LookupError("no such dictionary")

    assert "the codec 'backwards', which this store does not have" in await refused(settings)
    assert "the codec 'backwards' failed" in await refused(settings, codecs=(Failing(),))
    assert "no such dictionary" in await refused(settings, codecs=(Failing(),))


async def test_an_expiry_at_the_end_of_time(raw: RawCollection, settings: FlowStateSettings) -> None:
    """The last moment that Firestore can hold is read like any other."""
    fields = sound()
    put("expireAt", {"timestampValue": "9999-12-31T23:59:59.999999999Z"})(fields)
    raw.write("flow-1", fields)
    state = await load(settings)

    assert state is not None
    assert state.expire_at is not None
    assert 9999 == state.expire_at.year


async def test_times_before_the_year_1000_have_four_digits(raw: RawCollection, settings: FlowStateSettings) -> None:
    """What JSON has not takes its documented form: RFC 3339."""
    fields = sound()
    put("since", {"timestampValue": "0001-02-03T04:05:06Z"})(fields)
    raw.write("flow-1", fields)
    async with FirestoreFlowStateStore(settings) as store:
        async with store.edit("flow-1") as state:
            state.cache["step"] = CacheEntry(value=(state.model_extra or {})["since"])
        loaded = await store.load("flow-1")

    assert loaded is not None
    assert "0001-02-03T04:05:06.000000Z" == loaded.cache["step"].value


def write_golden(raw: RawCollection, name: str) -> list[str]:
    """Write a golden document and its parts. Return the paths below the collection."""
    path = GOLDEN / f"{name}.json"
    content = path.read_bytes() if path.exists() else gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes())
    documents = json.loads(content)["documents"]
    for id, fields in documents.items():
        raw.write(id, fields)
    return list(documents)
