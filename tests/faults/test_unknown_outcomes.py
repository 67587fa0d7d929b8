"""What cannot be known is said to be unknown, in time. What is known never is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from firestore_flowstate import CacheEntry, FlowStateConflictError
from firestore_flowstate._rpc.messages import GetDocumentRequest
from tests.faults.commits import lose_reply, lose_request, on_commit
from tests.faults.relay import Call, Refusal, Relay
from tests.faults.writes import (
    DELETE_VERSION,
    MARK,
    SAVE,
    SAVE_FIRST,
    SAVE_VERSION,
    UPDATE,
    UPDATE_VERSION,
    WRITES,
    Store,
    Troubled,
    Write,
    a_state,
    in_layout,
    marks,
    others_save,
    others_update,
    outcome_of,
)
from tests.rpc.tcp_proxy import TcpProxy

SECONDS = 3.0  # the timeout of each call
ON_A_VERSION: Final = (SAVE_VERSION, UPDATE_VERSION, DELETE_VERSION)


@pytest.fixture
async def run_all(direct: Store, through_a_proxy: Troubled):  # type: ignore[no-untyped-def]
    """Runs every kind of write at once, each through a proxy that does something when the commit comes."""

    async def one(write: Write, trouble: str, layout: str) -> tuple[str, str]:
        read = a_state(write.name)
        async with through_a_proxy(layout=layout, timeout=SECONDS) as (proxy, store):
            if not write.creates:
                await in_layout(direct, layout).save(write.name, read)
            if trouble == "down":
                proxy.refuse()
            else:
                await store.load(write.name, timeout=20)  # so that there is a connection
            if trouble == "reply lost":
                on_commit(proxy, write.name, proxy.hold_replies)
            elif trouble == "request lost":
                on_commit(proxy, write.name, proxy.refuse)
            began = time.monotonic()
            outcome = await outcome_of(write.run(store, write.name, read, 1))
            assert time.monotonic() - began < 1.1 * SECONDS + 2.0  # for a machine that is busy
            return outcome, await marks(direct, write.name)

    async def all_of_them(trouble: str, layout: str) -> dict[str, tuple[str, str]]:
        results = await asyncio.gather(*(one(write, trouble, layout) for write in WRITES))
        return {write.name: result for write, result in zip(WRITES, results, strict=True)}

    return all_of_them


@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_away_after_the_commit(run_all, layout: str) -> None:  # type: ignore[no-untyped-def]
    """If the reply is lost and Firestore is away until the deadline, the outcome is unknown. A later load tells."""
    expected = {write.name: ("unknown", "gone" if write.deletes else "ours") for write in WRITES}

    assert expected == await run_all("reply lost", layout)


@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_away_before_the_commit_arrives(run_all, layout: str) -> None:  # type: ignore[no-untyped-def]
    """If the request is lost, nobody can know that either. A later load tells."""
    expected = {write.name: ("unknown", "gone" if write.creates else "none") for write in WRITES}

    assert expected == await run_all("request lost", layout)


async def test_down(run_all) -> None:  # type: ignore[no-untyped-def]
    """If no connection could be made, the outcome is known: nothing was stored."""
    expected = {write.name: ("unavailable", "gone" if write.creates else "none") for write in WRITES}

    assert expected == await run_all("down", "serialized")


@pytest.mark.parametrize("write", [UPDATE, UPDATE_VERSION, SAVE_VERSION], ids=str)
async def test_what_nobody_remembers(direct: Store, troubled: Store, proxy: TcpProxy, write: Write) -> None:
    """A native write that changes nothing and is overtaken leaves no trace: whether it came first is unknown."""
    native, id = in_layout(direct, "native"), "id"
    read = a_state(id)
    read.cache[MARK] = CacheEntry(value=1)
    await native.save(id, read)

    async def then() -> None:
        await native.update(id, cache={MARK: CacheEntry(value="theirs")})

    writing = write.run(in_layout(troubled, "native"), id, read, 1)
    assert "unknown" == await outcome_of(lose_request(proxy, writing, root=id, then=then))
    assert "theirs" == (await direct.load(id)).cache[MARK].value


@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_versions_of_what_was_overtaken(direct: Store, troubled: Store, proxy: TcpProxy, layout: str) -> None:
    """If others have written on top of a write since, the version that it gets conflicts with what is stored."""
    as_written, id = in_layout(direct, layout), "id"
    await as_written.save(id, a_state(id))
    version = (await direct.load(id)).version

    async def is_stored() -> bool:
        return (await direct.load(id)).version != version

    async def then() -> None:
        await others_update(as_written, id)

    await troubled.load(id)
    writing = troubled.update(id, cache={MARK: CacheEntry(value=1)}, if_version=version)
    ours = await lose_reply(proxy, writing, root=id, is_stored=is_stored, then=then)
    with pytest.raises(FlowStateConflictError) as conflict:
        await troubled.update(id, cache={MARK: CacheEntry(value=2)}, if_version=ours)
    assert (id, ours, (await direct.load(id)).version) == (
        conflict.value.flow_id,
        conflict.value.expected,
        conflict.value.found,
    )
    assert "ours theirs" == await marks(direct, id)


async def test_removing_from_a_native_document(direct: Store, troubled: Store, proxy: TcpProxy) -> None:
    """A native update that only removes, and never arrived, is not a success because what it removes is still there."""
    native, id = in_layout(direct, "native"), "id"
    read = a_state(id)
    await native.save(id, read)

    async def then() -> None:
        await others_update(native, id)

    await troubled.load(id)
    writing = troubled.update(id, remove=["before"], if_version=read.version)
    assert "conflict" == await outcome_of(lose_request(proxy, writing, root=id, then=then))
    assert {"before", "theirs"} == set((await direct.load(id)).cache)  # Firestore's own maps have no order


@pytest.mark.parametrize("write", [UPDATE_VERSION, SAVE_VERSION, SAVE], ids=str)
async def test_much_on_top(direct: Store, troubled: Store, proxy: TcpProxy, write: Write) -> None:
    """The outcome of a write under many others is found, if it has a base. That of a blind write may be unknown."""
    read = a_state("id")
    await direct.save("id", read)

    async def is_stored() -> bool:
        return (await direct.load("id")).version != read.version

    async def then() -> None:
        for _ in range(60):
            await others_save(direct, "id")

    await troubled.load("id")
    writing = write.run(troubled, "id", read, 1)
    outcome = await outcome_of(lose_reply(proxy, writing, root="id", is_stored=is_stored, then=then))
    assert ("stored" if write.versioned else "unknown") == outcome
    assert "theirs" == await marks(direct, "id")


@pytest.mark.parametrize(
    ("layout", "write", "others", "expected"),
    [
        *(("serialized", write, others_save, "unknown") for write in (*ON_A_VERSION, SAVE_FIRST)),
        *(("native", write, others_save, "unknown") for write in (*ON_A_VERSION, SAVE_FIRST)),
        *(("serialized", write, others_update, "conflict") for write in ON_A_VERSION),
    ],
    ids=lambda value: str(value) if isinstance(value, Write) else None,  # of the others pytest makes good ones
)
async def test_what_is_older_than_the_history(
    direct: Store,
    relayed: Store,
    relay: Relay,
    layout: str,
    write: Write,
    others: Callable[[Store, str], Awaitable[None]],
    expected: str,
) -> None:
    """If Firestore's history has ended, the outcome is unknown, unless the log that is stored tells of a conflict."""
    id, read = "id", a_state("id")
    if not write.creates:
        await in_layout(direct, layout).save(id, read)
    await relayed.load(id)
    loop = asyncio.get_running_loop()
    lost: list[Call] = []

    def refusal(call: Call) -> Refusal | None:
        if call.method == "Commit" and not lost:
            lost.append(call)
            asyncio.run_coroutine_threadsafe(others(in_layout(direct, layout), id), loop).result()
            return Refusal("INTERNAL")
        if call.method == "GetDocument" and GetDocumentRequest.FromString(call.request).HasField("read_time"):
            return Refusal("FAILED_PRECONDITION", "The requested snapshot version is too old.")
        return None

    relay.refusal = refusal

    assert expected == await outcome_of(write.run(in_layout(relayed, layout), id, read, 1))
    assert "theirs" == await marks(direct, id)
