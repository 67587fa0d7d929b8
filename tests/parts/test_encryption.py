from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import (
    BackendError,
    BlockedOnStep,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateDecodeError,
    FlowStateQuery,
    FlowStateSettings,
    Operation,
    RewrapReport,
)
from firestore_flowstate._document.stored_values import part_ids
from firestore_flowstate._limits import document_size
from firestore_flowstate._operations import orphans, repacking
from firestore_flowstate._operations.reading import scan_parts
from firestore_flowstate._rpc.messages import Write
from firestore_flowstate.doctor import examine
from firestore_flowstate.testing import exactly

from .interleaving import before_commits, before_parts

SECRETS = [f"s3cret-{what}" for what in ("input", "step", "event", "response", "error", "trace", "name")]


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def keys() -> dict[str, str]:
    return {"old": key(), "new": key()}


def with_keys(settings: FlowStateSettings, **more: Any) -> FirestoreFlowStateStore:
    return FirestoreFlowStateStore(FlowStateSettings(**{**settings.model_dump(), **more}))


def secretive(size: int = 1) -> FlowState:
    state = FlowState.start(name="visible", input={"password": "s3cret-input"}, flow_id="flow")
    state.cache = {"s3cret-name": CacheEntry(value=["s3cret-step" * size])}
    state.events_triggered = {"approval": {"by": "s3cret-event"}}
    state.trace_context = "s3cret-trace"
    state.blocked_on_step = BlockedOnStep(name="approval", schema_='{"s3cret": "s3cret-event"}')
    state.operation = Operation(
        name="flow", done=True, result=FlowResult(response="s3cret-response", error="s3cret-error: why\nmore")
    )
    return state


async def raw(store: FirestoreFlowStateStore, id: str = "flow") -> bytes:
    """Return the root document and all its parts as they are stored, in bytes."""
    from firestore_flowstate._operations.deleting import part_names

    collection, deadline = await store._begin()
    root = await collection.get(id, deadline)
    assert root is not None
    names = [collection.part_name(id, part) for part in await part_names(collection, id, deadline)]
    parts = await collection.connection.batch_get(names, deadline=deadline)
    return b"".join([root.message.SerializeToString(), *(part.SerializeToString() for part in parts.values())])


class Deflated:
    """A codec whose texts compress no further."""

    name = "deflated"

    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decode(self, data: bytes) -> bytes:
        return zlib.decompress(data)


@pytest.mark.parametrize(("before", "after"), [(1_000, 20_000), (20_000, 1_000)])
@pytest.mark.parametrize("packing", ["plain", "encrypted", "codecs", "both"])
async def test_a_new_threshold_packs_again_once(
    flow_state_settings: FlowStateSettings, keys: dict[str, str], packing: str, before: int, after: int
) -> None:
    """What is compressed under one threshold, and is not under the other, is stored anew. All else stays as it is."""
    more: dict[str, Any] = {}
    if packing in ("encrypted", "both"):
        more["keys"] = {"old": keys["old"]}
    if packing in ("codecs", "both"):
        more["codecs"] = (Deflated(),)
    small, medium, large = (FlowState.start(input=os.urandom(count).hex()) for count in (50, 4_000, 40_000))
    async with with_keys(flow_state_settings, compress_over=before, **more) as store:
        await store.save_many({"small": small, "medium": medium, "large": large})
        assert RewrapReport(rewrapped=0, unchanged=3, native=[]) == await store.rewrap()
    async with with_keys(flow_state_settings, compress_over=after, **more) as store:
        first = await store.rewrap()
        assert RewrapReport(rewrapped=0, unchanged=3, native=[]) == await store.rewrap()
        compressed = [id for id in ("small", "medium", "large") if b"zstd=" in await raw(store, id)]
        loaded = await store.load_many(["small", "medium", "large"])

    changes = "codecs" not in more  # deflated text is not compressed under either
    assert RewrapReport(rewrapped=int(changes), unchanged=3 - int(changes), native=[]) == first
    assert (["medium", "large"] if after < before else ["large"]) == compressed or not changes
    assert [small.input, medium.input, large.input] == [state.input for state in loaded.values()]


@pytest.mark.parametrize("size", [1, 2000, 200_000])
async def test_no_payload_is_readable(flow_state_settings: FlowStateSettings, keys: dict[str, str], size: int) -> None:
    """A raw dump shows no input, steps or their names, events, operation or trace, nor the first line of the error."""
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}, compress_over=2**40) as store:
        state = secretive(size)
        await store.save("flow", state)
        version = await store.update(
            "flow",
            cache={"s3cret-name": CacheEntry(value="s3cret-step")},
            remove=["s3cret-name"],
            events_triggered={"more": "s3cret-event"},
            operation=state.operation,
            if_version=state.version or "",
        )
        dump = await raw(store)

        assert [] == [secret for secret in SECRETS if secret.encode() in dump]
        loaded = await store.load("flow")
        assert loaded is not None
        assert version == loaded.version
        assert {"approval": {"by": "s3cret-event"}, "more": "s3cret-event"} == loaded.events_triggered
        assert [CacheEntry(value="s3cret-step")] == list(loaded.cache.values())


async def test_name_status_and_start_stay_queryable(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """The head is in the clear: that is what it is for."""
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}) as store:
        await store.save("flow", secretive())

        for query in (
            FlowStateQuery(name="visible"),
            FlowStateQuery(status="failed"),
            FlowStateQuery(blocked_on="approval"),
        ):
            assert ["flow"] == [state.flow_id for state in (await store.list(query)).flow_states]
        [summary] = (await store.list_summaries()).summaries
        assert summary.error_line is None


async def test_rotation(flow_state_settings: FlowStateSettings, keys: dict[str, str]) -> None:
    """Old values are read with their key, new ones written with the current. Rewrap moves all. Versions stay good."""
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}) as before:
        small, large = secretive(), secretive(100_000)
        await before.save("small", small)
        await before.save("large", large)
    seen: list[int] = []
    async with with_keys(flow_state_settings, keys=keys, current_key="new") as both:
        assert small == await both.load("small")
        await both.save("newer", secretive())
        assert RewrapReport(rewrapped=2, unchanged=1, native=[]) == await both.rewrap(progress=seen.append)
        assert RewrapReport(rewrapped=0, unchanged=3, native=[]) == await both.rewrap()
        await both.update("small", cache={"x": CacheEntry(value=1)}, if_version=small.version or "")
        await both.save("large", large, if_version=large.version)
    assert [1, 2, 3] == seen
    async with with_keys(flow_state_settings, keys={"new": keys["new"]}) as after:
        loaded = await after.load("small")
        assert loaded is not None
        assert {**small.cache, "x": CacheEntry(value=1)} == loaded.cache
        assert large == await after.load("large")
        assert (await after.gc()).young == 0
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}) as outdated:
        with pytest.raises(FlowStateDecodeError, match="key 'new'") as error:
            await outdated.load("large")
        assert error.value.flow_id == "large"


async def test_rewrap_stops_at_a_state_whose_key_is_missing(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """The error has the state and the key. What was done before is done: with the key, the next run does the rest."""
    ids = [f"id-{place:02}" for place in range(20)]  # a page of a rewrap
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}) as before:
        await before.save_many(dict.fromkeys(ids, secretive()))
    async with with_keys(flow_state_settings, keys={"lost": keys["old"]}) as another:
        await another.save("last", secretive())
    new = {"new": keys["new"]}
    async with with_keys(flow_state_settings, keys={"old": keys["old"], **new}, current_key="new") as lacking:
        with pytest.raises(FlowStateDecodeError, match=r"'last'.*key 'lost'") as error:
            await lacking.rewrap()
    assert "last" == error.value.flow_id
    async with with_keys(flow_state_settings, keys=new) as after:
        assert ids == list(await after.load_many(ids))
    async with with_keys(flow_state_settings, keys={"lost": keys["old"], **new}, current_key="new") as all_keys:
        assert RewrapReport(rewrapped=1, unchanged=20, native=[]) == await all_keys.rewrap()


async def test_a_state_that_goes_while_it_is_rewrapped(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """If the state is gone, nothing is left to do: that is not an error, and no part of the rewrap stays."""
    async with (
        with_keys(flow_state_settings, keys={"old": keys["old"]}, compress_over=2**40) as writer,
        with_keys(flow_state_settings, keys=keys, current_key="new", compress_over=2**40) as both,
    ):
        await writer.save("flow", secretive(100_000))
        sent = await before_commits(both, "flow", lambda: writer.delete("flow"), times=9)

        assert RewrapReport(rewrapped=0, unchanged=1, native=[]) == await both.rewrap()
        assert 1 == len(sent)
        assert await writer.load("flow") is None
        report = await writer.gc(dry_run=True)
        assert (0, 0) == (report.orphans, report.young)


async def test_a_state_that_others_keep_writing_while_it_is_rewrapped(
    flow_state_settings: FlowStateSettings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewrap gives up after so many tries, and says so. What the others have written stays."""
    monkeypatch.setattr(repacking, "_REWRAP_TRIES", 3)
    async with (
        with_keys(flow_state_settings, keys={"old": keys["old"]}) as writer,
        with_keys(flow_state_settings, keys=keys, current_key="new") as both,
    ):
        await writer.save("flow", secretive())

        async def theirs() -> None:
            await writer.update("flow", trace_context="theirs")

        sent = await before_commits(both, "flow", theirs, times=9)

        with pytest.raises(BackendError, match="'flow' was written 3 times while it was rewrapped") as error:
            await both.rewrap()
        assert ("flow", 3) == (error.value.flow_id, len(sent))
        assert "theirs" == (await writer.load("flow") or FlowState.start()).trace_context


async def test_parts_that_others_replace_while_it_is_rewrapped(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """Parts that are gone tell nothing of the values beside them: what is stored since is packed again."""
    async with (
        with_keys(flow_state_settings, keys={"old": keys["old"]}, compress_over=2**40) as old,
        with_keys(flow_state_settings, keys=keys, current_key="new") as both,
        with_keys(flow_state_settings, keys=keys, current_key="new") as others,
    ):
        state = secretive()
        state.operation.metadata = "x" * 1_000_000
        await old.save("flow", state)
        asked = await before_parts(both, lambda: others.update("flow", operation=Operation(name="op")), times=1)

        assert RewrapReport(rewrapped=1, unchanged=0, native=[]) == await both.rewrap()
        assert 1 == len(asked)
    async with with_keys(flow_state_settings, keys={"new": keys["new"]}) as after:
        loaded = await after.load("flow")
        assert loaded is not None
        assert (state.input, "op") == (loaded.input, loaded.operation.name)


async def test_parts_that_others_keep_replacing_while_it_is_rewrapped(
    flow_state_settings: FlowStateSettings, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewrap gives up after so many tries, and says so."""
    monkeypatch.setattr(repacking, "_REWRAP_TRIES", 3)
    async with (
        with_keys(flow_state_settings, keys={"old": keys["old"]}, compress_over=2**40) as writer,
        with_keys(flow_state_settings, keys=keys, current_key="new") as both,
    ):
        await writer.save("flow", secretive(100_000))
        asked = await before_parts(both, lambda: writer.save("flow", secretive(100_000)), times=9)

        with pytest.raises(BackendError, match="'flow' was written 3 times while it was rewrapped"):
            await both.rewrap()
        assert 3 == len(asked)


async def test_what_rewrap_makes_larger_than_a_document_moves_to_parts(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """What was compressed in the root may have no room there any more. Values and steps move, the largest first."""
    state = secretive()
    state.input = words(600_000)
    state.cache["large"] = CacheEntry(value=words(300_000))
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}) as before:
        await before.save("flow", state)
        for number in range(8):
            await before.update("flow", cache={f"step-{number}": CacheEntry(value=words(100_000))})
        await before.save("next", secretive())
        loaded = await before.load("flow")
        assert loaded is not None
        assert 0 == await parts_of(before)
    async with with_keys(flow_state_settings, keys=keys, current_key="new", compress_over=2**40) as both:
        assert RewrapReport(rewrapped=2, unchanged=0, native=[]) == await both.rewrap()
        assert RewrapReport(rewrapped=0, unchanged=2, native=[]) == await both.rewrap()
    async with with_keys(flow_state_settings, keys={"new": keys["new"]}, compress_over=2**40) as after:
        collection, deadline = await after._begin()
        document = await collection.get("flow", deadline)
        assert document is not None
        root = document.read_root()
        size = document_size(collection.path_of("flow"), document.fields)
        assert (1024 * 1024) // 4 < size < 600 * 1024
        assert await parts_of(after) == root.part_count == len(part_ids(root.refs)) > 3
        assert exactly(loaded) == exactly(await after.load("flow"))
        await after.update("flow", cache={"last": CacheEntry(value=1)}, if_version=loaded.version or "")
        assert [*loaded.cache, "last"] == [*(await after.load("flow") or FlowState.start()).cache]
        assert 0 == await orphans_of(after)


async def test_rewrap_stops_at_a_state_whose_parts_are_missing(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """It cannot be read, and the error says so. If it has expired, nobody reads it, and it is left as it is."""
    async with with_keys(flow_state_settings, keys={"old": keys["old"]}, compress_over=2**40) as store:
        await store.save("flow", secretive(100_000))
        collection, deadline = await store._begin()
        [[part, *_]] = [page async for page in scan_parts(collection)]
        await collection.connection.commit([Write(delete=part.name)], deadline=deadline, flow_id="flow")
    async with with_keys(flow_state_settings, keys=keys, current_key="new") as both:
        with pytest.raises(FlowStateDecodeError, match=r"'flow'.*parts that it refers to are missing") as error:
            await both.rewrap()
        assert "flow" == error.value.flow_id
        expired = Write()
        expired.update.name = collection.name("flow")
        expired.update.fields["expireAt"].timestamp_value.seconds = 1
        expired.update_mask.field_paths.append("expireAt")
        await collection.connection.commit([expired], deadline=collection.deadline(None), flow_id="flow")
        assert RewrapReport(rewrapped=0, unchanged=1, native=[]) == await both.rewrap()


async def test_a_plain_collection_is_encrypted_by_rewrap(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """What was stored before encryption was turned on is refused when it is required, until it is rewrapped."""
    async with FirestoreFlowStateStore(flow_state_settings) as plain:
        await plain.save("flow", secretive(10_000))
        assert b"s3cret-input" in await raw(plain)
    async with with_keys(flow_state_settings, keys={"k": keys["new"]}, require_encryption=True) as strict:
        with pytest.raises(FlowStateDecodeError, match="not encrypted"):
            await strict.load("flow")
    async with with_keys(flow_state_settings, keys={"k": keys["new"]}) as lenient:
        assert 1 == (await lenient.rewrap()).rewrapped
        dump = await raw(lenient)
    assert [] == [secret for secret in SECRETS if secret.encode() in dump]
    async with with_keys(flow_state_settings, keys={"k": keys["new"]}, require_encryption=True) as strict:
        assert secretive(10_000).cache == (await strict.load("flow") or FlowState.start()).cache
    async with FirestoreFlowStateStore(flow_state_settings) as plain:
        with pytest.raises(FlowStateDecodeError, match="settings have no keys"):
            await plain.load("flow")


async def test_another_key_under_the_same_id_is_told(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """A wrong key is an error, never a wrong value."""
    async with with_keys(flow_state_settings, keys={"k": keys["old"]}) as store:
        await store.save("flow", secretive())
    async with with_keys(flow_state_settings, keys={"k": keys["new"]}) as wrong:
        with pytest.raises(FlowStateDecodeError, match="cannot be decrypted"):
            await wrong.load("flow")


async def test_values_cannot_be_moved(flow_state_settings: FlowStateSettings, keys: dict[str, str]) -> None:
    """A value is bound to its flow and its field, and cannot be moved to another. A restored backup still reads."""
    async with with_keys(flow_state_settings, keys={"k": keys["old"]}) as store:
        await store.save("flow", secretive())
        await store.save("other", secretive())
        collection, deadline = await store._begin()
        document = await collection.get("flow", deadline)
        assert document is not None
        moved, swapped, restored = (Write() for _ in range(3))
        moved.update.name = collection.name("other")
        swapped.update.name = collection.name("swapped")
        for write in (moved, swapped):
            for name, value in document.fields.items():
                write.update.fields[name].CopyFrom(value)
        payload = swapped.update.fields["_flowstate"].map_value.fields
        payload["input"].CopyFrom(payload["operation"])
        await collection.connection.commit([moved, swapped], deadline=deadline, flow_id=None)
        for id in ("other", "swapped"):
            with pytest.raises(FlowStateDecodeError, match="belongs to another flow or field"):
                await store.load(id)
        # The same path in another project, as an import has it.
        elsewhere = FlowStateSettings(
            **{**flow_state_settings.model_dump(), "project": "demo-restored", "keys": {"k": keys["old"]}}
        )
        async with FirestoreFlowStateStore(elsewhere) as copy:
            there, _ = await copy._begin()
            restored.update.name = there.name("flow")
            for name, value in document.fields.items():
                restored.update.fields[name].CopyFrom(value)
            await there.connection.commit([restored], deadline=deadline, flow_id=None)
            assert await store.load("flow") == await copy.load("flow")


async def test_a_kms_hands_out_keys_when_they_are_needed(flow_state_settings: FlowStateSettings) -> None:
    """A key may be a function, called once, at first use, for all threads that come later."""
    asked: list[str] = []

    def kms() -> bytes:
        asked.append("kms")
        return b"0123456789abcdef"

    async with with_keys(flow_state_settings, keys={"kms": kms}) as store:
        assert [] == asked
        await store.save("flow", secretive())
        assert (await store.load("flow") or FlowState.start()).input == {"password": "s3cret-input"}
        loaded = await asyncio.to_thread(lambda: asyncio.run(store.load("flow")))
        assert (loaded or FlowState.start()).input == {"password": "s3cret-input"}
    assert ["kms"] == asked


class Reversed:
    """A codec that an application might have: ten lines with the imports."""

    name = "reversed"

    def encode(self, data: bytes) -> bytes:
        return zlib.compress(data)[::-1]

    def decode(self, data: bytes) -> bytes:
        return zlib.decompress(data[::-1])


async def test_codecs_of_the_application(flow_state_settings: FlowStateSettings, keys: dict[str, str]) -> None:
    """Every value goes through them, beside compression and encryption. Without them it cannot be read."""
    for more in ({}, {"keys": {"k": keys["old"]}}, {"compress_over": 10}):
        async with with_keys(flow_state_settings, codecs=[Reversed()], **more) as store:
            state = secretive(1000)
            await store.save("flow", state)
            assert state == await store.load("flow")
        async with with_keys(flow_state_settings, **more) as without:
            with pytest.raises(FlowStateDecodeError, match="codec 'reversed'"):
                await without.load("flow")


async def test_a_retired_codec_reads_and_no_longer_writes(flow_state_settings: FlowStateSettings) -> None:
    """It is needed until rewrap has stored everything without it."""
    state = secretive()
    async with with_keys(flow_state_settings, codecs=[Reversed()]) as store:
        await store.save("flow", state)
    async with with_keys(flow_state_settings, retired_codecs=[Reversed()]) as store:
        assert state == await store.load("flow")
        assert [1, 0] == [(await store.rewrap()).rewrapped for _ in range(2)]
    async with with_keys(flow_state_settings) as store:
        assert state == await store.load("flow")


async def test_text_of_llm_calls_is_stored_in_two_fifths(flow_state_settings: FlowStateSettings) -> None:
    """Large values are compressed. Small ones stay JSON text that the console shows."""
    prompt = (
        "You are a careful assistant. Summarise the customer's request below in two sentences, then list the open "
        "questions as bullets. Answer in the customer's language and never invent facts.\n\n"
    )
    answer = "The customer asks for a refund of order {n}, which arrived damaged on day {n}. Open question {n}: photos?"
    state = FlowState.start(flow_id="flow", input={"topic": "refunds"})
    for n in range(40):
        messages = [
            {"role": "user", "content": prompt + answer.format(n=n) * 3},
            {"role": "model", "content": answer.format(n=n * 7)},
        ]
        state.cache[f"generate-{n}"] = CacheEntry(
            value={"messages": messages, "usage": {"input": 812 + n, "output": 95}}
        )
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        await store.save("flow", state)
        stored = len(await raw(store))
        text = await raw(store)

    assert 2.5 * stored < len(json.dumps(state.model_dump(by_alias=True)))
    assert b'{"topic":"refunds"}' in text


Leaves = Callable[[FirestoreFlowStateStore, str], Awaitable[object]]


async def _replaced(store: FirestoreFlowStateStore, id: str) -> None:
    await store.save(id, secretive(100_000))


async def _deleted(store: FirestoreFlowStateStore, id: str) -> None:
    await _replaced(store, id)
    collection, deadline = await store._begin()
    await collection.connection.commit(
        [Write(delete=collection.name(id))], deadline=deadline, flow_id=id
    )  # as TTL does


@pytest.mark.parametrize("leave", [_replaced, _deleted])
@pytest.mark.parametrize("before", [{}, {"current_key": "old"}], ids=["in the clear", "under the old key"])
async def test_parts_that_nothing_refers_to_are_found_until_gc_deletes_them(
    flow_state_settings: FlowStateSettings, keys: dict[str, str], before: dict[str, Any], leave: Leaves
) -> None:
    """Rewrap does not rewrite them, so the doctor tells of them, after encryption was turned on or a key rotated."""
    earlier = {"compress_over": 2**30, **({"keys": keys, **before} if before else {})}
    async with with_keys(flow_state_settings, **earlier) as old:
        await leave(old, "flow")
        await leave(old, "another")
    async with with_keys(flow_state_settings, keys=keys, current_key="new", require_encryption=True) as store:
        await store.save("flow", secretive())
        await store.save("another", secretive())
        await store.save("large", secretive(100_000))
        parts = await orphans_of(store)
        assert 0 == (await store.rewrap()).rewrapped
        [found] = [finding async for finding in examine(store)]

        assert parts > 0
        assert ("orphan", None) == (found.kind, found.id)
        assert f"{parts} below 'another', 'flow'. Run `flowstate gc`" in found.message
        assert f"{parts} stay until they are an hour old" in found.message
        assert parts == (await store.gc()).young
        collection, _ = await store._begin()
        assert parts == (await orphans.collect(collection, dry_run=False, min_age=timedelta(0))).deleted
        assert [] == [finding async for finding in examine(store)]
        assert await store.load("large") is not None


async def test_parts_that_nothing_refers_to_are_passed_over_if_the_current_key_encrypts_them(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """They cost storage and tell nobody anything. Without keys nothing is said to be encrypted."""
    async with with_keys(flow_state_settings, keys=keys, current_key="new") as store:
        await store.save("flow", secretive(100_000))
        await store.save("flow", secretive())
        assert await orphans_of(store) > 0
        assert [] == [finding async for finding in examine(store)]
    async with with_keys(flow_state_settings) as plain:
        await plain.save("plain", secretive(100_000))
        await plain.save("plain", secretive())
        await plain.delete("flow")
        assert [] == [finding async for finding in examine(plain)]


async def test_a_value_without_its_first_part_is_not_taken_for_encrypted(
    flow_state_settings: FlowStateSettings, keys: dict[str, str]
) -> None:
    """Only the first part says how a value is stored, and a gc that was cut short may have taken it."""
    async with with_keys(flow_state_settings, compress_over=2**30) as old:
        await old.save("flow", secretive(300_000))
        await old.save("flow", secretive())
        collection, deadline = await old._begin()
        names = [page_part.name async for page in scan_parts(collection) for page_part in page]
        [first] = [name for name in names if name.endswith("-0")]
        await collection.connection.commit([Write(delete=first)], deadline=deadline, flow_id="flow")
    async with with_keys(flow_state_settings, keys=keys, current_key="new") as store:
        await store.rewrap()
        [found] = [finding async for finding in examine(store)]

    assert len(names) > 2
    assert f"{len(names) - 1} below 'flow'" in found.message


def words(size: int) -> str:
    """Return a text of so many characters that compresses to about a seventh."""
    source = random.Random(size)
    vocabulary = [source.randbytes(4).hex() for _ in range(300)]
    return " ".join(source.choices(vocabulary, k=size // 9))


async def parts_of(store: FirestoreFlowStateStore) -> int:
    """Return how many parts are stored."""
    collection, _ = await store._begin()
    return sum([len(page) async for page in scan_parts(collection)])


async def orphans_of(store: FirestoreFlowStateStore) -> int:
    """Return how many parts no flow state refers to, all of them young."""
    return (await store.gc(dry_run=True)).young
