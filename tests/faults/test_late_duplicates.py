"""A commit that arrives once more, late, as networks and proxies may let it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import grpc
import pytest

from tests.faults.commits import whole_commits
from tests.faults.writes import (
    CREATE,
    SAVE,
    SAVE_FIRST,
    SAVE_NEW,
    WRITES,
    Store,
    Write,
    a_state,
    in_layout,
    marks,
    others_create,
    others_update,
    outcome_of,
)
from tests.rpc.tcp_proxy import TcpProxy

Send = Callable[[bytes], str]
NEVER_BLIND = [write for write in WRITES if not write.deletes and (write.creates or not write.whole or write.versioned)]


@pytest.fixture
def send(direct: Store) -> Iterator[Send]:
    """Sends a commit to the emulator as it is, and returns the status."""
    with grpc.insecure_channel(direct.settings.emulator_host) as channel:
        commit = channel.unary_unary("/google.firestore.v1.Firestore/Commit")

        def send(message: bytes) -> str:
            try:
                commit(message, metadata=(("authorization", "Bearer owner"),), timeout=20)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        yield send


async def _commit_of(write: Awaitable[object], proxy: TcpProxy) -> bytes:
    """Await a write that is stored by one commit; return that commit."""
    seen: list[bytes] = []
    proxy.on_request(lambda chunk: seen.extend(whole_commits(chunk)))
    assert "stored" == await outcome_of(write)
    [message] = seen
    return message


@pytest.mark.parametrize("write", NEVER_BLIND, ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_late_duplicates_change_nothing(
    direct: Store, troubled: Store, proxy: TcpProxy, send: Send, write: Write, layout: str
) -> None:
    """A commit that comes again after others have written is refused by its precondition."""
    id, read = "id", a_state("id")
    if not write.creates:
        await in_layout(direct, layout).save(id, read)
    message = await _commit_of(write.run(in_layout(troubled, layout), id, read, 1), proxy)
    await others_update(in_layout(direct, layout), id)
    before = (await direct.load(id)).version

    status = await asyncio.to_thread(send, message)
    if write.name == "save first":  # blind, so it has no precondition: the last one wins
        assert ("OK", "ours") == (status, await marks(direct, id))
        return
    assert status in ("FAILED_PRECONDITION", "ALREADY_EXISTS")
    assert before == (await direct.load(id)).version
    assert "ours theirs" == await marks(direct, id)


@pytest.mark.parametrize("write", [write for write in WRITES if write.deletes], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_late_deletion_leaves_what_is_new(
    direct: Store, troubled: Store, proxy: TcpProxy, send: Send, write: Write, layout: str
) -> None:
    """A deletion that comes again is refused if others have created the state anew, whatever it was to delete."""
    id, read = "id", a_state("id")
    await in_layout(direct, layout).save(id, read)
    message = await _commit_of(write.run(in_layout(troubled, layout), id, read, 1), proxy)
    await others_create(in_layout(direct, layout), id)

    assert ("FAILED_PRECONDITION", "theirs") == (await asyncio.to_thread(send, message), await marks(direct, id))


@pytest.mark.parametrize("write", [write for write in WRITES if not write.deletes], ids=str)
async def test_a_duplicate_that_comes_first(
    direct: Store, troubled: Store, proxy: TcpProxy, send: Send, write: Write
) -> None:
    """A commit whose own copy was faster is a success, and applied once."""
    id, read = "id", a_state("id")
    if not write.creates:
        await direct.save(id, read)
    statuses: list[str] = []

    def send_first(chunk: bytes) -> None:
        statuses.extend(send(message) for message in whole_commits(chunk))

    await troubled.load(id)
    proxy.on_request(send_first)
    assert "stored" == await outcome_of(write.run(troubled, id, read, 1))
    assert "OK" == statuses[0]
    assert "ours" == await marks(direct, id)


@pytest.mark.parametrize("write", [SAVE_FIRST, SAVE], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_save_that_comes_while_it_is_sent_again(
    direct: Store, troubled: Store, proxy: TcpProxy, send: Send, write: Write, layout: str
) -> None:
    """A save expects, when it is sent again, what was found since: it does not undo what others put on top of it."""
    id = "id"
    lost: list[bytes] = []
    statuses: list[str] = []
    if not write.creates:
        await in_layout(direct, layout).save(id, a_state(id))
    await troubled.load(id)
    loop = asyncio.get_running_loop()

    def be_late(chunk: bytes) -> None:
        found = whole_commits(chunk)
        if found and not lost:
            lost.extend(found)
            proxy.cut()
        elif found and not statuses:
            statuses.extend(map(send, lost))
            asyncio.run_coroutine_threadsafe(others_update(in_layout(direct, layout), id), loop).result()

    proxy.on_request(be_late)
    assert "stored" == await outcome_of(write.run(in_layout(troubled, layout), id, a_state(id), 1))
    assert (["OK"], "ours theirs") == (statuses, await marks(direct, id))


@pytest.mark.parametrize("write", [CREATE, SAVE_NEW], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_refused_create_that_comes_late(
    direct: Store, troubled: Store, proxy: TcpProxy, send: Send, write: Write, layout: str
) -> None:
    """A create cannot ask for more than that nothing is there: once that is so again, its lost request is stored."""
    id = "id"
    lost: list[bytes] = []
    await troubled.load(id)
    loop = asyncio.get_running_loop()

    def lose(chunk: bytes) -> None:
        if not lost and (found := whole_commits(chunk)):
            lost.extend(found)
            asyncio.run_coroutine_threadsafe(others_create(in_layout(direct, layout), id), loop).result()
            proxy.cut()

    proxy.on_request(lose)
    assert await outcome_of(write.run(in_layout(troubled, layout), id, a_state(id), 1)) in ("exists", "conflict")
    [message] = lost
    while_there = await asyncio.to_thread(send, message)
    assert ("ALREADY_EXISTS", "theirs") == (while_there, await marks(direct, id))

    await direct.delete(id)
    assert ("OK", "ours") == (await asyncio.to_thread(send, message), await marks(direct, id))
