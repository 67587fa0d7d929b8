"""Firestore refuses reads as of a time more than an hour ago, which no emulator does: so a relay does it here."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from firestore_flowstate import (
    FirestoreFlowStateStore,
    FlowState,
    FlowStateDecodeError,
    FlowStateQuery,
    FlowStateSettings,
)
from firestore_flowstate._document.stored_values import PARTS
from firestore_flowstate._rpc.messages import BatchGetDocumentsRequest, Timestamp
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from tests.faults.relay import Call, Refusal, Relay
from tests.support.raw_documents import RawCollection

TOO_OLD: Final = Refusal("FAILED_PRECONDITION", "The requested snapshot version is too old.")
SKIPPING: Final = FlowStateQuery(on_error="skip")


def large(id: str) -> FlowState:
    """Return a state that has parts, however well it is compressed."""
    return FlowState.start(flow_id=id, input=os.urandom(1_300_000).hex())


async def listed(store: FirestoreFlowStateStore) -> list[str]:
    return [state.flow_id for state in (await store.list(SKIPPING)).flow_states]


async def iterated(store: FirestoreFlowStateStore) -> list[str]:
    return [state.flow_id async for state in store.iterate(SKIPPING)]


async def exported(store: FirestoreFlowStateStore) -> list[str]:
    unreadable: list[str] = []
    lines = [line async for line in export_states(store, on_unreadable=lambda flow, _: unreadable.append(flow))]
    assert ["damaged"] == unreadable
    return ["sound" for line in lines if '"sound"' in line]


async def examined(store: FirestoreFlowStateStore) -> list[str]:
    findings = [finding async for finding in examine(store)]
    assert ["unreadable"] == [finding.kind for finding in findings if finding.id == "damaged"]
    return ["sound"] * (not any(finding.id == "sound" for finding in findings))


async def loaded(store: FirestoreFlowStateStore) -> list[str]:
    with pytest.raises(FlowStateDecodeError, match="parts that it refers to are missing"):
        await store.load("damaged")
    return ["sound"] * (await store.load("sound") is not None)


@pytest.mark.parametrize("read", [loaded, listed, iterated, exported, examined])
async def test_a_state_that_lacks_a_part_for_long_is_unreadable_alone(
    flow_state_settings: FlowStateSettings,
    direct: FirestoreFlowStateStore,
    relayed: FirestoreFlowStateStore,
    relay: Relay,
    read: Callable[[FirestoreFlowStateStore], Awaitable[list[str]]],
) -> None:
    """It is told as any other that cannot be read, however long ago it was written."""
    damaged = large("damaged")
    await direct.save("damaged", damaged)
    await direct.save("sound", FlowState.start(flow_id="sound"))
    raw = RawCollection(flow_state_settings)
    part = next(iter(raw.below("damaged", PARTS)))
    raw.delete(f"damaged/{PARTS}/{part}")
    assert damaged.updated_at is not None
    written = Timestamp()
    written.FromDatetime(damaged.updated_at)

    def refusal(call: Call) -> Refusal | None:
        if call.method != "BatchGetDocuments":
            return None
        time = BatchGetDocumentsRequest.FromString(call.request).read_time
        is_old = 0 < time.ToMicroseconds() <= written.ToMicroseconds()
        return TOO_OLD if is_old else None

    relay.refusal = refusal

    assert ["sound"] == await read(relayed)


async def test_an_export_goes_on_however_slowly_its_lines_are_taken(
    flow_state_settings: FlowStateSettings, relay: Relay
) -> None:
    """The parts of a page's states may be read so late that Firestore does not tell what they were at its time."""
    ids = [f"id{number}" for number in range(4)]
    sharded = flow_state_settings.model_copy(update={"emulator_host": relay.host, "shards": 2})
    async with FirestoreFlowStateStore(sharded) as store:  # its pages are of one moment
        for id in ids:
            await store.save(id, large(id))
        exporting = export_states(store)
        lines = [await anext(exporting)]
        refused: list[Call] = []

        def refusal(call: Call) -> Refusal | None:
            if call.method != "BatchGetDocuments":
                return None
            if not BatchGetDocumentsRequest.FromString(call.request).HasField("read_time"):
                return None
            refused.append(call)
            return TOO_OLD

        relay.refusal = refusal
        lines += [line async for line in exporting]

    assert refused
    assert sorted(ids) == sorted(json.loads(line)["id"] for line in lines)
