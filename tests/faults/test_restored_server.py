"""A server that is killed and given its documents again by an import, with new create times and without a past."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from tests.faults.commits import lose_request
from tests.faults.writes import DELETE, DELETE_MANY, Write, a_state, outcome_of
from tests.rpc.tcp_proxy import TcpProxy
from tests.torture.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server("demo-restored")
    yield server
    server.stop()


@pytest.mark.parametrize(("write", "layout"), [(DELETE, "native"), (DELETE_MANY, "serialized")], ids=str)
async def test_a_deletion_lost_with_the_server_is_not_told_done(server: Server, write: Write, layout: str) -> None:
    """What was imported looks as if it had been created after the deletion; the history has not what was deleted."""
    id = f"{write.name}-{layout}"
    proxy = TcpProxy(server.host)

    async def crash() -> None:
        await server.restore(proxy.refuse)  # nobody may see it before it has its documents
        proxy.listen()

    settings = FlowStateSettings(project=server.project, emulator_host=proxy.host, layout=layout)
    async with FirestoreFlowStateStore(settings) as store:
        await store.save(id, a_state(id))
        read = await store.load(id)
        writing = outcome_of(write.run(store, id, read, 1))
        outcome = await lose_request(proxy, writing, root=id, then=crash)
        assert ("unknown", True) == (outcome, await store.load(id) is not None)

        assert "stored" == await outcome_of(write.run(store, id, read, 1))  # the caller's way out
        assert await store.load(id) is None
    proxy.close()
