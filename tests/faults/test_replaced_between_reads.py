"""A writer comes between the read of a root and that of its parts: the state is shown as the first read found it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateQuery, Operation
from firestore_flowstate._document.stored_values import PARTS
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from tests.faults.relay import Call, Relay

Reading = Callable[[FirestoreFlowStateStore], Awaitable[list[tuple[str, str | None]]]]


async def listed(store: FirestoreFlowStateStore) -> list[tuple[str, str | None]]:
    return [(state.flow_id, state.name) for state in (await store.list(FlowStateQuery(name="before"))).flow_states]


async def iterated(store: FirestoreFlowStateStore) -> list[tuple[str, str | None]]:
    return [(state.flow_id, state.name) async for state in store.iterate(FlowStateQuery(name="before"))]


async def exported(store: FirestoreFlowStateStore) -> list[tuple[str, str | None]]:
    lines = [json.loads(line) async for line in export_states(store)]
    return [(line["id"], line["state"]["name"]) for line in lines]


async def examined(store: FirestoreFlowStateStore) -> list[tuple[str, str | None]]:
    findings = [finding async for finding in examine(store) if finding.kind == "head"]
    assert [] == findings, "what it has read is compared with itself"
    return SEEN


SEEN: list[tuple[str, str | None]] = [("large", "before")]


@pytest.mark.parametrize("replacing", ["renamed", "deleted"])
@pytest.mark.parametrize("read", [listed, iterated, exported, examined])
async def test_a_state_in_parts_is_as_its_page_found_it(
    direct: FirestoreFlowStateStore,
    relayed: FirestoreFlowStateStore,
    relay: Relay,
    read: Reading,
    replacing: str,
) -> None:
    """A writer replaces the state after the query has answered, and before its parts are asked for."""
    large = FlowState.start(name="before", flow_id="large", input=os.urandom(1_300_000).hex())
    await direct.save("large", large)
    loop = asyncio.get_running_loop()
    replaced: list[None] = []

    async def replace() -> None:
        if replacing == "deleted":
            await direct.delete("large")
            return
        ended = Operation(name="after", done=True)
        await direct.save("large", large.model_copy(update={"name": "after", "operation": ended}))

    def before_parts(call: Call) -> None:
        if call.method == "BatchGetDocuments" and PARTS.encode() in call.request and not replaced:
            replaced.append(asyncio.run_coroutine_threadsafe(replace(), loop).result(timeout=30))

    relay.refusal = before_parts

    assert SEEN == await read(relayed)
    assert replaced, "the writer came between the two reads"
