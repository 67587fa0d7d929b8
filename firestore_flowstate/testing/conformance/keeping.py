"""What is saved is what is loaded, and nobody's changes reach anybody else's copy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ...errors import FlowStateEncodeError
from ...models import CacheEntry, FlowState, FlowStateExecution
from ...store import FlowStateStore
from ..comparison import exactly
from .states import STEPS, VALUES, VARIANTS, started, with_everywhere, with_steps
from .suite import Suite


class KeepingTests(Suite):
    """Save and load: round trips, replacement, isolation, refusals."""

    @pytest.mark.asyncio
    async def test_load_returns_none_if_there_is_nothing(self, store: FlowStateStore) -> None:
        """An id without a state is not an error."""
        assert await store.load("nothing") is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    async def test_keeps_any_json_value_exactly(self, store: FlowStateStore, value: Any) -> None:
        """A JSON value keeps its type and every bit, in each field for which Genkit's schema allows any value."""
        state = with_everywhere(value)
        await store.save("id", state)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("wire", VARIANTS.values(), ids=VARIANTS)
    async def test_tells_absent_from_null(self, store: FlowStateStore, wire: Mapping[str, Any]) -> None:
        """Absent stays absent, null stays null, unknown keys are kept."""
        await store.save("id", FlowState.model_validate(wire))
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(wire) == exactly(loaded.model_dump(by_alias=True))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("name", STEPS, ids=lambda name: ascii(name)[:20])
    async def test_step_may_have_any_name(self, store: FlowStateStore, name: str) -> None:
        """Steps and events may have any names, also those that Firestore does not allow as names of fields."""
        state = with_steps(name)
        state.events_triggered = {name: {"payload": 1}}
        await store.save("id", state)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_keeps_the_order_of_steps(self, store: FlowStateStore) -> None:
        """Steps stay in the order they were cached, whatever their names."""
        names = ["b", "a", "10", "9", "Z", "", "é", "🙂", "__z__", "aa"]
        await store.save("id", with_steps(*names))
        loaded = await store.load("id")

        assert loaded is not None
        assert names == list(loaded.cache)

    @pytest.mark.asyncio
    async def test_keeps_a_thousand_steps(self, store: FlowStateStore) -> None:
        """The number of steps has no limit of its own."""
        state = with_steps(*(f"step {i}" for i in range(1000)))
        await store.save("id", state)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("start_time", [0, 0.0, -1, 1.5, -1.5, 2.0, 2**53 + 1, 2**63 - 1, -(2**63), 1e300, 5e-324])
    async def test_keeps_the_start_exactly(self, store: FlowStateStore, start_time: float) -> None:
        """A start is kept in its type: whole milliseconds are not floats."""
        await store.save("id", started(start_time))
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(start_time) == exactly(loaded.start_time)

    @pytest.mark.asyncio
    async def test_save_replaces_the_whole_state(self, store: FlowStateStore) -> None:
        """Nothing of the state that was there before is left."""
        await store.save("id", with_everywhere({"old": True}))
        new = with_steps("new")
        await store.save("id", new)

        assert exactly(new) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_saving_again_keeps_the_state(self, store: FlowStateStore) -> None:
        """A loaded state can be saved back, and is the same."""
        state = with_everywhere([float("nan"), None])
        await store.save("id", state)
        loaded = await store.load("id")
        assert loaded is not None
        await store.save("id", loaded)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_state_is_stored_as_it_was_when_saved(self, store: FlowStateStore) -> None:
        """Changing a state after saving it changes nothing in the store."""
        state = with_everywhere({"list": [1]})
        before = exactly(state)
        await store.save("id", state)
        state.input["list"].append(2)
        state.cache["step"].value["list"].append(2)
        state.cache["later"] = CacheEntry(value=1)
        state.operation.name = "changed"
        state.executions.append(FlowStateExecution(trace_ids=[]))

        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_each_load_returns_a_state_of_its_own(self, store: FlowStateStore) -> None:
        """Changing a loaded state changes neither the store nor another loaded copy."""
        state = with_everywhere({"list": [1]})
        before = exactly(state)
        await store.save("id", state)
        first, second = await store.load("id"), await store.load("id")
        assert first is not None
        assert second is not None
        first.input["list"].append(2)
        first.cache["step"].value["list"].clear()
        first.cache["later"] = CacheEntry(value=1)
        first.executions.append(FlowStateExecution(trace_ids=[]))

        assert before == exactly(second)
        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_saving_does_not_change_the_state_at_hand(self, store: FlowStateStore) -> None:
        """The state passed to save has the same fields afterwards."""
        state = with_everywhere({"list": [1.0, None]})
        before = exactly(state)
        await store.save("id", state)

        assert before == exactly(state)

    @pytest.mark.asyncio
    async def test_listed_states_are_whole_and_their_own(self, store: FlowStateStore) -> None:
        """A list returns what loads return, and its states are as safe to change."""
        state = with_everywhere({"list": [[1], float("nan")]})
        before = exactly(state)
        await store.save("id", state)
        [listed] = (await store.list()).flow_states
        assert before == exactly(listed)
        listed.input["list"].append(2)

        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("value", "where"),
        [
            ({1: "a key that is a number"}, "input"),
            ({"deep": [{"er": {None: 1}}]}, 'input["deep"][0]["er"]'),
            ([object()], "input[0]"),
            ({"a": {1, 2}}, 'input["a"]'),
            ({"a": 10**4300}, 'input["a"]'),
            ({"a": ["\ud83d\ude42"]}, 'input["a"][0]'),
        ],
        ids=["integer key", "null key", "object", "set", "4,301 digits", "joinable surrogates"],
    )
    async def test_refuses_what_has_no_json_form(self, store: FlowStateStore, value: Any, where: str) -> None:
        """A value that JSON cannot hold without loss is refused with its path, and nothing is written."""
        before = started()
        await store.save("id", before)
        state = started()
        state.input = value
        with pytest.raises(FlowStateEncodeError) as refusal:
            await store.save("id", state)

        assert (refusal.value.path or "").startswith(where)
        assert refusal.value.flow_id == "id"
        assert exactly(before) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_refuses_what_contains_itself(self, store: FlowStateStore) -> None:
        """A value inside itself is an error, not an endless write."""
        state = started()
        state.input = {}
        state.input["self"] = state.input
        with pytest.raises(FlowStateEncodeError):
            await store.save("id", state)

        assert await store.load("id") is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("state", [None, "state", {"flowId": "x"}, 5], ids=repr)
    async def test_refuses_what_is_not_a_flow_state(self, store: FlowStateStore, state: Any) -> None:
        """Only a FlowState can be saved."""
        with pytest.raises(FlowStateEncodeError):
            await store.save("id", state)

        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_refuses_what_is_not_an_entry_or_an_execution(self, store: FlowStateStore) -> None:
        """Another value in cache, or in executions, is refused with its path."""
        state = started()
        state.cache["step"] = 5  # type: ignore[assignment]  # as an app without a type checker may do
        with pytest.raises(FlowStateEncodeError, match=r'cache\["step"\]'):
            await store.save("id", state)
        state = started()
        state.executions.append("now")  # type: ignore[arg-type]  # likewise
        with pytest.raises(FlowStateEncodeError, match=r"executions\[0\]"):
            await store.save("id", state)

        assert await store.load("id") is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("start_time", [2**63, -(2**63) - 1, 10**30])
    async def test_refuses_starts_beyond_64_bits(self, store: FlowStateStore, start_time: int) -> None:
        """Lists are ordered by the start, and no database orders larger integers."""
        with pytest.raises(FlowStateEncodeError) as refusal:
            await store.save("id", started(start_time))

        assert refusal.value.path == "start_time"
        assert await store.load("id") is None
