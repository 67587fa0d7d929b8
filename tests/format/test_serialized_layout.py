"""Whole states in the serialized layout, read raw over REST and compared whole with value types."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zlib import crc32

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from tests.format.forms import FIFTY_YEARS, ID, LONG_TEXT, START, TWO_PARTS, Stored, state
from tests.format.notation import Long, Packed, Time, same
from tests.format.saved import EXECUTIONS, PREPARE, TRACE_TEXT, saved
from tests.support.raw_documents import RawCollection


async def test_a_save_writes_the_head_the_values_and_one_segment(stored: Stored) -> None:
    """The head is readable, each value is JSON text, and all steps are in one segment."""
    document = await stored("saved")

    assert same(saved({})) == same(document.root)
    assert {} == document.parts


async def test_a_create_names_itself(stored: Stored) -> None:
    """The revision that made the document is kept, to tell after a lost reply whose create it was."""
    document = await stored("created")

    assert same(saved({"created": "id-1"})) == same(document.root)


async def test_a_save_over_a_version_remembers_it(stored: Stored) -> None:
    """The segment of a versioned save lists the revisions it covers."""
    document = await stored("saved-over-a-version")

    steps = '{"prepare":{"value":["outline",0.5]},"finish":{"value":"cats"}}'
    log = [{"id": "id-2", "ids": ["id-1"], "set": steps}]
    summary = {"steps": 2, "bytes": 449}
    assert same(saved({"log": log, "weight": 1063}, summary=summary)) == same(document.root)


async def test_a_save_remembers_64_revisions(flow_state_settings: FlowStateSettings) -> None:
    """The segment of a versioned save lists the last 64 revisions that it covers, the oldest of them first."""
    raw, flow = RawCollection(flow_state_settings), state()
    made: list[Any] = []
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        for _ in range(67):
            await store.save(ID, flow, if_version=flow.version)
            payload = raw.read(ID)["_flowstate"]["mapValue"]["fields"]
            [segment] = payload["log"]["arrayValue"]["values"]
            made.append(segment["mapValue"]["fields"]["id"])

    assert made[-65:-1] == segment["mapValue"]["fields"]["ids"]["arrayValue"]["values"]


async def test_a_save_over_a_created_version_keeps_its_create(stored: Stored) -> None:
    """A create whose reply was lost is still known to have made the document, however often it is saved since."""
    document = await stored("created-saved-over")

    log = [{"id": "id-2", "ids": ["id-1"], "set": PREPARE}]
    assert same(saved({"log": log, "created": "id-1"})) == same(document.root)


async def test_what_is_absent_stays_absent(stored: Stored) -> None:
    """Optional fields and empty maps leave no field. A fractional start is a double."""
    document = await stored("least")

    payload = {"input": ..., "traceContext": ..., "executions": "[]", "log": [{"id": "id-1"}], "weight": 1000}
    head = {"name": ..., "startTime": 0.5, "status": "scheduled", "summary": {"steps": 0, "bytes": 147}}
    assert same(saved(payload, **head)) == same(document.root)


async def test_null_is_kept_apart_from_absent(stored: Stored) -> None:
    """A null value is the text ``null``. A null name, which the head leaves out, is among the extra keys."""
    document = await stored("nulls")

    payload = {"input": "null", "traceContext": "null", "extra": '{"name":null}'}
    assert same(saved(payload, name=..., summary={"steps": 1, "bytes": 312})) == same(document.root)


async def test_unknown_scalars_are_fields_that_queries_can_ask_for(stored: Stored) -> None:
    """They are in the head, and once more in the summary. All other unknown keys are among the extra keys."""
    document = await stored("unknown-keys")

    scalars = {"owner": "uid-1", "attempt": 3, "vip": True, "ratio": 1.5}
    payload = {"extra": '{"tags":["a"],"status":"mine","nothing":null,"__x__":1}'}
    summary = {"steps": 1, "bytes": 528, "extra": scalars}
    assert same(saved(payload, **scalars, summary=summary)) == same(document.root)


async def test_steps_have_any_name_and_any_result(stored: Stored) -> None:
    """What Firestore's maps cannot hold is JSON text, in the order of the steps."""
    document = await stored("hard-values")

    entries = (
        '{"nested":{"value":[[1,[2]],[[]]]},"__reserved__":{"value":-0.0},"":{"value":[NaN,Infinity,-Infinity]},'
        '"a.b/c d`e":{"value":1180591620717411303424},"surrogate":{"value":"\\ud83d"},"falsy":{"value":false},'
        '"nothing":{},"empty":{"empty":true},"null":{"value":null},"more":{"value":0,"unknown":{"kept":[1.0]}}}'
    )
    log = [{"id": "id-1", "set": entries, "events": '{"__e__":[[null]]}'}]
    summary = {"steps": 10, "bytes": 707}
    assert same(saved({"log": log, "weight": 1323}, summary=summary)) == same(document.root)


async def test_a_blocked_flow_shows_the_step_it_waits_for(stored: Stored) -> None:
    """The head has the step's name, the payload all of it."""
    document = await stored("blocked")

    payload = {"blockedOnStep": '{"name":"approval","schema":"{\\"type\\":\\"object\\"}"}'}
    head = {"status": "blocked", "blockedOnStep": {"name": "approval"}, "summary": {"steps": 1, "bytes": 471}}
    assert same(saved(payload, **head)) == same(document.root)


async def test_a_flow_that_is_done(stored: Stored) -> None:
    """The status follows from the operation. A false response is kept."""
    document = await stored("done")

    payload = {"operation": '{"name":"flow-1","done":true,"result":{"response":false}}'}
    assert same(saved(payload, status="done", summary={"steps": 1, "bytes": 450})) == same(document.root)


async def test_a_flow_that_failed_shows_the_first_line_of_its_error(stored: Stored) -> None:
    """The summary has it, and when the last execution ended."""
    document = await stored("failed")

    payload = {
        "operation": '{"name":"flow-1","done":true,"result":{"error":"kaboom\\nat all","stacktrace":"s"}}',
        "executions": f'[{{"startTime":{START},"endTime":{START + 7},"traceIds":[]}}]',
    }
    summary = {"steps": 1, "bytes": 465, "errorLine": "kaboom", "lastEnd": START + 7}
    assert same(saved(payload, status="failed", summary=summary)) == same(document.root)


async def test_a_flow_that_has_ended_expires(stored: Stored) -> None:
    """The timestamp expireAt is the time of the write plus expire_after."""
    document = await stored("expiring")

    payload = {"operation": '{"name":"flow-1","done":true}'}
    head = {"status": "done", "expireAt": Time(FIFTY_YEARS), "summary": {"steps": 1, "bytes": 422}}
    assert same(saved(payload, **head)) == same(document.root)


async def test_shards_are_numbered_by_the_id(stored: Stored) -> None:
    """The shard is the CRC-32 of the id modulo the number of shards, and 0 unless sharded."""
    document = await stored("sharded")

    assert same(saved({}, shard=crc32(ID.encode()) % 8)) == same(document.root)


async def test_long_values_are_compressed(stored: Stored) -> None:
    """A value over compress_over is an envelope of zstd, which declares its size."""
    document = await stored("compressed")

    text, steps = f'"{LONG_TEXT}"', f'{{"step":{{"value":"{LONG_TEXT}"}}}}'
    set = Packed(f"zstd={len(steps)}", steps)
    weight = document.root["_flowstate"]["weight"]
    payload = {
        "input": Packed(f"zstd={len(text)}", text),
        "log": [{"id": "id-1", "set": set}],
        "weight": weight,
    }
    assert same(saved(payload, summary={"steps": 1, "bytes": 14793})) == same(document.root)
    assert 1000 < weight < 1200


async def test_with_keys_every_value_is_encrypted(stored: Stored) -> None:
    """All of the payload is ciphertext, bound to place and field. The error's line is left out of the head."""
    document = await stored("encrypted")

    aes = "aes-gcm=key-1"
    text = f'"{LONG_TEXT}"'
    payload = {
        "input": Packed(f"zstd={len(text)};{aes}", text),
        "operation": Packed(aes, '{"name":"flow-1","done":true,"result":{"error":"kaboom"}}'),
        "executions": Packed(aes, EXECUTIONS),
        "blockedOnStep": Packed(aes, "null"),
        "traceContext": Packed(aes, TRACE_TEXT),
        "extra": Packed(aes, '{"secret":["s"]}'),
        "log": [{"id": "id-1", "set": Packed(aes, PREPARE), "events": Packed(aes, '{"approval":true}')}],
        # An envelope of AES-GCM adds its byte and line to a text, a nonce of 12 bytes and a tag of 16 bytes.
        "weight": 1000 + len(PREPARE) + len('{"approval":true}') + 2 * (1 + len(aes) + 1 + 12 + 16),
    }
    assert same(saved(payload, status="failed", summary={"steps": 1, "bytes": 7666})) == same(document.root)


async def test_codecs_of_the_application_come_first(stored: Stored) -> None:
    """Every value goes through them, and is compressed then."""
    document = await stored("own-codec")

    text = f'"{LONG_TEXT}"'
    payload = {
        "input": Packed(f"backwards;zstd={len(text)}", text),
        "operation": Packed("backwards", '{"name":"flow-1","done":false}'),
        "executions": Packed("backwards", EXECUTIONS),
        "blockedOnStep": Packed("backwards", "null"),
        "traceContext": Packed("backwards", TRACE_TEXT),
        "log": [{"id": "id-1", "set": Packed("backwards", PREPARE)}],
        "weight": 1037 + len("?backwards\n"),
    }
    assert same(saved(payload, summary={"steps": 1, "bytes": 7609})) == same(document.root)


async def test_what_does_not_fit_moves_to_parts(stored: Stored) -> None:
    """A reference stands in its place. Parts hold a million bytes each and outlive the root by seven days."""
    document = await stored("parts")

    text = f'"{TWO_PARTS}"'
    payload = {"input": {"part": "id-2", "count": 2, "bytes": len(text)}, "parts": 2}
    head = {"expireAt": Time(FIFTY_YEARS), "summary": {"steps": 1, "bytes": 1050409}}
    expiry = Time(FIFTY_YEARS + timedelta(days=7))
    assert same(saved(payload, **head)) == same(document.root)
    assert same(
        {
            "id-2-0": {"data": Long.of(text[:1_000_000]), "expireAt": expiry},
            "id-2-1": {"data": Long.of(text[1_000_000:]), "expireAt": expiry},
        }
    ) == same(document.parts)
