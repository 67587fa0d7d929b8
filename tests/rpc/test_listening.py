"""Watching over Listen: what goes wrong on the way, and what only a scripted server can be made to say."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import grpc
import pytest

from firestore_flowstate import (
    AccessDeniedError,
    DeadlineError,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateQuery,
    FlowStateSettings,
    StoreUnavailableError,
    SyncFlowStateStore,
)
from firestore_flowstate._rpc import messages
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.watched import Watching
from firestore_flowstate.emulator import Emulator, start_emulator
from firestore_flowstate.testing.conformance.watching import close, soon
from tests.rpc.listen_script import Script, a_target, change, document, tells, when
from tests.rpc.scripted_server import ScriptedServer, when_over
from tests.rpc.tcp_proxy import TcpProxy
from tests.support.ports import Port

PATIENCE = 20.0  # seconds that a busy machine may take for what must come


async def numbers(watching: Watching, deadline: Deadline) -> list[int]:
    """Return the numbers of the documents that a watch tells next."""
    told = await watching.next(deadline=deadline)
    assert told is not None
    return [document.fields["n"].integer_value for document in told[0]]


@pytest.fixture
async def watching(to_server: Connection) -> AsyncIterator[Watching]:
    watching = to_server.watch([a_target()])
    yield watching
    watching.end()


async def test_a_stream_goes_on_from_its_token(server: ScriptedServer, watching: Watching, deadline: Deadline) -> None:
    """After it broke the target is asked for again with the last token, and what is known of it stays."""
    first = Script(tells(1, token=b"one"), then="UNAVAILABLE")

    def goes_on(request: Any) -> Iterable[Any]:
        id = request.add_target.target_id
        return [change("CURRENT", id), document(id, 2), change("NO_CHANGE")]

    seen = threading.Event()
    second = Script(when(seen, goes_on))
    server.listen(first, second)

    assert [1] == await numbers(watching, deadline)
    seen.set()
    assert [2] == await numbers(watching, deadline)
    assert [b"", b"one"] == [script.requests[0].add_target.resume_token for script in (first, second)]


async def test_a_stream_that_ends_well_is_opened_again(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """Firestore ends each after some time."""

    def ends(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        request = messages.ListenRequest.FromString(next(requests))
        return iter([response.SerializeToString() for response in tells(1)(request)])

    seen = threading.Event()
    server.listen(ends, Script(when(seen, tells(2))))

    assert [1] == await numbers(watching, deadline)
    seen.set()
    assert [2] == await numbers(watching, deadline)


async def test_a_stream_that_cannot_be_read_is_opened_again(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """Whoever watches is told of what comes next, and does not wait for ever."""

    def garbles(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        request = messages.ListenRequest.FromString(next(requests))
        yield from (response.SerializeToString() for response in tells(1)(request))
        yield b"\xff\xff\xff"
        list(requests)  # until the client gives it up

    seen = threading.Event()
    server.listen(garbles, Script(when(seen, tells(2))))

    assert [1] == await numbers(watching, deadline)
    seen.set()
    assert [2] == await numbers(watching, deadline)


@pytest.mark.parametrize("code", [3, 9, 11], ids=["INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"])
async def test_an_expired_token_is_given_up(
    server: ScriptedServer, watching: Watching, deadline: Deadline, code: int
) -> None:
    """A target that the server takes out is asked for anew, once without a token."""
    first = Script(tells(1, token=b"old"), then="UNAVAILABLE")
    seen = threading.Event()
    taken_out = when(seen, lambda request: [change("REMOVE", request.add_target.target_id, code=code)])
    second = Script(taken_out, tells(0), tells(2))
    server.listen(first, second)

    assert [1] == await numbers(watching, deadline)
    seen.set()
    assert [2] == await numbers(watching, deadline)
    added = [request.add_target for request in second.requests if request.add_target.target_id]
    assert [b"old", b""] == [target.resume_token for target in added]
    assert len({target.target_id for target in added}) == 2


async def test_a_stream_refused_for_its_tokens_begins_anew(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """It begins without any token, whichever of them the server did not like."""
    seen = threading.Event()
    last = Script(when(seen, tells(2)))
    server.listen(
        Script(tells(1, token=b"old"), then="UNAVAILABLE"), Script(lambda _: [], then="INVALID_ARGUMENT"), last
    )

    assert [1] == await numbers(watching, deadline)
    seen.set()
    assert [2] == await numbers(watching, deadline)
    assert b"" == last.requests[0].add_target.resume_token


async def test_a_reset_target_shows_nothing_until_it_is_current_again(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """The client drops what it knew of the target, and never shows half of it."""

    def resets(request: Any) -> Iterable[Any]:
        id = request.add_target.target_id
        yield from tells(1, names=["a", "b"])(request)
        yield change("RESET", id)
        yield change("NO_CHANGE")
        yield document(id, 2, "b")
        yield change("NO_CHANGE")
        yield change("CURRENT", id)
        yield change("NO_CHANGE")

    server.listen(Script(resets))
    seen = [await numbers(watching, deadline)]
    if seen[-1] != [2]:  # the last may have replaced the first before it was read
        seen.append(await numbers(watching, deadline))

    assert seen in ([[1, 1], [2]], [[2]])


async def test_an_existence_filter_that_differs_begins_anew(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """A document has gone of which nobody told. One that agrees changes nothing."""

    def filters(request: Any) -> Iterable[Any]:
        yield from tells(1, token=b"t", names=["a", "b"])(request)
        for count in (2, 1):
            response = messages.ListenResponse()
            response.filter.target_id = request.add_target.target_id
            response.filter.count = count
            yield response

    script = Script(filters, tells(0), tells(2))
    server.listen(script)
    seen = [await numbers(watching, deadline)]
    if seen[-1] != [2]:
        seen.append(await numbers(watching, deadline))

    assert [2] == seen[-1]
    assert ["add_target", "remove_target", "add_target"] == [r.WhichOneof("target_change") for r in script.requests]
    assert b"" == script.requests[-1].add_target.resume_token


async def test_a_refusal_is_an_error_of_the_watcher(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """Without a token that could be at fault, what no retry makes good ends the watch."""
    server.listen(Script(lambda request: [change("REMOVE", request.add_target.target_id, code=7)]))

    with pytest.raises(AccessDeniedError):
        await watching.next(deadline=deadline)


async def test_a_refused_stream_is_an_error_of_the_watcher(
    server: ScriptedServer, watching: Watching, deadline: Deadline
) -> None:
    """The watcher gets the error that any call would get."""
    server.listen(Script(lambda _: [], then="PERMISSION_DENIED"))

    with pytest.raises(AccessDeniedError):
        await watching.next(deadline=deadline)


@pytest.mark.parametrize("kind", ["stream", "target"])
async def test_failures_are_not_a_busy_loop(server: ScriptedServer, watching: Watching, kind: str) -> None:
    """While the server fails at once it is asked a few times a second, and the first answer has its deadline."""
    asked: list[Any] = []

    def fails(request: Any) -> Iterable[Any]:
        asked.append(request)
        return [change("REMOVE", request.add_target.target_id, code=14)] if request.add_target.target_id else []

    def serves(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        script = Script(fails, then="UNAVAILABLE") if kind == "stream" else Script(*[fails] * 1000)
        yield from script(requests, context)

    server.listen(serves)
    with pytest.raises(DeadlineError):
        await watching.next(deadline=Deadline.after(1.0))
    in_a_second = len(asked)
    by = time.monotonic() + PATIENCE
    while len(asked) < 2 and time.monotonic() < by:  # noqa: ASYNC110  # a busy machine may take longer for the second
        await asyncio.sleep(0.01)

    assert 2 <= len(asked)
    assert in_a_second <= 12


async def test_a_hundred_targets_share_a_stream(
    server: ScriptedServer, to_server: Connection, deadline: Deadline
) -> None:
    """The next target opens another stream. The last target that is taken off ends its stream."""
    ended: list[None] = []
    all_ended = threading.Event()

    def serves(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        when_over(context, lambda: ended.append(None) or (all_ended.set() if len(ended) == 2 else None))
        yield from Script(*[tells(1)] * 200)(requests, context)

    server.listen(serves)
    many = [to_server.watch([a_target()]) for _ in range(101)]
    for watching in many:
        await watching.next(deadline=deadline)
    opened = server.opened
    for watching in many:
        watching.end()
    await asyncio.to_thread(all_ended.wait, PATIENCE)

    assert [2, 2, 2] == [opened, server.opened, len(ended)]


async def test_targets_carry_no_projection(server: ScriptedServer, to_server: Connection) -> None:
    """Production refuses to listen to one, which the emulator does not."""
    script: Script = Script(*[lambda _: []] * 9)
    server.listen(script)
    settings = FlowStateSettings(emulator_host=server.host, project="demo-scripted")

    def queries() -> list[Any]:
        return [request.add_target.query for request in script.requests if request.add_target.HasField("query")]

    async with FirestoreFlowStateStore(settings) as store:
        watches = (store.watch("a"), store.watch_list(FlowStateQuery(status="done", where={"owner": "me"})))
        watching = [asyncio.ensure_future(soon(watch)) for watch in watches]
        while len(queries()) < 2 and not any(each.done() for each in watching):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for each in watching:
            each.cancel()
        await asyncio.wait(watching)

    assert [False, False] == [query.structured_query.HasField("select") for query in queries()]


@pytest.fixture
async def store(proxy: TcpProxy) -> Any:
    settings = FlowStateSettings(emulator_host=proxy.host)
    store = FirestoreFlowStateStore(settings)
    yield store
    await store.close()


@pytest.mark.parametrize("bound", [True, False])
async def test_a_cut_connection_loses_no_last_state(proxy: TcpProxy, emulator: Emulator, bound: bool) -> None:
    """What was written meanwhile is there when it is back, on the loop's own channel as on the background's."""
    settings = FlowStateSettings(emulator_host=proxy.host)
    other = FirestoreFlowStateStore(settings.model_copy(update={"emulator_host": emulator.host}))
    store = FirestoreFlowStateStore(settings)
    if bound:
        await store.__aenter__()
    await other.save("cut", FlowState.start(flow_id="cut"))
    watch = store.watch("cut")
    await soon(watch)
    seen, written = [], []
    for number in range(3):
        proxy.refuse()
        written.append(await other.update("cut", extra={"number": number}))
        proxy.listen()
        state = await soon(watch)
        assert state is not None
        seen.append(state.version)
    await close(watch)
    await other.close()
    await store.close()

    assert written == seen


async def test_a_killed_emulator_comes_back_empty() -> None:
    """The flows are gone then, and watches see what is written afterwards."""
    port = Port()
    emulator = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
    try:
        async with FirestoreFlowStateStore(FlowStateSettings(emulator_host=emulator.host)) as store:
            await store.save("id", FlowState.start())
            watch = store.watch("id")
            states = [await soon(watch)]
            await asyncio.to_thread(emulator.kill)
            emulator = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
            states.append(await soon(watch))
            await store.save("id", FlowState.start())
            states.append(await soon(watch))
            await close(watch)
    finally:
        await asyncio.to_thread(emulator.stop)
        port.close()

    assert [True, False, True] == [state is not None for state in states]


async def test_closing_the_store_ends_its_watches(emulator: Emulator) -> None:
    """They end with an error that says so. A watch that just ended would look like one that is done."""
    for enter in (True, False):
        store = FirestoreFlowStateStore(FlowStateSettings(emulator_host=emulator.host))
        if enter:
            await store.__aenter__()
        watch = store.watch("closed")
        await soon(watch)
        coming = asyncio.ensure_future(soon(watch))
        await asyncio.sleep(0)
        await (store.__aexit__() if enter else store.close())
        with pytest.raises(StoreUnavailableError, match="closed while it was watched"):
            await coming


async def test_closing_the_store_ends_the_watches_of_other_loops(emulator: Emulator) -> None:
    """So it does on a loop that has entered the store, whose watches would connect again behind the close."""
    store = FirestoreFlowStateStore(FlowStateSettings(emulator_host=emulator.host))
    begun = threading.Event()

    async def follow() -> None:
        await store.__aenter__()
        watch = store.watch("closed")
        await soon(watch)
        coming = asyncio.ensure_future(soon(watch))
        await asyncio.sleep(0)
        begun.set()
        with pytest.raises(StoreUnavailableError, match="closed while it was watched"):
            await coming

    following = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(follow())))
    await asyncio.to_thread(begun.wait, PATIENCE)
    await store.close()
    await following

    assert not (store._connection is not None and store._connection.is_linked)


def test_loops_that_end_leave_nothing(emulator: Emulator, background_threads: Callable[[], list[Any]]) -> None:
    """A watch of a loop that is over is taken off, and the next loop's works."""
    store = FirestoreFlowStateStore(FlowStateSettings(emulator_host=emulator.host))

    async def begin() -> bool:
        return await soon(store.watch("loops")) is None

    seen = [asyncio.run(begin()) for _ in range(3)]
    asyncio.run(store.close())

    assert [True] * 3 == seen


def test_the_blocking_facade_watches(emulator: Emulator) -> None:
    """It watches as it iterates, from a thread of its own."""
    with SyncFlowStateStore(FirestoreFlowStateStore(FlowStateSettings(emulator_host=emulator.host))) as store:
        watch = store.watch("blocking")
        assert next(watch) is None
        state = FlowState.start(flow_id="blocking")
        store.save("blocking", state)
        seen = next(watch)
        watch.close()  # type: ignore[attr-defined]  # a generator

    assert seen is not None
    assert state.version == seen.version


FORKS = """
import asyncio, os, sys
from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings

store = FirestoreFlowStateStore(FlowStateSettings())

async def follow(id):
    watch = store.watch(id)
    assert await asyncio.wait_for(anext(watch), 20) is None
    return watch

async def see(watch, id):
    state = FlowState.start(flow_id=id)
    await store.save(id, state)
    seen = await asyncio.wait_for(anext(watch), 20)
    assert seen.version == state.version
    await watch.aclose()

async def in_parent():
    watch = await follow("parent")
    pid = os.fork()
    if pid == 0:
        asyncio._set_running_loop(None)
        try:
            asyncio.run(in_child())
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(0)
    await see(watch, "parent")
    await asyncio.to_thread(os.waitpid, pid, 0)
    print("parent saw", flush=True)
    await store.close()

async def in_child():
    watch = await follow("child")
    await see(watch, "child")
    print("child saw", flush=True)
    await store.close()

asyncio.run(in_parent())
"""


def test_watches_on_both_sides_of_a_fork(emulator: Emulator) -> None:
    """The parent's watch goes on over a new channel, and the child has a watch of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", FORKS],
        env={**os.environ, **emulator.environment},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert ["child saw", "parent saw"] == sorted(ran.stdout.split("\n")[:2]), ran.stderr
