"""Values that are not JSON: each is stored whole, in the JSON form of docs/values.md, or refused with its path."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

import pytest

from ...errors import FlowStateBatchError, FlowStateDecodeError, FlowStateEncodeError
from ...models import CacheEntry, FlowState, Operation
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .sample_values import FORMS, LOST, PUT, READ_BACK, UNTOLD, Area, Keyed, RaisingMapping, Uncopied, Unlike
from .states import started, with_everywhere
from .suite import Suite


@dataclasses.dataclass(frozen=True)
class _Weighed:
    """A value whose time and bytes layouts hold in forms of their own, and that Python does not copy."""

    at: datetime
    raw: bytes
    about: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({"unit": "m"}))


class _CallableState(FlowState):
    def __call__(self) -> str:
        return "called"


class _CallableSteps(dict[str, Any]):
    """A mapping that is a function of its steps too, and an iterator over its names."""

    def __call__(self, step: str) -> Any:
        return self[step]

    def __next__(self) -> str:
        raise StopIteration


class ValueTests(Suite):
    """Models, enumerations, times, UUIDs and the like in place of JSON values."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("value", "form"), FORMS.values(), ids=FORMS)
    async def test_is_stored_as_its_json_form(self, store: VersionedFlowStateStore, value: Any, form: Any) -> None:
        """Each field that takes any value stores that form, whichever method writes."""
        state = started()
        state.input, state.events_triggered["event"] = value, value
        state.unknown = value
        state.operation.metadata = value
        state.cache["step"] = CacheEntry(value=value)
        await store.save("id", state)
        await store.update("id", cache={"updated": CacheEntry(value=value)}, events_triggered={"updated": value})
        async with store.edit("id") as edited:
            edited.cache["edited"] = CacheEntry(value=value)
        loaded = await store.load("id")

        assert loaded is not None
        for found in (
            loaded.input,
            (loaded.model_extra or {})["unknown"],
            loaded.operation.metadata,
            *(loaded.cache[step].value for step in ("step", "updated", "edited")),
            *loaded.events_triggered.values(),
        ):
            assert exactly(form) == exactly(found)

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("value", "path"), LOST.values(), ids=LOST)
    async def test_is_refused_if_json_would_lose_of_it(
        self, store: VersionedFlowStateStore, value: Any, path: str
    ) -> None:
        """The path leads to the value that would be lost, and nothing is written."""
        before = with_everywhere(1)
        await store.save("id", before)
        state = with_everywhere(1)
        state.input = value
        with pytest.raises(FlowStateEncodeError) as saved:
            await store.save("id", state)
        with pytest.raises(FlowStateEncodeError) as updated:
            await store.update("id", events_triggered={"event": value})

        assert path in (saved.value.path or "").replace("'", '"')
        assert path in (updated.value.path or "").replace("'", '"')
        assert exactly(before) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("path", PUT)
    @pytest.mark.parametrize("value", UNTOLD.values(), ids=UNTOLD)
    async def test_a_refusal_names_the_place_whatever_is_there(
        self, store: VersionedFlowStateStore, value: Callable[[], Any], path: str
    ) -> None:
        """The path is as the application's code would write it, though no text of the value can be made."""
        put, bad = PUT[path], value()
        await store.save("id", started())
        state = started()
        put(state, bad)
        parts: dict[str, Any] = {
            name: getattr(state, name)
            for name in ("cache", "events_triggered", "operation", "blocked_on_step", "executions")
            if getattr(state, name) != getattr(started(), name)
        } or {"extra": {"unknown": bad}}

        async def edit() -> None:
            async with store.edit("id") as edited:
                put(edited, bad)

        for call, found in (
            (store.save("id", state), path),
            (store.create("new", state), path),
            (edit(), path),
            (store.modify("id", lambda stored: put(stored, bad)), path),
            (store.update("id", **parts), 'extra["unknown"]' if path in ("unknown", "input") else path),
        ):
            with pytest.raises(FlowStateEncodeError) as refusal:
                await call
            in_it = "" if value is not RaisingMapping else '["a"]'
            assert (found, "id") == (
                (refusal.value.path or "").partition("[0][0]")[0].removesuffix(in_it),
                "id" if refusal.value.flow_id in ("id", "new") else None,
            )
        with pytest.raises(FlowStateBatchError) as many:
            await store.save_many({"id": state})
        assert isinstance(many.value.errors["id"], FlowStateEncodeError)

        assert exactly(started()) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("value", "as_"), READ_BACK.values(), ids=READ_BACK)
    async def test_a_run_in_memory_equals_a_run_after_a_load(
        self, store: VersionedFlowStateStore, value: Any, as_: Any
    ) -> None:
        """``cache_value(as_=Type)`` returns the same for the object that was put in as for what is loaded."""
        state = started()
        state.input, state.events_triggered["event"] = value, value
        state.cache["step"] = CacheEntry(value=value)
        await store.save("id", state)
        loaded = await store.load("id")
        assert loaded is not None

        for at_hand in (state, loaded):
            assert value == at_hand.cache_value("step", as_=as_)
            assert value == at_hand.event_value("event", as_=as_)
            assert value == at_hand.input_value(as_=as_)
            assert type(value) is type(at_hand.cache_value("step", as_=as_))
        with pytest.raises(FlowStateDecodeError, match="step"):
            loaded.cache_value("step", as_=Unlike)
        with pytest.raises(KeyError):
            loaded.cache_value("another step", as_=as_)

    @pytest.mark.asyncio
    async def test_an_enumeration_of_other_values_is_read_back_by_its_value(
        self, store: VersionedFlowStateStore
    ) -> None:
        """The type itself is found by JSON's own values alone, in the run that put it in as after a load."""
        state = started()
        state.cache["step"] = CacheEntry(value=Area.YARD)
        await store.save("id", state)
        loaded = await store.load("id")
        assert loaded is not None

        for at_hand in (state, loaded):
            assert Area.YARD is Area(at_hand.cache_value("step", as_=tuple[int, int]))
            with pytest.raises(FlowStateDecodeError, match="Area"):
                at_hand.cache_value("step", as_=Area)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", ["save", "create", "save_many", "update"])
    @pytest.mark.parametrize("first", [True, False], ids=["first call", "later call"])
    async def test_what_is_stored_is_what_was_there_at_the_call(
        self, store: VersionedFlowStateStore, write: str, first: bool
    ) -> None:
        """A change that is made while the call waits is not stored, also in the first call of a store."""
        state, value, entry = with_everywhere({"list": [1]}), Keyed(by_key={"a": "b"}), CacheEntry(value={"list": [1]})
        state.cache["model"] = CacheEntry(value=value)
        within: dict[str, Any] = {"list": [1]}
        uncopied = [MappingProxyType(within), Uncopied(within)]  # Python cannot copy it
        state.events_triggered["uncopied"] = uncopied
        if not first:
            await store.save("another", state)
        if write == "update":
            await store.save("id", started())
            writing = store.update("id", cache={"step": entry}, events_triggered={"event": entry.value, "un": uncopied})
        elif write == "save_many":
            writing = store.save_many({"id": state})  # type: ignore[assignment]  # awaited alone
        else:
            writing = (store.save if write == "save" else store.create)("id", state)  # type: ignore[assignment]  # likewise
        task = asyncio.ensure_future(writing)
        await asyncio.sleep(0)  # the call has begun
        value.by_key["a"] = "changed"
        for found in (state.input, state.cache["step"].value, state.operation.metadata, entry.value):
            found["list"].append("changed")
        within["list"].append("changed")
        state.cache["later"] = CacheEntry()
        entry.value = "changed"
        await task
        loaded = await store.load("id")

        assert loaded is not None
        assert "changed" not in str(loaded.model_dump())
        assert "later" not in loaded.cache

    @pytest.mark.asyncio
    async def test_is_stored_alike_whatever_the_call(self, store: VersionedFlowStateStore) -> None:
        """Calls that copy a value before they wait store what others store, also if Python cannot copy the value."""
        value = [_Weighed(at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc), raw=b"\xff\x00")]
        for id in ("first", "later"):
            state = started()
            state.input = value
            state.cache["saved"] = CacheEntry(value=value)
            await store.save(id, state)
        await store.save_many({"many": state})
        await store.update("later", cache={"updated": CacheEntry(value=value)}, events_triggered={"event": value})
        version = await store.update("later", operation=Operation(name="flow", metadata=value))
        await store.update("later", cache={"on a version": CacheEntry(value=value)}, if_version=version)
        async with store.edit("later") as edited:
            edited.cache["edited"] = CacheEntry(value=value)
        first, later, many = [await store.load(id) for id in ("first", "later", "many")]

        assert first is not None
        assert later is not None
        assert many is not None
        for found in (
            first.cache["saved"].value,
            later.input,
            many.input,
            later.operation.metadata,
            *(entry.value for entry in later.cache.values()),
            *later.events_triggered.values(),
        ):
            assert exactly(first.input) == exactly(found)

    @pytest.mark.asyncio
    async def test_what_can_be_called_is_stored_as_what_it_is(self, store: VersionedFlowStateStore) -> None:
        """A state or a mapping whose class is a function or an iterator too is neither called nor read as one."""
        state = _CallableState.model_validate(started().model_dump(by_alias=True))
        await store.save("saved", state)
        await store.create("created", state)
        await store.update(
            "saved", cache=_CallableSteps(step=CacheEntry(value=1)), events_triggered=_CallableSteps(event=2)
        )
        saved, created = await store.load("saved"), await store.load("created")

        assert saved is not None
        assert created is not None
        assert exactly(started()) == exactly(created)
        assert 1 == saved.cache["step"].value
        assert {"event": 2} == saved.events_triggered
