"""What is stored can be loaded, also if a field was set to a value that pydantic has not validated."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from ...errors import FlowStateBatchError, FlowStateEncodeError
from ...models import CacheEntry, FlowState, FlowStateExecution
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .sample_fields import (
    ODD_VALUES,
    PLACES,
    BlockedForWhom,
    CodedResult,
    HostExecution,
    Indexed,
    Level,
    Number,
    RegionalOperation,
    TenantFlow,
    TextApart,
    TimedEntry,
    Word,
    full,
    models_of,
)
from .sample_values import RaisingMapping
from .suite import Suite


class TypedFieldTests(Suite):
    """A field has a value of its type, or nothing is written."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", ["save", "create", "save_many", "edit"])
    @pytest.mark.parametrize("place", PLACES)
    async def test_what_is_stored_can_be_loaded(self, store: VersionedFlowStateStore, place: str, write: str) -> None:
        """A value of a wrong type is stored as one of the right type, or refused with its path."""
        if write != "create":
            await store.save_many({kind: full() for kind in ODD_VALUES})
        before = await store.load_many(ODD_VALUES)
        taken = []
        for kind, value in ODD_VALUES.items():
            try:
                if write == "edit":
                    async with store.edit(kind) as state:
                        PLACES[place](state, value)
                else:
                    state = full()
                    PLACES[place](state, value)
                    if write == "save_many":
                        await store.save_many({kind: state})
                    else:
                        await (store.save if write == "save" else store.create)(kind, state)
            except FlowStateEncodeError as refusal:
                _check(refusal, kind)
            except FlowStateBatchError as refusals:
                _check(refusals.errors[kind], kind)
            else:
                taken.append(kind)
        loaded = await store.load_many(ODD_VALUES)
        _check_that_refused_are_as_before(before, loaded, taken)
        assert loaded.keys() >= {*taken}
        await store.save_many({kind: loaded[kind] for kind in taken})

        for kind in taken:
            assert exactly(loaded[kind]) == exactly(await store.load(kind)), kind

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("operation", "name of the operation"),
            ("operation", "done of the operation"),
            ("operation", "result of the operation"),
            ("operation", "error of the result"),
            ("blocked_on_step", "name of the blocked step"),
            ("blocked_on_step", "schema_ of the blocked step"),
            ("executions", "start_time of the execution"),
            ("executions", "trace_ids of the execution"),
            ("executions", "execution"),
            ("cache", "empty of the cache entry"),
            ("cache", "entry of the cache"),
            ("cache", "name of a step"),
            ("events_triggered", "name of an event"),
            ("trace_context", "trace_context of the state"),
        ],
    )
    async def test_what_is_updated_can_be_loaded(self, store: VersionedFlowStateStore, name: str, place: str) -> None:
        """A partial write too stores what can be loaded, or refuses it with the path."""
        await store.save_many({kind: full() for kind in ODD_VALUES})
        before = await store.load_many(ODD_VALUES)
        taken = []
        for kind, value in ODD_VALUES.items():
            state = full()
            PLACES[place](state, value)
            try:
                await store.update(kind, **{name: getattr(state, name)})
            except FlowStateEncodeError as refusal:
                _check(refusal, kind)
            else:
                taken.append(kind)
        loaded = await store.load_many(ODD_VALUES)

        _check_that_refused_are_as_before(before, loaded, taken)
        assert loaded.keys() >= {*taken}

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", ["save", "save_many", "edit", "update"])
    async def test_what_a_field_holds_is_stored_whatever_is_said_to_be_set(
        self, store: VersionedFlowStateStore, write: str
    ) -> None:
        """`model_construct` takes the set of fields from its caller. A value that is there counts all the same."""
        await store.save("id", FlowState.start())
        state = full()
        for model in models_of(state).values():
            model.__pydantic_fields_set__.clear()
        if write == "edit":
            async with store.edit("id") as edited:
                edited.__dict__.update(state.__dict__)
        elif write == "update":
            replaced = ("cache", "events_triggered", "operation", "blocked_on_step", "executions", "trace_context")
            await store.update("id", **{name: getattr(state, name) for name in replaced})
        else:
            await (store.save("id", state) if write == "save" else store.save_many({"id": state}))
        loaded = await store.load("id")

        assert loaded is not None
        expected, found = full().model_dump(by_alias=True), loaded.model_dump(by_alias=True)
        if write == "update":
            kept = ("flowId", "name", "input", "startTime")
            expected, found = ({k: v for k, v in dumped.items() if k not in kept} for dumped in (expected, found))
        assert exactly(expected) == exactly(found)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("name", ["cache", "events_triggered", "extra"])
    async def test_an_update_with_a_mapping_whose_methods_fail(self, store: VersionedFlowStateStore, name: str) -> None:
        """It is refused, with the path and the error of the method as the cause."""
        await store.save("id", full())
        before = exactly(await store.load("id"))
        named: dict[str, Any] = {name: RaisingMapping()}
        with pytest.raises(FlowStateEncodeError) as refusal:
            await store.update("id", **named)

        assert (name, "id") == (refusal.value.path, refusal.value.flow_id)
        assert isinstance(refusal.value.__cause__, RuntimeError)
        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", ["save", "update"])
    @pytest.mark.parametrize("name", ["cache", "events_triggered"])
    async def test_two_names_of_the_same_text(self, store: VersionedFlowStateStore, name: str, write: str) -> None:
        """A dict of an application's own texts can hold both. It is refused, since one of them would be lost."""
        await store.save("id", full())
        before = exactly(await store.load("id"))
        state = full()
        for value in (1, 2):
            getattr(state, name)[TextApart("twice")] = CacheEntry(value=value)

        with pytest.raises(FlowStateEncodeError, match="two of its names are the same text") as refusal:
            await (store.save("id", state) if write == "save" else store.update("id", **{name: getattr(state, name)}))

        assert name == refusal.value.path
        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_a_refusal_leads_to_the_value(self, store: VersionedFlowStateStore) -> None:
        """The path is written as the application's code would write it."""
        for path, place in (
            ("name", "name of the state"),
            ("start_time", "field that is missing"),
            ('cache["step"]', "entry of the cache"),
            ('cache["step"].empty', "empty of the cache entry"),
            ("executions[1]", "execution"),
            ("executions[0].trace_ids[1]", "trace id"),
            ("operation.result.error", "error of the result"),
            ("operation.blocked_on_step.name", "name of the operation's blocked step"),
            ("start_time", "wire name"),
            ("operation.blocked_on_step", "wire name in the operation"),
        ):
            state = full()
            PLACES[place](state, 5)
            with pytest.raises(FlowStateEncodeError) as refusal:
                await store.save("id", state)

            assert path == refusal.value.path
            assert path in str(refusal.value)

    @pytest.mark.asyncio
    async def test_an_optional_field_that_is_deleted_is_absent(self, store: VersionedFlowStateStore) -> None:
        """``del state.name`` leaves the name out, by each way to write the state."""
        await store.save("id", full())
        async with store.edit("id") as state:
            del state.name, state.input, state.trace_context, state.cache["step"].value
            assert state.operation.result is not None
            del state.operation.result.error, state.operation.metadata, state.operation.blocked_on_step
        loaded = await store.load("id")
        assert loaded is not None
        dumped = loaded.model_dump(by_alias=True)

        assert set() == {"name", "input", "traceContext"} & dumped.keys()
        assert {} == dumped["cache"]["step"]
        assert {"name", "done", "result"} == dumped["operation"].keys()
        assert {"response", "stacktrace"} == dumped["operation"]["result"].keys()
        with pytest.raises(AttributeError, match="required"):
            del loaded.cache

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", ["save", "create", "save_many", "edit"])
    async def test_declared_fields_of_subclasses_are_state(self, store: VersionedFlowStateStore, write: str) -> None:
        """A field that a class of the application declares is kept under its wire name, defaults too."""
        state = TenantFlow.model_validate(full().model_dump(by_alias=True))
        state.labels.append("new")
        state.operation = RegionalOperation(
            name="flow", done=True, region="eu", result=CodedResult(error="no", error_code=5)
        )
        state.cache["step"] = TimedEntry(value=1, took_ms=7)
        state.blocked_on_step = BlockedForWhom(name="wait", for_whom=None)
        state.executions = [HostExecution(trace_ids=[], host="a")]
        if write == "edit":
            await store.save("id", full())
            async with store.edit("id") as edited:
                edited.tenant, edited.labels = state.tenant, state.labels
                edited.operation, edited.cache, edited.executions = state.operation, state.cache, state.executions
                edited.blocked_on_step = state.blocked_on_step
        elif write == "save_many":
            await store.save_many({"id": state})
        else:
            await (store.save("id", state) if write == "save" else store.create("id", state))
        loaded = await store.load("id")

        assert loaded is not None
        assert loaded.model_extra is not None
        assert ("acme", ["new"]) == (loaded.model_extra["tenant"], loaded.model_extra["labels"])
        dumped = loaded.model_dump(by_alias=True)
        assert {"error": "no", "errorCode": 5} == dumped["operation"]["result"]
        assert "eu" == dumped["operation"]["region"]
        assert {"value": 1, "tookMs": 7} == dumped["cache"]["step"]
        assert {"name": "wait", "forWhom": None} == dumped["blockedOnStep"]
        assert [{"traceIds": [], "host": "a"}] == dumped["executions"]
        assert ["new"] == TenantFlow.model_validate(dumped).labels

    @pytest.mark.asyncio
    async def test_declared_fields_can_be_asked_for(self, store: VersionedFlowStateStore) -> None:
        """A declared field is found by ``where``, and summaries show it."""
        state = TenantFlow.model_validate({**full().model_dump(by_alias=True), "tenant": "other"})
        await store.save("other", state)
        await store.save("acme", TenantFlow.model_validate(full().model_dump(by_alias=True)))
        page = await store.list_summaries(FlowStateQuery(where={"tenant": "acme"}))

        assert ["acme"] == [summary.id for summary in page.summaries]
        assert "acme" == page.summaries[0].extra["tenant"]

    @pytest.mark.asyncio
    async def test_scalars_of_other_types_are_what_they_are_equal_to(self, store: VersionedFlowStateStore) -> None:
        """Members of enumerations and other subclasses of str and int serve as ids, names, filters and values."""
        state = full()
        state.cache[Word.ONE] = CacheEntry(value=Level.HIGH)
        state.name, state.start_time, state.level, state.word = Word.ONE, Number(5), Level.HIGH, Word.ONE
        state.executions[0].end_time = Number(9)
        await store.save(Word.ONE, state)
        await store.update(Word.ONE, cache={Word.ONE: CacheEntry(value=Number(8))}, remove=[Word.ONE])
        query = FlowStateQuery(
            limit=Level.HIGH,
            name=Word.ONE,
            started_after=Number(5),
            started_before=Number(6),
            where={"level": Level.HIGH, "word": Word.ONE},
        )
        loaded = await store.load("one")

        assert loaded is not None
        more = loaded.model_extra or {}
        assert exactly(("one", 5, 3, "one", 9)) == exactly(
            (loaded.name, loaded.start_time, more["level"], more["word"], loaded.executions[0].end_time)
        )
        assert exactly({"step": 1, "one": 8}) == exactly({step: entry.value for step, entry in loaded.cache.items()})
        assert ["flow"] == [found.flow_id for found in (await store.list(query)).flow_states]
        assert [1, ["one"]] == [await store.count(query), list(await store.load_many([Word.ONE]))]
        await store.delete_many([Word.ONE])
        assert await store.load("one") is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "value",
        [2**53 + 1, Fraction(10, 3), "1795336740800.123456789", 10**400],
        ids=["2**53 + 1", "10/3", "beyond digits", "10**400"],
    )
    async def test_a_time_that_would_be_rounded_is_refused(self, store: VersionedFlowStateStore, value: Any) -> None:
        """A number of another type is taken if a float is equal to it. pydantic would round the others in silence."""
        rounded, ended = value if isinstance(value, Fraction) else Decimal(value), FlowStateExecution(trace_ids=[])
        state = full()
        await store.save("id", state)
        before = exactly(await store.load("id"))
        for name, path in (("start_time", "executions[0].start_time"), ("end_time", "executions[0].end_time")):
            odd = ended.model_copy(update={name: rounded})
            with pytest.raises(FlowStateEncodeError) as saved:
                await store.save("id", state.model_copy(update={"executions": [odd]}))
            with pytest.raises(FlowStateEncodeError) as updated:
                await store.update("id", executions=[odd])
            assert [path] * 2 == [saved.value.path, updated.value.path]
        with pytest.raises(FlowStateEncodeError) as started:
            await store.save("id", state.model_copy(update={"start_time": rounded}))

        assert ("start_time", "id") == (started.value.path, started.value.flow_id)
        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("value", "time"),
        [(Decimal("0.5"), 0.5), (Fraction(5, 4), 1.25), (Decimal(7), 7.0), (Decimal(2**53), 2.0**53), (Indexed(), 7)],
        ids=lambda value: type(value).__name__,
    )
    async def test_a_time_of_another_type_is_stored_as_what_it_is_equal_to(
        self, store: VersionedFlowStateStore, value: Any, time: float
    ) -> None:
        """So may be what a library returns."""
        execution = FlowStateExecution(trace_ids=[]).model_copy(update={"start_time": value, "end_time": value})
        await store.save("id", full().model_copy(update={"start_time": value, "executions": [execution]}))
        loaded = await store.load("id")

        assert loaded is not None
        [found] = loaded.executions
        assert exactly([time] * 3) == exactly([loaded.start_time, found.start_time, found.end_time])

    @pytest.mark.asyncio
    @pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 0, -1, True, "5"], ids=repr)
    async def test_a_timeout_is_a_finite_number(self, store: VersionedFlowStateStore, timeout: Any) -> None:
        """Any other timeout is refused at once. With a finite one of any length the call is made."""
        with pytest.raises(ValueError, match="timeout"):
            await store.save("id", full(), timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            await store.load("id", timeout=timeout)
        await store.save("id", full(), timeout=1e300)

        assert await store.load("id", timeout=1e15) is not None


def _check(refusal: object, kind: str) -> None:
    assert isinstance(refusal, FlowStateEncodeError), kind
    assert refusal.path, kind
    assert refusal.flow_id == kind


def _check_that_refused_are_as_before(
    before: Mapping[str, FlowState], loaded: Mapping[str, FlowState], taken: Collection[str]
) -> None:
    for kind in ODD_VALUES.keys() - taken:
        assert exactly(before.get(kind)) == exactly(loaded.get(kind)), kind
