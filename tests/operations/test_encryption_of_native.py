"""Encryption covers what it says: native documents, which have nothing encrypted, are refused if it is required."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateDecodeError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateQuery,
    FlowStateSettings,
    FlowStateWarning,
    Operation,
)
from firestore_flowstate.backup import export_states
from firestore_flowstate.doctor import examine
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.testing import exactly
from tests.support.raw_documents import RawCollection

KEYS = {"one": base64.b64encode(b"k" * 32).decode()}
NEW = {"new": CacheEntry(value="s3cret")}

Call = Callable[[FirestoreFlowStateStore, FlowState], Awaitable[object]]


def store_of(settings: FlowStateSettings, **changes: Any) -> FirestoreFlowStateStore:
    return FirestoreFlowStateStore(FlowStateSettings(**{**settings.model_dump(), **changes}))


def flow(id: str = "flow") -> FlowState:
    state = FlowState.start(name="flow", input="s3cret", flow_id=id)
    state.cache = {"step": CacheEntry(value="s3cret")}
    return state


@pytest.fixture
async def native(flow_state_settings: FlowStateSettings) -> FlowState:
    """A native document of Genkit's, or of somebody who may write to the collection, beside an encrypted one."""
    async with store_of(flow_state_settings, keys=KEYS) as encrypting:
        await encrypting.save("other", flow("other"))
    async with store_of(flow_state_settings, layout="native") as store:
        state = flow()
        await store.save("flow", state)
    return state


async def _edit(store: FirestoreFlowStateStore, native: FlowState) -> None:
    async with store.edit("flow") as state:
        state.cache.update(NEW)


async def _iterate(store: FirestoreFlowStateStore, native: FlowState) -> None:
    [_ async for _ in store.iterate()]


async def _export(store: FirestoreFlowStateStore, native: FlowState) -> None:
    [_ async for _ in export_states(store)]


READS: dict[str, Call] = {
    "load": lambda store, native: store.load("flow"),
    "load_many": lambda store, native: store.load_many(["flow"]),
    "list": lambda store, native: store.list(),
    "list_by_status": lambda store, native: store.list(FlowStateQuery(status="scheduled")),
    "list_summaries": lambda store, native: store.list_summaries(),
    "iterate": _iterate,
    "edit": _edit,
    "modify": lambda store, native: store.modify("flow", lambda state: state.cache.update(NEW)),
    "export": _export,
}
WRITES: dict[str, Call] = {
    "update": lambda store, native: store.update("flow", cache=NEW),
    "update_version": lambda store, native: store.update("flow", cache=NEW, if_version=native.version or ""),
}


@pytest.mark.parametrize("name", [*READS, *WRITES])
async def test_native_documents_are_refused(
    flow_state_settings: FlowStateSettings, native: FlowState, name: str
) -> None:
    """Every read and every partial write refuses them by name, and says what to do. They stay as they are."""
    raw = RawCollection(flow_state_settings)
    before = raw.read("flow")
    kind = FlowStateEncodeError if name in WRITES else FlowStateDecodeError
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=True) as store:
        with pytest.raises(FlowStateError, match=r"(?s)'flow'.*never encrypted.*Migrate") as refusal:
            await {**READS, **WRITES}[name](store, native)
    error: FlowStateError = refusal.value
    if isinstance(error, FlowStateBatchError):
        error = error.errors["flow"]

    assert isinstance(error, kind)
    assert "flow" == error.flow_id
    assert before == raw.read("flow")


async def test_the_rest_of_a_page_is_shown(flow_state_settings: FlowStateSettings, native: FlowState) -> None:
    """Native documents are skipped by name, as damaged ones are."""
    query = FlowStateQuery(on_error="skip")
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=True) as store:
        page, summaries = await store.list(query), await store.list_summaries(query)

    assert (("flow",), ["other"]) == (page.skipped, [state.flow_id for state in page.flow_states])
    assert (("flow",), ["other"]) == (summaries.skipped, [summary.id for summary in summaries.summaries])


@pytest.fixture
async def due_flows(flow_state_settings: FlowStateSettings) -> None:
    """A native document that is due before two encrypted ones, in the clear, with an error that is somebody else's."""
    async with (
        store_of(flow_state_settings, keys=KEYS) as encrypting,
        store_of(flow_state_settings, layout="native") as store,
    ):
        for number, (id, writer) in enumerate({"forged": store, "a": encrypting, "b": encrypting}.items()):
            state = FlowState.start(name="flow", flow_id=id)
            state.wakeAt = number  # type: ignore[attr-defined]  # an unknown key
            if id == "forged":
                state.operation = Operation(name="flow", result=FlowResult(error="a forged text"))
            await writer.save(id, state)


@pytest.mark.usefixtures("due_flows")
async def test_due_goes_past_them(flow_state_settings: FlowStateSettings) -> None:
    """It leaves them out and warns of each once, naming it and nothing that it holds. What is due behind them comes."""
    async with store_of(flow_state_settings, keys=KEYS) as store:
        assert ["forged", "a", "b"] == [summary.id for summary in await store.due()]
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=True) as store:
        with pytest.warns(FlowStateWarning, match=r"'forged'.*never encrypted") as warned:
            found = [[summary.id for summary in await store.due(limit=limit)] for limit in (1, 2, 100)]

    assert [["a"], ["a", "b"], ["a", "b"]] == found
    assert ["forged text" in str(warning.message) for warning in warned] == [False]


@pytest.mark.usefixtures("due_flows")
@pytest.mark.filterwarnings("ignore:due.. leaves a flow state out:firestore_flowstate.FlowStateWarning")
async def test_a_sweep_goes_past_them(flow_state_settings: FlowStateSettings) -> None:
    """A document that somebody has forged is not driven, and stops the sweep of no other run."""
    before = RawCollection(flow_state_settings).read("forged")
    async with (
        store_of(flow_state_settings, keys=KEYS, require_encryption=True) as store,
        Flows(store) as flows,
    ):

        @flows.flow
        async def flow(run: Run) -> str:
            return "ran"

        assert 2 == await flows.sweep()
        assert ["ran", "ran"] == [await flows.result(id, timeout=10) for id in ("a", "b")]
    assert before == RawCollection(flow_state_settings).read("forged")


@pytest.mark.parametrize("version", [False, True])
@pytest.mark.parametrize("at_hand", [False, True])
async def test_a_whole_save_encrypts(
    flow_state_settings: FlowStateSettings, native: FlowState, version: bool, at_hand: bool
) -> None:
    """It takes over nothing that was in the clear, so it is not refused, also if the state was native before."""
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=True) as store:
        state = native if at_hand else flow()
        await (store.save("flow", state, if_version=native.version) if version else store.save("flow", state))

        assert exactly(state) == exactly(await store.load("flow"))
    assert "s3cret" not in str(RawCollection(flow_state_settings).read("flow"))


async def _save_loaded(store: FirestoreFlowStateStore, native: FlowState) -> None:
    state = await store.load("flow")
    assert state is not None
    await _save_at_hand(store, state)


async def _save_at_hand(store: FirestoreFlowStateStore, native: FlowState) -> None:
    native.cache.update(NEW)
    await store.save("flow", native)


async def _save_on_its_version(store: FirestoreFlowStateStore, native: FlowState) -> None:
    state = flow()
    state.cache.update(NEW)
    await store.save("flow", state, if_version=native.version)


CHANGES: dict[str, Call] = {
    "edit": _edit,
    "modify": READS["modify"],
    "update": WRITES["update"],
    "update_version": WRITES["update_version"],
    "save_loaded": _save_loaded,
    "save_at_hand": _save_at_hand,
    "save_on_its_version": _save_on_its_version,
}


@pytest.mark.parametrize("name", CHANGES)
async def test_with_keys_alone_they_stay_native(
    flow_state_settings: FlowStateSettings, native: FlowState, name: str
) -> None:
    """A store that does not require encryption reads them, and writes natively what it writes on top of one."""
    raw = RawCollection(flow_state_settings)
    async with store_of(flow_state_settings, keys=KEYS) as store:
        await CHANGES[name](store, native)
        listed = {state.flow_id: state for state in (await store.list()).flow_states}

    assert "_flowstate" not in raw.read("flow")
    assert {"step", "new"} == raw.read("flow")["cache"]["mapValue"]["fields"].keys()
    assert ({"flow", "other"}, {"step", "new"}) == (listed.keys(), listed["flow"].cache.keys())


@pytest.mark.parametrize("required", [False, True])
async def test_a_save_of_another_state_encrypts(
    flow_state_settings: FlowStateSettings, native: FlowState, required: bool
) -> None:
    """It takes the place of the native document, whether encryption is required or not."""
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=required) as store:
        await store.save("flow", flow())
    document = RawCollection(flow_state_settings).read("flow")

    assert "_flowstate" in document
    assert "s3cret" not in str(document)


async def test_a_state_loaded_before_migrate_is_saved_on_its_version(
    flow_state_settings: FlowStateSettings, native: FlowState
) -> None:
    """On its version that is a conflict. Without a version it is saved natively, unless encryption is required."""
    raw = RawCollection(flow_state_settings)
    async with store_of(flow_state_settings, keys=KEYS) as store:
        assert 1 == (await store.migrate(store)).migrated
        with pytest.raises(FlowStateConflictError):
            await store.save("flow", native.model_copy(), if_version=native.version)
        assert "_flowstate" in raw.read("flow")
        async with store_of(flow_state_settings, keys=KEYS, require_encryption=True) as strict:
            await strict.save("flow", native.model_copy())
            assert "_flowstate" in raw.read("flow")
        await store.save("flow", native.model_copy())
        assert "_flowstate" not in raw.read("flow")


@pytest.mark.parametrize("required", [False, True])
async def test_counting_deleting_and_purging_are_not_refused(
    flow_state_settings: FlowStateSettings, native: FlowState, required: bool
) -> None:
    """They read nothing of the document. Both documents are counted, and both are deleted, by either call."""
    raw = RawCollection(flow_state_settings)
    fields = raw.read("flow")
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=required) as store:
        assert 2 == await store.count()
        await store.delete("flow")
        assert 1 == await store.count()
        raw.write("flow", fields)

        assert 2 == await store.purge(older_than=timedelta(0))
        assert 0 == await store.count()


async def test_rewrap_and_doctor_report_them(flow_state_settings: FlowStateSettings, native: FlowState) -> None:
    """They do so whether encryption is required or not. Migrate then encrypts them, and nothing is left to report."""
    for required in (True, False):
        async with store_of(flow_state_settings, keys=KEYS, require_encryption=required) as store:
            report = await store.rewrap()
            [finding] = [finding async for finding in examine(store)]

            assert (0, 1, ["flow"]) == (report.rewrapped, report.unchanged, list(report.native))
            assert ("native", "flow") == (finding.kind, finding.id)
            assert "never encrypted" in finding.message
    async with store_of(flow_state_settings, keys=KEYS) as store:
        assert 1 == (await store.migrate(store)).migrated
    async with store_of(flow_state_settings, keys=KEYS, require_encryption=True) as store:
        assert [] == [finding async for finding in examine(store)]
        assert [] == list((await store.rewrap()).native)
        assert native.cache == (await store.load("flow") or FlowState.start()).cache
    assert "s3cret" not in str(RawCollection(flow_state_settings).read("flow"))


@pytest.mark.parametrize("changes", [{"layout": "native"}, {"collection": "elsewhere"}])
async def test_migrate_decrypts_only_if_it_is_told(
    flow_state_settings: FlowStateSettings, changes: dict[str, Any]
) -> None:
    """A dry run refuses as well. Told so, it decrypts everything, in place too."""
    async with (
        store_of(flow_state_settings, keys=KEYS, require_encryption=True) as source,
        store_of(flow_state_settings, **changes) as destination,
    ):
        state = flow()
        await source.save("flow", state)
        for dry_run in (True, False):
            with pytest.raises(ValueError, match="decrypt=True"):
                await source.migrate(destination, dry_run=dry_run)
        assert "s3cret" not in str(RawCollection(flow_state_settings).read("flow"))
        report = await source.migrate(destination, decrypt=True)

        assert (1, {}) == (report.migrated, report.failed)
        assert exactly(state) == exactly(await destination.load("flow"))
    assert "s3cret" in str(RawCollection(destination.settings).read("flow"))
