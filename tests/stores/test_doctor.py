"""The doctor finds what lists cannot see and nobody can read, and only that."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from itertools import product
from typing import Any, get_args

import pytest

from firestore_flowstate import (
    BlockedOnStep,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateExecution,
    FlowStateQuery,
    FlowStateSettings,
    FlowStatus,
    InvalidQueryError,
    MissingIndexError,
    Operation,
)
from firestore_flowstate._memory_records import RecordedAs
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate.doctor import Finding, examine, late_run
from firestore_flowstate.flows.doctor import examine as examine_flows
from firestore_flowstate.testing.conformance.states import started, with_everywhere
from tests.support.damage import drop, put, sound, sound_native
from tests.support.query_log import QueryLog, query_log
from tests.support.raw_documents import Fields, RawCollection

__all__ = ["query_log"]  # a fixture


@pytest.fixture
def raw(flow_state_settings: FlowStateSettings) -> RawCollection:
    return RawCollection(flow_state_settings)


async def findings(store: FirestoreFlowStateStore, **options: Any) -> list[Finding]:
    return [finding async for finding in examine(store, **options)]


def damaged(damage: Any, fields: Fields | None = None) -> Fields:
    found = sound() if fields is None else fields
    damage(found)
    return found


async def test_finds_nothing_if_all_is_well(flow_state_store: FirestoreFlowStateStore, raw: RawCollection) -> None:
    """States may have either layout, be finished or not, and be in parts or not."""
    await flow_state_store.save("started", started())
    await flow_state_store.save("large", with_everywhere("x" * 1_500_000))
    raw.write("native", sound_native())
    raw.write("golden", sound())
    progress: list[int] = []

    assert [] == await findings(flow_state_store, progress=progress.append)
    assert [4] == progress


@pytest.mark.parametrize(
    ("damage", "kinds", "says"),
    [
        (drop("startTime"), {"hidden", "unreadable"}, "startTime is missing"),
        (put("startTime", {"stringValue": "5"}), {"hidden", "unreadable"}, "startTime is a string"),
        (put("startTime", {"timestampValue": "2024-01-01T00:00:00Z"}), {"hidden", "unreadable"}, "is a timestamp"),
        (put("startTime", {"doubleValue": "NaN"}), {"hidden", "unreadable"}, "startTime is NaN"),
        (put("startTime", {"nullValue": None}), {"hidden", "unreadable"}, "startTime is null"),
        (put("_flowstate.operation", {"stringValue": "{"}), {"unreadable"}, "operation is not JSON"),
        (put("_flowstate.v", {"integerValue": "9"}), {"unreadable"}, "format version 9"),
        (put("status", {"stringValue": "?"}), {"head"}, "status is missing, or is not one"),
        (drop("status"), {"head"}, "status is missing, or is not one"),
        (put("status", {"stringValue": "scheduled"}), {"head"}, "status says 'scheduled'"),
        (put("blockedOnStep", {"mapValue": {"fields": {"name": {"stringValue": "?"}}}}), {"head"}, "says '?'"),
        (put("expireAt", {"stringValue": "soon"}), {"head"}, "so that the state never expires"),
    ],
)
async def test_finds_what_is_wrong(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection, damage: Any, kinds: set[str], says: str
) -> None:
    """It names the document and says what is wrong with it."""
    raw.write("damaged", damaged(damage))
    await flow_state_store.save("well", started())
    found = await findings(flow_state_store)

    assert {"damaged"} == {finding.id for finding in found}
    assert kinds == {finding.kind for finding in found}
    assert any(says in finding.message for finding in found)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (put("shard", {"integerValue": "8"}), "It is in shard 8, which no list over 4 shards asks"),
        (put("shard", {"integerValue": "-1"}), "It is in shard -1"),
        (put("shard", {"stringValue": "1"}), "shard is missing or is not an integer"),
        (drop("shard"), "shard is missing or is not an integer"),
    ],
)
async def test_finds_what_no_shard_has(
    flow_state_settings: FlowStateSettings, raw: RawCollection, damage: Any, says: str
) -> None:
    """Such states were left behind when the number of shards was lowered, or were written by hand."""
    raw.write("lost", damaged(damage))
    async with FirestoreFlowStateStore(flow_state_settings) as one_shard:
        assert [] == await findings(one_shard)
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"shards": 4})) as sharded:
        [finding] = await findings(sharded)

        assert [] == (await sharded.list()).flow_states
    assert ("hidden", "lost", True) == (finding.kind, finding.id, says in finding.message)


async def test_finds_native_documents_among_shards(flow_state_settings: FlowStateSettings, raw: RawCollection) -> None:
    """They are out of sight until they are migrated."""
    raw.write("native", sound_native())
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"shards": 4})) as sharded:
        [finding] = await findings(sharded)
        await sharded.migrate(sharded)

        assert ("native", "native") == (finding.kind, finding.id)
        assert [] == await findings(sharded)


async def test_finds_native_documents_that_no_list_by_status_shows(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """Firestore cannot be asked for what a document lacks: one without operation.done is named until it is saved."""
    raw.write("id", damaged(drop("operation.done"), sound_native()))
    state = await flow_state_store.load("id")
    assert state is not None
    [finding] = await findings(flow_state_store)

    assert ("head", "id") == (finding.kind, finding.id)
    assert "operation.done is missing" in finding.message
    assert f"the flow is {state.status}" in finding.message
    assert 0 == await flow_state_store.count(FlowStateQuery(status=get_args(FlowStatus)))
    assert ["id"] == [summary.id for summary in (await flow_state_store.list_summaries()).summaries]
    await flow_state_store.save("id", state)
    assert [] == await findings(flow_state_store)
    assert 1 == await flow_state_store.count(FlowStateQuery(status=state.status))


async def test_finds_expired_states_that_nobody_deletes(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection
) -> None:
    """All of them are one finding: a TTL policy is missing."""
    state = FlowState.start()
    state.operation = Operation(name="flow", done=True)
    for id, hours in (("new", 71), ("old", 73), ("older", 1000)):
        await flow_state_store.save(id, state)
        moment = datetime.now(timezone.utc) - timedelta(hours=hours)
        raw.write(id, {**raw.read(id), "expireAt": {"timestampValue": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}})
    [finding] = await findings(flow_state_store)

    assert ("missing_ttl", None) == (finding.kind, finding.id)
    assert finding.message.startswith("2 states expired more than 72 hours ago")


@pytest.mark.parametrize("shards", [1, 4])
async def test_asks_each_index(flow_state_settings: FlowStateSettings, query_log: QueryLog, shards: int) -> None:
    """It sends a query by each filter, which Firestore refuses if its index is missing."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"shards": shards})) as store:
        await findings(store)
    asked = [
        [member.field_filter.field.field_path for member in query.where.composite_filter.filters]
        for query in query_log.queries[:-1]
    ]
    shard = ["shard"] if shards > 1 else []
    filters = [["startTime"], ["name", "startTime"], ["blockedOnStep.name", "startTime"], ["status", "startTime"]]
    filters += [["wakeAt", "wakeAt"], *([["operation.done", "startTime"]] if shards == 1 else [])]

    assert [[*shard, *paths] for paths in filters] == asked


@pytest.mark.parametrize(
    "spoilt",
    [{"run": {"drives": [1]}}, {"run": {"intents": 5}}, {"run": {}, "inbox": {"cancel": 1}}, {"run": {"owner": {}}}],
    ids=str,
)
async def test_goes_on_past_a_run_whose_record_is_spoilt(
    flow_state_store: FirestoreFlowStateStore, raw: RawCollection, spoilt: dict[str, Any]
) -> None:
    """Such a state can be read, and no drive can. What stands behind it is examined too."""
    state = FlowState.start(flow_id="a", name="f")
    state.operation.metadata = spoilt
    await flow_state_store.save("a", state)
    raw.write("b", damaged(drop("flowId")))
    found = [finding async for finding in examine_flows(flow_state_store)]

    assert [("unreadable", "a"), ("unreadable", "b")] == [(finding.kind, finding.id) for finding in found]
    assert "operation.metadata." in found[0].message


@pytest.mark.parametrize("examination", [examine, examine_flows])
@pytest.mark.parametrize("shards", [1, 4])
async def test_asks_the_indexes_of_keys_that_are_named(
    flow_state_settings: FlowStateSettings, query_log: QueryLog, shards: int, examination: Any
) -> None:
    """Nothing that is stored tells by which keys queries filter. A key by which none can is refused before any call."""
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"shards": shards})) as store:
        assert [] == [finding async for finding in examination(store, where=["owner", "a b"])]
        asked = [
            [member.field_filter.field.field_path for member in query.where.composite_filter.filters]
            for query in query_log.queries
        ]
        query_log.clear()
        with pytest.raises(InvalidQueryError, match="'status'"):
            await anext(examination(store, where=["status"]))
        with pytest.raises(TypeError, match=r"where has the keys .* and is not 'owner'"):
            await anext(examination(store, where="owner"))

    shard = ["shard"] if shards > 1 else []
    assert [*shard, "`owner`", "startTime"] in asked
    assert [*shard, "`a b`", "startTime"] in asked
    assert [] == query_log.queries


@pytest.mark.parametrize(
    ("path", "shards"),
    [
        *product(["name", "blockedOnStep.name", "status", "wakeAt", "`owner`"], [1, 4]),
        ("operation.done", 1),
        ("shard", 4),
    ],
)
async def test_finds_a_missing_index(
    flow_state_settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch, shards: int, path: str
) -> None:
    """It tells what Firestore said, which has the entry to add. What else is wrong is found as well."""
    run_query_at = Connection.run_query_at

    async def refuse(self: Connection, parent: str, query: Any, **options: Any) -> Any:
        if path in {member.field_filter.field.field_path for member in query.where.composite_filter.filters}:
            raise MissingIndexError("deploy this", index={})
        return await run_query_at(self, parent, query, **options)

    monkeypatch.setattr(Connection, "run_query_at", refuse)  # the emulator answers every query
    RawCollection(flow_state_settings).write("lost", damaged(drop("startTime")))
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"shards": shards})) as store:
        found = await findings(store, where=["owner"])

    of_indexes = {(finding.kind, finding.id, finding.message) for finding in found if finding.kind == "index"}
    assert {("index", None, "deploy this")} == of_indexes
    assert "lost" in {finding.id for finding in found}


async def test_finds_flows_that_nobody_looks_after(flow_state_store: FirestoreFlowStateStore) -> None:
    """It finds those whose wake time passed over 3 minutes ago. Later ones, and those without one, are passed over."""
    now = datetime.now(timezone.utc).timestamp() * 1000
    minutes = {"late": -4, "sweep comes": -2, "future": 60}
    for id, since in minutes.items():
        state = started()
        state.wakeAt = now + since * 60_000
        await flow_state_store.save(id, state)
    await flow_state_store.save("never", started())
    [finding] = await findings(flow_state_store)

    assert ("late_run", "late") == (finding.kind, finding.id)
    assert "wakeAt passed 4 minutes ago" in finding.message


@pytest.mark.parametrize(("moment", "kinds"), [(-math.inf, ["late_run"]), (-(2**63), ["late_run"]), (math.inf, []),
                                              (2**63 - 1, []), (10**400, []), (math.nan, [])])  # fmt: skip
def test_a_moment_that_no_clock_shows_is_late_or_in_the_future(moment: float, kinds: list[str]) -> None:
    """Others can write any number as the wake time. The doctor goes on to the documents behind it."""
    state = started()
    state.wakeAt = moment

    assert kinds == [finding.kind for finding in late_run("id", state, datetime.now(timezone.utc))]


@pytest.mark.parametrize(
    ("status", "days", "wake_at", "kinds"),
    [
        ("running", 4, None, ["late_run"]),
        ("running", 4, 2**42, []),
        ("running", 2, None, []),
        ("blocked", 4, None, []),
        ("done", 4, None, []),
    ],
)
def test_a_running_flow_is_written_now_and_then(status: str, days: int, wake_at: int | None, kinds: list[str]) -> None:
    """If nobody wrote it for three days, nobody runs it. One that waits for an answer or a time may do so for ever."""
    state = started()
    if wake_at is not None:
        state.wakeAt = wake_at
    state.executions = [FlowStateExecution(trace_ids=[])]
    if status == "blocked":
        state.blocked_on_step = BlockedOnStep(name="step")
    state.operation.done = status == "done"
    now = datetime.now(timezone.utc)
    state._note_stored(RecordedAs("version", updated_at=now - timedelta(days=days), expire_at=None))

    assert kinds == [finding.kind for finding in late_run("id", state, now)]
