"""Partial writes and compactions in the serialized layout, read raw over REST and compared whole with value types."""

from __future__ import annotations

from tests.format.forms import ONE_PART, START, Stored
from tests.format.notation import Long, Packed, same
from tests.format.saved import EXECUTIONS, PREPARE, TRACE_TEXT, saved


async def test_an_update_appends_a_segment(stored: Stored) -> None:
    """Steps and events are one segment more, and so is an update that names nothing."""
    document = await stored("updated")

    log = [
        {"id": "id-1", "set": PREPARE},
        {"id": "id-2", "set": '{"finish":{"value":null}}', "events": '{"approval":true}'},
        {"id": "id-3"},
    ]
    summary = {"steps": 2, "bytes": 463}
    assert same(saved({"log": log, "weight": 3079}, summary=summary)) == same(document.root)


async def test_removed_steps_are_named(stored: Stored) -> None:
    """A segment removes before it sets. Steps are counted as an update knows them: one set again counts again."""
    document = await stored("removed")

    log = [
        {"id": "id-1", "set": '{"a":{"value":1},"b":{"value":2},"c":{"value":3}}'},
        {"id": "id-2", "del": '["a","b"]', "set": '{"a":{"value":4}}'},
        {"id": "id-3", "set": '{"c":{"empty":true}}'},
    ]
    summary = {"steps": 3, "bytes": 470}
    assert same(saved({"log": log, "weight": 3095}, summary=summary)) == same(document.root)


async def test_replaced_values_take_their_head_along(stored: Stored) -> None:
    """Operation, blocked step and executions change status and summary in the same write."""
    document = await stored("replaced")

    operation = '{"name":"flow-1","done":true,"result":{"error":"No cats\\nat all","stacktrace":"here"}}'
    payload = {
        "operation": operation,
        "executions": f'[{{"startTime":{START},"endTime":{START + 1}.5,"traceIds":[]}}]',
        "blockedOnStep": "null",
        "traceContext": "null",
        "log": [{"id": "id-1", "set": PREPARE}, {"id": "id-2"}],
        "weight": 2037,
    }
    summary = {"steps": 1, "bytes": 615, "errorLine": "No cats", "lastEnd": START + 1.5}
    assert same(saved(payload, status="failed", summary=summary)) == same(document.root)


async def test_unknown_keys_are_set_in_the_head(stored: Stored) -> None:
    """A key that is set stands in the head and in its summary, whatever the payload has under that name."""
    document = await stored("keys-updated")

    payload = {
        "extra": '{"second":{"saved":"as an object"},"fourth":[4]}',
        "log": [{"id": "id-1", "set": PREPARE}, {"id": "id-2"}],
        "weight": 2037,
    }
    keys = {"first": "saved", "second": "set", "a.b`c": 1.0, "wakeAt": START}
    summary = {"steps": 1, "bytes": 546, "extra": keys}
    assert same(saved(payload, summary=summary, **keys)) == same(document.root)


async def test_an_expiry_goes_when_the_flow_goes_on(stored: Stored) -> None:
    """A flow that is resumed has no expireAt any more."""
    document = await stored("expiry-cleared")

    payload = {
        "operation": '{"name":"flow-1"}',
        "blockedOnStep": '{"name":"approval"}',
        "log": [{"id": "id-1", "set": PREPARE}, {"id": "id-2"}],
        "weight": 2037,
    }
    head = {"status": "blocked", "blockedOnStep": {"name": "approval"}, "summary": {"steps": 1, "bytes": 458}}
    assert same(saved(payload, **head)) == same(document.root)


async def test_a_compaction_leaves_one_segment_that_remembers(stored: Stored) -> None:
    """All segments become one with the last one's id and the 64 before it. The steps are counted anew."""
    document = await stored("compacted")

    compacted = {
        "id": "id-65",
        "ids": [f"id-{number}" for number in range(1, 65)],
        "set": f'{PREPARE[:-1]},"step-1":{{"value":292}},"step-2":{{"value":290}},"step-0":{{"value":291}}}}',
    }
    later = [
        {"id": f"id-{index - 227}", "set": f'{{"step-{index % 3}":{{"value":{index}}}}}'} for index in range(293, 298)
    ]
    log = [compacted, *later, {"id": "id-71", "set": '{"last":{"value":true}}'}]
    weight = sum(1000 + len(str(segment["set"])) for segment in log)
    summary = {"steps": 4 + 6, "bytes": 629}  # what had been set again is taken off
    assert same(saved({"log": log, "weight": weight}, summary=summary)) == same(document.root)


async def test_a_heavy_compacted_log_moves_to_a_part(stored: Stored) -> None:
    """A merged segment leaves the root if it is heavy, by reference from its place in the log."""
    document = await stored("compacted-to-a-part")

    steps = [f'"step-{index}":{{"value":"{"z" * 60_000}"}}' for index in range(6)]
    moved = "{" + ",".join([PREPARE[1:-1], *steps[:5]]) + "}"
    last = f"{{{steps[5]}}}"
    log = [
        {
            "id": "id-7",
            "ids": ["id-2", "id-3", "id-4", "id-5", "id-6"],
            "set": {"part": "id-1", "count": 1, "bytes": len(moved)},
        },
        {"id": "id-8", "set": last},
    ]
    payload = {"log": log, "weight": 100 + 1000 + len(last), "parts": 1}
    summary = {"steps": 7, "bytes": 360555}
    assert same(saved(payload, summary=summary)) == same(document.root)
    assert same({"id-1-0": {"data": Long.of(moved)}}) == same(document.parts)


async def test_a_large_step_goes_to_a_part_at_once(stored: Stored) -> None:
    """An update leaves no value over 64 KB in the root."""
    document = await stored("updated-with-a-part")

    text = f'{{"large":{{"value":"{ONE_PART}"}}}}'
    log = [
        {"id": "id-1", "set": PREPARE},
        {"id": "id-3", "set": {"part": "id-2", "count": 1, "bytes": len(text)}},
    ]
    summary = {"steps": 2, "bytes": 70444}
    assert same(saved({"log": log, "weight": 1137, "parts": 1}, summary=summary)) == same(document.root)
    assert same({"id-2-0": {"data": Long.of(text)}}) == same(document.parts)


async def test_parts_hold_what_was_encrypted(stored: Stored) -> None:
    """A value is packed first and cut into parts then: a part is ciphertext."""
    document = await stored("encrypted-part")

    aes = "aes-gcm=key-1"
    text = f'{{"large":{{"value":"{ONE_PART}"}}}}'
    size = len(text) + 1 + len(aes) + 1 + 12 + 16
    payload = {
        "input": Packed(aes, '{"topic":"cats"}'),
        "operation": Packed(aes, '{"name":"flow-1","done":false}'),
        "executions": Packed(aes, EXECUTIONS),
        "blockedOnStep": Packed(aes, "null"),
        "traceContext": Packed(aes, TRACE_TEXT),
        "log": [
            {"id": "id-1", "set": Packed(aes, PREPARE)},
            {"id": "id-3", "set": {"part": "id-2", "count": 1, "bytes": size}},
        ],
        "weight": 1000 + len(PREPARE) + 1 + len(aes) + 1 + 12 + 16 + 100,
        "parts": 1,
    }
    assert same(saved(payload, summary={"steps": 2, "bytes": 70444})) == same(document.root)
    assert same({"id-2-0": {"data": Packed(aes, text)}}) == same(document.parts)
