"""What gc costs: the parts of its own collection and their roots, whatever else is in the database."""

from __future__ import annotations

import pytest

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._rpc.connection import Connection
from tests.support.query_log import QueryLog, query_log

__all__ = ["query_log"]
Store = FirestoreFlowStateStore


@pytest.fixture
def gets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the documents that were got one by one."""
    names: list[str] = []
    get = Connection.get

    async def note(self: Connection, name: str, **options: object) -> object:
        names.append(name)
        return await get(self, name, **options)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(Connection, "get", note)
    return names


def in_parts() -> FlowState:
    """Return a state of two parts."""
    state = FlowState.start()
    state.cache = {str(step): CacheEntry(value="x" * 400_000) for step in range(4)}
    return state


async def test_other_collections_are_not_read(
    flow_state_settings: FlowStateSettings, query_log: QueryLog, gets: list[str]
) -> None:
    """It reads neither collections of other names, before and after its own, nor those of other tenants."""
    own = flow_state_settings.collection

    def store(collection: str) -> Store:
        return Store(flow_state_settings.model_copy(update={"collection": collection, "compress_over": 2**40}))

    names = [own, f"{own}a", f"{own} ", own[:-1], f"A{own}", f"z{own}", f"tenants/{own}/flows", f"tenants/z/{own}"]
    for name in names:
        for id in ("a", "\x01", "\U0010ffff", " "):
            await store(name).save(id, in_parts())
    for name in (own, f"tenants/{own}/flows"):
        query_log.clear()
        gets.clear()
        report = await store(name).gc()

        assert (0, 0, 0) == (report.orphans, report.deleted, report.young)
        assert [4 * 2] == query_log.documents
        assert 4 == len(gets)


async def test_each_root_is_read_once(
    flow_state_settings: FlowStateSettings, query_log: QueryLog, gets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is that of a state whose parts fill more than one page."""
    monkeypatch.setattr("firestore_flowstate._document.stored_values.PART_BYTES", 1_000)
    store = Store(flow_state_settings.model_copy(update={"compress_over": 2**40}))
    await store.save("flow", in_parts())
    gets.clear()
    query_log.clear()
    report = await store.gc()

    assert (0, 0) == (report.orphans, report.young)
    assert len(query_log.documents) > 3
    assert 1 == len(gets)


async def test_the_data_of_parts_is_not_sent(flow_state_settings: FlowStateSettings, query_log: QueryLog) -> None:
    """It reads names and times: of parts with 1.6 MB a few hundred bytes come."""
    store = Store(flow_state_settings.model_copy(update={"compress_over": 2**40}))
    await store.save("flow", in_parts())
    query_log.clear()
    await store.gc()

    assert [2] == query_log.documents
    assert query_log.received < 2_000
