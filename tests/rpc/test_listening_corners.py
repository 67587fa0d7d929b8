"""Corners of Listen: tokens, resets, old targets, servers that fail again and again, and watchers who are gone."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from firestore_flowstate import DeadlineError, FirestoreFlowStateStore, FlowStateSettings, MissingIndexError
from firestore_flowstate._rpc import deadline as deadlines
from firestore_flowstate._rpc import messages
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.outcome import CallFailed
from firestore_flowstate._rpc.watched import Watching
from firestore_flowstate.testing.conformance.watching import soon
from tests.rpc.listen_script import Script, a_target, change, document, tells
from tests.rpc.scripted_server import ScriptedServer, when_over
from tests.rpc.tcp_proxy import TcpProxy

PATIENCE = 20.0  # seconds that a busy machine may take for what must come
SNAPSHOTS = 200  # changes of both targets, each a chance to be seen half


async def numbers(watching: Watching, deadline: Deadline) -> list[int]:
    """Return the numbers of the documents that a watch tells next, of its first target."""
    told = await watching.next(deadline=deadline)
    assert told is not None
    return [document.fields["n"].integer_value for document in told[0]]


def tokens(script: Script) -> list[bytes]:
    """Return the tokens that targets were asked for with."""
    return [request.add_target.resume_token for request in script.requests if request.add_target.target_id]


async def test_a_token_of_all_is_not_of_a_target_that_is_being_sent(
    server: ScriptedServer, to_server: Connection, deadline: Deadline
) -> None:
    """Going on from it would leave out what had not been sent by then: that target begins anew."""

    def sends_half(request: Any) -> Iterable[Any]:
        return [document(request.add_target.target_id, 1), change("NO_CHANGE", token=b"all")]

    first = Script(tells(1, token=b"one"), sends_half, then="UNAVAILABLE")
    second = Script(tells(2), tells(2))
    server.listen(first, second)
    whole, half = to_server.watch([a_target()]), to_server.watch([a_target()])

    assert [1] == await numbers(whole, deadline)
    assert [2] == await numbers(half, deadline)
    assert {b"all", b""} == set(tokens(second))
    for watching in (whole, half):
        watching.end()


async def test_a_reset_takes_the_token_along(server: ScriptedServer, to_server: Connection, deadline: Deadline) -> None:
    """Going on from an old one would leave out what was known before the reset."""

    def resets(request: Any) -> Iterable[Any]:
        yield from tells(1, token=b"old")(request)
        yield change("RESET", request.add_target.target_id)

    second = Script(tells(2))
    server.listen(Script(resets, then="UNAVAILABLE"), second)
    watching = to_server.watch([a_target()])
    seen = await numbers(watching, deadline)
    while seen != [2]:
        assert [1] == seen
        seen = await numbers(watching, deadline)
    watching.end()

    assert [b""] == tokens(second)


async def test_what_is_said_of_an_old_target_is_of_none(
    server: ScriptedServer, to_server: Connection, deadline: Deadline
) -> None:
    """Such a message was on its way when the target was asked for anew."""
    old: list[int] = []

    def removes(request: Any) -> Iterable[Any]:
        old.append(request.add_target.target_id)
        yield from tells(1, token=b"t")(request)
        yield change("REMOVE", old[0], code=9)

    def speaks_of_the_old_one(request: Any) -> Iterable[Any]:
        yield change("CURRENT", old[0])
        yield change("NO_CHANGE")
        yield document(request.add_target.target_id, 1)
        yield change("RESET", old[0])
        yield document(request.add_target.target_id, 2, "b")
        yield change("CURRENT", request.add_target.target_id)
        yield change("NO_CHANGE")

    def says(request: Any) -> Iterable[Any]:
        if not request.add_target.target_id:
            return ()
        return (speaks_of_the_old_one if old else removes)(request)

    server.listen(Script(says, says, says))
    watching = to_server.watch([a_target()])
    seen = await numbers(watching, deadline)
    while len(seen) < 2:
        assert [1] == seen
        seen = await numbers(watching, deadline)
    watching.end()

    assert [1, 2] == seen


@pytest.mark.parametrize("then", ["the stream ends", "the target is removed", "the filter differs"])
async def test_a_server_that_answers_and_fails_is_not_a_busy_loop(
    server: ScriptedServer, to_server: Connection, deadline: Deadline, then: str
) -> None:
    """An answer in between does not make failures harmless: each asks for everything again, which is billed."""
    asked: list[int] = []

    def fails(request: Any) -> Iterable[Any]:
        id = request.add_target.target_id
        if not id:
            return
        asked.append(id)
        yield from tells(len(asked), token=b"t")(request)
        if then == "the target is removed":
            yield change("REMOVE", id, code=9)
        if then == "the filter differs":
            response = messages.ListenResponse()
            response.filter.target_id = id
            response.filter.count = 7
            yield response

    def serves(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        script = Script(fails, then="UNAVAILABLE") if then == "the stream ends" else Script(*[fails] * 1_000)
        yield from script(requests, context)

    server.listen(serves)
    watching = to_server.watch([a_target()])
    end = Deadline.after(1.5)
    while end.remaining() > 0:
        await watching.next(seconds=end.remaining(), deadline=None)
    by_then = len(asked)
    end = Deadline.after(20)
    while len(asked) < 3 and end.remaining() > 0:  # a busy machine may take longer for the third
        await watching.next(seconds=0.1, deadline=None)
    watching.end()

    assert 3 <= len(asked)
    assert by_then <= 9


@pytest.mark.parametrize("bound", [True, False])
async def test_targets_of_one_watcher_change_together(
    server: ScriptedServer, to_server: Connection, deadline: Deadline, bound: bool
) -> None:
    """Half of a moment is never seen, on whatever thread the stream is."""
    ids: list[int] = []

    def says(request: Any) -> Iterable[Any]:
        if not request.add_target.target_id:
            return
        ids.append(request.add_target.target_id)
        if len(ids) == 2:
            yield from (change("CURRENT", id) for id in ids)
            for number in range(SNAPSHOTS):
                yield from (document(id, number) for id in ids)
                yield change("NO_CHANGE")

    server.listen(Script(*[says] * 9))
    async with AsyncExitStack() as stack:
        if bound:
            await to_server.bind()
            stack.push_async_callback(to_server.unbind)
        watching = to_server.watch([a_target(), a_target()])
        stack.callback(watching.end)
        seen: set[tuple[int, ...]] = set()
        while (SNAPSHOTS - 1,) * 2 not in seen:
            told = await watching.next(deadline=deadline)
            assert told is not None
            seen.add(tuple(documents[0].fields["n"].integer_value for documents in told))

    assert set() == {pair for pair in seen if pair[0] != pair[1]}


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("how", ["left", "dropped", "cancelled"])
async def test_who_is_gone_ends_the_stream(server: ScriptedServer, bound: bool, how: str) -> None:
    """Leaving the loop, dropping the iterator and cancelling the task that iterates each end it at once."""
    ended = threading.Event()

    def serves(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        when_over(context, ended.set)
        yield from Script(*[tells_nothing] * 9)(requests, context)

    server.listen(serves)
    settings = FlowStateSettings(emulator_host=server.host, project="demo-scripted")
    store = FirestoreFlowStateStore(settings)
    if bound:
        await store.__aenter__()
    if how == "left":
        async for _ in store.watch("id"):
            break
    elif how == "dropped":
        watch = store.watch("id")
        await soon(watch)
        del watch
    else:
        task = asyncio.ensure_future(_follow(store))
        await asyncio.to_thread(server.wait_for_streams, 1, PATIENCE)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task
    gc.collect()

    assert await asyncio.to_thread(ended.wait, PATIENCE)
    assert server.opened == 1
    await store.close()


def test_a_watch_of_a_loop_that_was_closed_ends_its_stream(server: ScriptedServer) -> None:
    """Nobody can run what the iterator would do at its end."""
    ended = threading.Event()

    def serves(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterable[bytes]:
        when_over(context, ended.set)
        yield from Script(*[tells_nothing] * 9)(requests, context)

    server.listen(serves)
    store = FirestoreFlowStateStore(FlowStateSettings(emulator_host=server.host, project="demo-scripted"))
    loop = asyncio.new_event_loop()
    watch = store.watch("id")
    loop.run_until_complete(soon(watch))
    loop.close()
    del watch
    gc.collect()

    assert ended.wait(PATIENCE)
    asyncio.run(store.close())


async def _follow(store: FirestoreFlowStateStore) -> None:
    async for _ in store.watch("id"):
        pass


def tells_nothing(request: Any) -> Iterable[Any]:
    """Answer that there is no document."""
    id = request.add_target.target_id
    return [change("CURRENT", id), change("NO_CHANGE")] if id else []


async def test_streams_that_have_ended_leave_no_task(
    server: ScriptedServer, to_server: Connection, deadline: Deadline
) -> None:
    """However often one broke, grpc's task that waits for the next request ends with its stream, and is not lost."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    await to_server.bind()
    watching = to_server.watch([a_target()])
    scripts = [Script(tells(number), then="UNAVAILABLE") for number in range(4)]
    server.listen(*scripts, Script(tells(4)))
    while await numbers(watching, deadline) != [4]:
        pass
    gc.collect()
    await asyncio.sleep(0.1)  # what has ended comes to its end
    left = [task for task in asyncio.all_tasks() if "_consume_request_iterator" in repr(task)]
    watching.end()
    await to_server.unbind()

    assert 1 == len(left)
    assert [] == told


WATCHES: dict[str, Callable[[FirestoreFlowStateStore], Any]] = {
    "watch": lambda store: store.watch("id"),
    "watch_list": lambda store: store.watch_list(),
}


@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("watch", WATCHES.values(), ids=WATCHES)
async def test_if_nothing_listens(proxy: TcpProxy, watch: Callable[..., Any], bound: bool) -> None:
    """The error comes within the usual deadline, in the usual words. The cause of its cause is what grpc said."""
    proxy.refuse()
    store = FirestoreFlowStateStore(FlowStateSettings(emulator_host=proxy.host, project="demo-none", timeout=3.0))
    if bound:
        await store.__aenter__()
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineError, match=r"Listen on projects/demo-none/.* within 3 s: .* UNAVAILABLE: ") as error:
        await soon(watch(store))
    took = asyncio.get_running_loop().time() - began
    await store.close()

    assert isinstance(error.value.__cause__, CallFailed)
    assert isinstance(error.value.__cause__.__cause__, grpc.aio.AioRpcError)
    assert 2.9 < took < 8  # on a busy machine


@pytest.mark.parametrize("watch", WATCHES.values(), ids=WATCHES)
async def test_a_first_step_that_was_given_up_takes_no_time_from_the_next(
    server: ScriptedServer, watch: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the caller does something else in between, the next step has the whole timeout."""
    may_answer, was_asked = threading.Event(), threading.Event()

    def answers(request: Any) -> Iterable[Any]:
        was_asked.set()
        may_answer.wait(PATIENCE)
        return tells(1, names=())(request)

    server.listen(Script(answers))
    settings = FlowStateSettings(emulator_host=server.host, project="demo-scripted", timeout=60.0)
    async with FirestoreFlowStateStore(settings) as store:
        changes = watch(store)
        first = asyncio.ensure_future(anext(changes))
        assert await asyncio.to_thread(was_asked.wait, PATIENCE)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        monkeypatch.setattr(deadlines, "monotonic", lambda: time.monotonic() + 100)
        second = asyncio.ensure_future(soon(changes))
        await asyncio.sleep(0.1)
        may_answer.set()

        assert not await second


async def test_if_nobody_says_anything(server: ScriptedServer) -> None:
    """The error says that too."""
    server.listen(Script(*[lambda _: []] * 9))
    settings = FlowStateSettings(emulator_host=server.host, project="demo-scripted", timeout=0.5)
    async with FirestoreFlowStateStore(settings) as store:
        with pytest.raises(DeadlineError, match=r"within 0\.5 s: the server said nothing\. Retry"):
            await soon(store.watch("id"))


async def test_a_missing_index_is_named(server: ScriptedServer) -> None:
    """The error names it as that of a list does: the server takes the target out, and says why."""

    def refuses(request: Any) -> Iterable[Any]:
        response = change("REMOVE", request.add_target.target_id, code=9)
        response.target_change.cause.message = "The query requires an index. You can create it here: https://x"
        return [response]

    server.listen(Script(refuses))
    settings = FlowStateSettings(emulator_host=server.host, project="demo-scripted")
    async with FirestoreFlowStateStore(settings) as store:
        with pytest.raises(MissingIndexError, match="firebase deploy"):
            await soon(store.watch_list())
