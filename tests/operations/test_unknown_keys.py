"""Unknown keys by themselves in Firestore: how they are stored and what they cost, in every layout."""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from firestore_flowstate import (
    UNSET,
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateSettings,
    FlowStateWarning,
    Operation,
)
from firestore_flowstate._collection.collection import LeftOutWarning
from firestore_flowstate.testing import exactly
from firestore_flowstate.testing.conformance import DueTests
from firestore_flowstate.testing.conformance.states import with_steps
from firestore_flowstate.testing.conformance.unknown_keys import NAMES, SCALARS
from firestore_flowstate.testing.conformance.waking import save_waking, waking
from tests.support.query_log import QueryLog, query_log
from tests.support.raw_documents import RawCollection

__all__ = ["query_log"]  # a fixture

KEY = base64.b64encode(bytes(32)).decode()
FORMS: dict[str, dict[str, Any]] = {
    "serialized": {},
    "native": {"layout": "native"},
    "encrypted": {"keys": {"k": KEY}, "require_encryption": True},
    "sharded": {"shards": 3},
}


@pytest.fixture(params=FORMS)
async def store(
    request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings
) -> AsyncIterator[FirestoreFlowStateStore]:
    settings = FlowStateSettings(**{**flow_state_settings.model_dump(), **FORMS[request.param]})
    async with FirestoreFlowStateStore(settings) as store:
        yield store


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    return RawCollection(flow_state_settings)


class TestDueInEachLayout(DueTests):
    @pytest.fixture
    def store(self, store: FirestoreFlowStateStore) -> FirestoreFlowStateStore:
        return store


async def test_sets_and_takes_out_keys_in_each_layout(store: FirestoreFlowStateStore) -> None:
    """It takes values of every type under names of every kind, beside all else, with a version and without."""
    state = with_steps("a")
    await store.save("id", state)
    version = await store.update("id", extra={**dict.fromkeys(NAMES, "old"), **SCALARS}, if_version=state.version or "")
    version = await store.update("id", extra=dict.fromkeys(NAMES, UNSET), if_version=version)
    await store.update("id", extra={"zero": 0.0, "empty text": UNSET})
    expected = FlowState.model_validate({**state.model_dump(by_alias=True), **SCALARS, "zero": 0.0})
    assert expected.model_extra is not None
    del expected.model_extra["empty text"]

    assert exactly(expected) == exactly(await store.load("id"))


async def test_edits_of_unknown_keys_are_partial_writes_in_each_layout(
    store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """The rest of the document is not written again: what another tool has put beside it stays."""
    state = with_steps("a")
    state.key, state.other = 1, "x"
    await store.save("id", state)
    raw.write("id", {**raw.read("id"), "theirs": {"timestampValue": "2026-01-01T00:00:00Z"}})
    before = raw.read("id")
    async with store.edit("id") as edited:
        edited.key = 2
        del edited.other
    after = raw.read("id")

    assert {"integerValue": "2"} == after["key"]
    assert "other" not in after
    assert before["theirs"] == after["theirs"]
    if "summary" in after:
        assert {"key": {"integerValue": "2"}} == after["summary"]["mapValue"]["fields"]["extra"]["mapValue"]["fields"]


async def test_a_path_that_would_be_too_long_is_refused(store: FirestoreFlowStateStore) -> None:
    """Firestore takes paths of 1,500 bytes. A save takes the key, which is then in the payload."""
    long = "k" * 1_490
    state = with_steps("a")
    await store.save("id", state)
    with pytest.raises(FlowStateEncodeError, match="save"):
        await store.update("id", extra={long: 1})
    async with store.edit("id") as edited:
        setattr(edited, long, 1)
    loaded = await store.load("id")

    assert loaded is not None
    assert {long: 1} == loaded.model_extra


async def test_due_reads_what_it_returns(store: FirestoreFlowStateStore, query_log: QueryLog) -> None:
    """Without shards it is one query of summaries alone. One read is billed if nothing is due."""
    state = waking(1)
    state.cache = {"step": CacheEntry(value="x" * 100_000)}
    await store.save("large", state)
    await save_waking(store, {f"id-{place}": 10 + place for place in range(5)})
    query_log.clear()
    await store.due(3)
    shards = store.settings.shards

    assert ([1], shards) == ([sum(query_log.documents)], len(query_log.queries))
    assert query_log.received < 1_500

    query_log.clear()
    await store.due(12)

    assert 4 == sum(query_log.documents)
    assert len(query_log.queries) <= 2 * shards


async def test_due_leaves_out_what_nobody_can_read(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """A warning names it, once, however often somebody looks for work. They must come past it."""
    await save_waking(flow_state_store, {"a": 1, "damaged": 2, "more": 3, "z": 4})

    def damage(id: str) -> None:
        raw.write(id, {name: value for name, value in raw.read(id).items() if name != "flowId"})

    damage("damaged")
    with pytest.warns(FlowStateWarning, match="'damaged'"):
        found = await flow_state_store.due(5, limit=3)
    again = await flow_state_store.due(5, limit=3)

    assert ["a", "more", "z"] == [summary.id for summary in found]
    assert found == again

    damage("more")
    with pytest.warns(FlowStateWarning) as warned:
        await flow_state_store.due(5, limit=3)

    assert ["more"] == [re.findall("'(.*?)'", str(warning.message))[0] for warning in warned]


def test_due_warns_of_a_thousand_states_at_most() -> None:
    """A process that runs on does not remember more of them, and tells nobody of a state twice."""
    warning, error = LeftOutWarning(), FlowStateDecodeError("damaged")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for number in (*range(1_500), *range(1_500)):
            warning.leaves_out(f"id-{number}", error)

    assert 1_000 == len(warned)


async def test_a_flow_of_each_layout_may_expire_after_a_time_of_its_own(store: FirestoreFlowStateStore) -> None:
    """A save or a partial write may say that time. It is kept, and the write that ends the flow goes by it."""
    state = with_steps("a")
    await store.create("saved", state, expire_after=timedelta(days=7))
    await store.save("updated", state)
    await store.update("updated", expire_after=timedelta(days=7))
    for id in ("saved", "updated"):
        await store.update(id, operation=Operation(name="op", done=True))
    found = await store.load_many(["saved", "updated"])

    assert ["saved", "updated"] == list(found)
    for ended in found.values():
        assert ended.expire_at is not None
        assert timedelta(days=6) < ended.expire_at - datetime.now(timezone.utc) <= timedelta(days=7)


async def test_parts_outlive_a_root_with_a_time_of_its_own(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """They outlive it by seven days. If the root does not expire, they do not either."""
    state = with_steps("a")
    state.input, state.operation = "x" * 1_200_000, Operation(name="op", done=True)
    await flow_state_store.save("id", state, expire_after=timedelta(days=7))
    before = raw.below("id", "flowstate-parts").values()
    await flow_state_store.update("id", expire_after=None)
    after = raw.below("id", "flowstate-parts").values()

    assert [True, True] == ["expireAt" in part for part in before]
    assert [False, False] == ["expireAt" in part for part in after]
    assert "expireAt" not in raw.read("id")
