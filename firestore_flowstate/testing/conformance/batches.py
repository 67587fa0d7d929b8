"""Many at once: `load_many`, `save_many`, `delete_many`."""

from __future__ import annotations

from typing import Any

import pytest

from ...errors import FlowStateBatchError, FlowStateEncodeError, InvalidFlowIdError
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .paging import flow_ids, pages
from .states import VALUES, started, with_everywhere, with_steps
from .suite import Suite


class BatchTests(Suite):
    """Batches do what the single calls do, and report failures by id."""

    @pytest.mark.asyncio
    async def test_saves_each_state_under_its_id(self, store: VersionedFlowStateStore) -> None:
        """States that are saved together are loaded exactly, together or alone."""
        states = {f"id of {name}": with_everywhere(value) for name, value in VALUES.items()}
        await store.save_many(states)

        assert exactly(states) == exactly(await store.load_many(states))
        for id, state in list(states.items())[:5]:
            assert exactly(state) == exactly(await store.load(id))

    @pytest.mark.asyncio
    async def test_saved_states_have_their_stored_versions(self, store: VersionedFlowStateStore) -> None:
        """After save_many each state at hand has the version that load_many finds."""
        states = {f"id-{place}": started(place) for place in range(5)}
        await store.save_many(states)
        loaded = await store.load_many(states)

        assert None not in {state.version for state in states.values()}
        assert {id: state.version for id, state in states.items()} == {
            id: state.version for id, state in loaded.items()
        }

    @pytest.mark.asyncio
    async def test_replaces_what_is_there(self, store: VersionedFlowStateStore) -> None:
        """Like save, save_many leaves nothing of the states before."""
        await store.save("a", with_everywhere(1))
        states = {"a": with_steps("new"), "b": started()}
        await store.save_many(states)

        assert exactly(states) == exactly(await store.load_many(["a", "b"]))

    @pytest.mark.asyncio
    async def test_loads_in_the_order_of_the_ids(self, store: VersionedFlowStateStore) -> None:
        """Absent states are left out, repeated ids count once, and the ids may be any iterable."""
        await store.save_many({id: started(flow_id=id) for id in ("a", "b", "c")})
        loaded = await store.load_many(id for id in ("c", "missing", "a", "c"))

        assert list(loaded) == ["c", "a"]
        assert flow_ids(list(loaded.values())) == ["c", "a"]

    @pytest.mark.asyncio
    async def test_nothing_is_a_batch(self, store: VersionedFlowStateStore) -> None:
        """Empty batches do nothing."""
        await store.save_many({})
        await store.delete_many([])

        assert await store.load_many([]) == {}

    @pytest.mark.asyncio
    async def test_deletes_all(self, store: VersionedFlowStateStore) -> None:
        """Ids without a state are passed over, and so are repeated ids."""
        await store.save_many({id: started(flow_id=id) for id in ("a", "b", "c")})
        await store.delete_many(id for id in ("a", "missing", "c", "a"))

        assert await pages(store, FlowStateQuery(limit=10)) == [["b"]]

    @pytest.mark.asyncio
    async def test_several_hundred_at_once(self, store: VersionedFlowStateStore) -> None:
        """The number of states has no limit of its own."""
        states = {f"id-{place:03}": started(place, flow_id=f"id-{place:03}") for place in range(620)}
        await store.save_many(states)
        assert exactly(states) == exactly(await store.load_many(states))
        await store.delete_many(list(states)[1:])

        assert await pages(store, FlowStateQuery(limit=10)) == [["id-000"]]

    @pytest.mark.asyncio
    async def test_saves_all_but_those_that_fail(self, store: VersionedFlowStateStore) -> None:
        """The error names each id that failed and why. Every other state is stored."""
        unstorable = started()
        unstorable.input = object()
        states: dict[Any, Any] = {"a": started(), "b": unstorable, "c/d": started(), "e": "no state", "f": started()}
        with pytest.raises(FlowStateBatchError) as failure:
            await store.save_many(states)

        assert {"b": FlowStateEncodeError, "c/d": InvalidFlowIdError, "e": FlowStateEncodeError} == {
            id: type(error) for id, error in failure.value.errors.items()
        }
        assert exactly({"a": started(), "f": started()}) == exactly(await store.load_many(["a", "b", "e", "f"]))

    @pytest.mark.asyncio
    async def test_refuses_invalid_ids_by_name(self, store: VersionedFlowStateStore) -> None:
        """An id that cannot name a document fails by itself. `delete_many` deletes the others."""
        await store.save_many({"a": started(), "b": started()})
        with pytest.raises(FlowStateBatchError) as failure:
            await store.load_many(["a", "", "b"])
        assert list(failure.value.errors) == [""]
        with pytest.raises(FlowStateBatchError) as failure:
            await store.delete_many(["a", "..", "b"])

        assert list(failure.value.errors) == [".."]
        assert all(isinstance(error, InvalidFlowIdError) for error in failure.value.errors.values())
        assert await store.load_many(["a", "b"]) == {}
