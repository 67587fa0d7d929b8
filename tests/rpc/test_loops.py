"""One connection from any loop and thread, and out of any of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import os
import socket
import subprocess
import textwrap
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate.emulator import Emulator
from firestore_flowstate.errors import DeadlineError, FlowStateError
from firestore_flowstate.settings import FlowStateSettings
from tests.rpc.scripted_server import ScriptedServer, hanging, reply
from tests.rpc.strict_python import STRICT_PYTHON

Threads = Callable[[], list[threading.Thread]]


async def get(connection: Connection) -> Any:
    deadline = Deadline.after(20)
    return await connection.get(f"{await connection.documents(deadline)}/c/missing", deadline=deadline)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the code in a fresh interpreter in which every warning is an error."""
    return subprocess.run(
        [*STRICT_PYTHON, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_importing_and_constructing_does_nothing() -> None:
    """Neither the import of the store nor its constructor imports grpc or google, starts a thread, or calls."""
    outcome = run_python(
        """
        import sys, threading
        from firestore_flowstate import FirestoreFlowStateStore
        FirestoreFlowStateStore()
        print(sorted(sys.modules.keys() & {"grpc", "google.auth", "google.protobuf", "proto"}))
        print(threading.active_count())
        """
    )

    assert ("[]\n1\n", "") == (outcome.stdout, outcome.stderr)


def test_repeated_runs(settings: FlowStateSettings, background_threads: Threads) -> None:
    """One connection serves asyncio.run after asyncio.run, over one thread."""
    connection = Connection(settings)
    for _ in range(5):
        assert asyncio.run(get(connection)) is None

    assert 1 == len(background_threads())
    asyncio.run(connection.close())
    assert [] == background_threads()


def test_many_threads(settings: FlowStateSettings, background_threads: Threads) -> None:
    """16 threads with a loop each share one connection, and the one background thread that they start at once."""
    connection = Connection(settings)
    results: list[Any] = []
    barrier = threading.Barrier(16)

    async def several() -> None:
        results.extend(await asyncio.gather(*(get(connection) for _ in range(8))))

    def work() -> None:
        barrier.wait()
        asyncio.run(several())

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [None] * 16 * 8 == results
    assert 1 == len(background_threads())
    asyncio.run(connection.close())


async def test_a_bound_loop_calls_directly(settings: FlowStateSettings, background_threads: Threads) -> None:
    """After bind, calls of this loop use no background thread. After the last unbind they do."""
    connection = Connection(settings)
    await connection.bind()
    await connection.bind()
    await get(connection)
    await connection.unbind()
    await get(connection)
    assert [] == background_threads()

    await connection.unbind()
    await get(connection)
    assert 1 == len(background_threads())
    await connection.close()


async def test_a_binding_is_for_its_loop_alone(settings: FlowStateSettings, background_threads: Threads) -> None:
    """While one loop is bound, another loop calls over the background thread."""
    connection = Connection(settings)
    await connection.bind()
    assert await asyncio.to_thread(lambda: asyncio.run(get(connection))) is None

    assert 1 == len(background_threads())
    await connection.close()


def sockets() -> set[str]:
    """Return the sockets of this process, each by the number that the kernel gives it once."""
    links = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            links.add(str(path.readlink()))
    return {link for link in links if link.startswith("socket:")}


@pytest.mark.parametrize("bound", [False, True])
async def test_close_closes_connections(settings: FlowStateSettings, bound: bool) -> None:
    """After close nothing is connected any more, even if the close of Google's client leaves its channel open."""
    connection = Connection(settings)
    await get(connection)
    await connection.close()
    before = sockets()
    if bound:
        await connection.bind()
    await get(connection)
    opened = sockets() - before
    assert opened

    await connection.close()
    patience = time.monotonic() + 10
    while opened & sockets():  # grpc closes them on a thread of its own
        assert time.monotonic() < patience
        await asyncio.sleep(0.01)


def test_loops_that_ended_while_bound(settings: FlowStateSettings) -> None:
    """Channels of loops that were closed without an unbind are closed, and do not pile up."""
    connection = Connection(settings)

    async def bind_and_get() -> None:
        await connection.bind()
        await get(connection)

    opened = []
    for _ in range(12):
        asyncio.run(bind_and_get())
        opened.append(len(list(Path("/proc/self/fd").iterdir())))
    asyncio.run(connection.close())

    assert opened[-1] - opened[1] < 5


@pytest.mark.parametrize("call", [get, Connection.bind, Connection.unbind, Connection.close])
def test_outside_of_asyncio(settings: FlowStateSettings, call: Any) -> None:
    """If no loop of asyncio runs, as under trio, the error says so."""
    with pytest.raises(FlowStateError, match="awaited on an event loop of asyncio, and none is running here"):
        call(Connection(settings)).send(None)


async def test_a_loop_leaves_alone(settings: FlowStateSettings, background_threads: Threads) -> None:
    """A loop that unbinds closes its own channel. One that is still bound goes on calling over its own."""
    connection = Connection(settings)
    bound, go_on = threading.Event(), threading.Event()

    async def other() -> list[threading.Thread]:
        await connection.bind()
        bound.set()
        await asyncio.to_thread(go_on.wait)
        await get(connection)
        threads = background_threads()
        await connection.unbind()
        return threads

    threads = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(other())))
    await asyncio.to_thread(bound.wait)
    await connection.bind()
    await get(connection)
    await connection.unbind()
    go_on.set()

    assert [] == await threads
    assert not connection._links[os.getpid()].is_open


async def test_a_binding_that_failed_is_not_counted(
    settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch, background_threads: Threads
) -> None:
    """Whatever the error was, the next binding is the first one, and its end closes everything."""

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    connection = Connection(settings)
    await get(connection)
    with monkeypatch.context() as patched:
        patched.setattr("firestore_flowstate._rpc.link.open_channel", fail)  # as when a process has no thread left
        with pytest.raises(RuntimeError, match="new thread"):
            await connection.bind()
    await connection.bind()
    await get(connection)
    await connection.unbind()

    assert not connection._links[os.getpid()].is_open
    assert [] == background_threads()


async def test_loops_that_close_each_other(settings: FlowStateSettings) -> None:
    """Loops that bind, call and close at their own times neither wait for each other nor break each other's calls."""
    connection = Connection(settings)

    async def use() -> None:
        await connection.bind()
        await get(connection)
        await get(connection)
        await connection.close()

    def use_often() -> None:
        for _ in range(10):
            asyncio.run(use())

    started = time.monotonic()
    await asyncio.gather(*(asyncio.to_thread(use_often) for _ in range(4)))

    assert time.monotonic() - started < 30


def test_a_loop_may_end_while_its_channel_is_closed(
    settings: FlowStateSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It leaves no task behind, of which asyncio would tell, and whoever closes the connection waits for nothing."""
    connection = Connection(settings)
    loop = asyncio.new_event_loop()

    async def bind() -> None:
        await connection.bind()
        await get(connection)

    loop.run_until_complete(bind())
    channel = connection._links[os.getpid()]._bound[loop]
    call_soon = loop.call_soon_threadsafe

    def call_in_the_last_pass(callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.Handle:
        handle = call_soon(callback, *args, **options)
        call_soon(loop.stop)
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", call_in_the_last_pass)
    closing = threading.Thread(target=lambda: asyncio.run(connection.close()))
    loop.call_soon(closing.start)
    loop.run_forever()
    loop.close()
    closing.join(20)
    gc.collect()

    assert not closing.is_alive()
    assert channel.is_closed
    assert [] == caplog.messages


@pytest.mark.parametrize("way", ["over the background loop", "over a loop of its own", "not cancelled"])
async def test_the_ends_of_calls_that_were_broken_off_are_not_printed(
    connection: Connection, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Grpc has them after the calls are over, and lets any loop read them: here that of another connection."""
    await connection.bind()

    async def go_on_reading() -> None:
        while True:
            await get(connection)

    async def break_off(age: float) -> None:
        closed = Connection(FlowStateSettings(emulator_host=host, project="demo-silent"))
        if way != "over the background loop":
            await closed.bind()
        call = asyncio.ensure_future(get(closed))
        await asyncio.sleep(age)
        if way != "not cancelled":
            call.cancel()
        await closed.close()
        call.cancel()
        await asyncio.wait([call])

    reading = asyncio.ensure_future(go_on_reading())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        for age in range(10 if way == "not cancelled" else 100):  # the first takes 0.5 s, in which the call may end
            await asyncio.to_thread(asyncio.run, break_off(age * 0.0002))
    reading.cancel()

    assert [] == caplog.messages


async def test_close_and_use_again(settings: FlowStateSettings, background_threads: Threads) -> None:
    """Closing ends the thread and every channel. The next call connects again, and close may come twice."""
    connection = Connection(settings)
    await connection.close()
    for _ in range(2):
        await get(connection)
        await connection.close()
        await connection.close()
        assert [] == background_threads()


def test_dropped_without_close(settings: FlowStateSettings, background_threads: Threads) -> None:
    """A connection that is dropped takes its thread with it. Those made for one call each do not pile up."""
    for _ in range(5):
        asyncio.run(get(Connection(settings)))

    patience = time.monotonic() + 10
    while background_threads():  # the last call's own thread may still hold it for a moment
        assert time.monotonic() < patience
        gc.collect()


async def test_close_ends_channels_of_other_loops(settings: FlowStateSettings) -> None:
    """A channel bound to a loop of another thread is closed there, and its next call opens another."""
    connection = Connection(settings)
    bound, go_on = threading.Event(), threading.Event()

    async def other() -> Any:
        await connection.bind()
        await get(connection)
        bound.set()
        await asyncio.to_thread(go_on.wait)
        return await get(connection)

    result = asyncio.ensure_future(asyncio.to_thread(lambda: asyncio.run(other())))
    await asyncio.to_thread(bound.wait)
    await connection.close()
    go_on.set()

    assert await result is None
    await connection.close()


async def test_close_during_calls(server: ScriptedServer, to_server: Connection) -> None:
    """Calls in flight during close end by themselves within a moment, or fail like broken ones. None hangs."""
    documents = await to_server.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    ready = threading.Event()

    def slow(request: bytes, context: Any) -> Any:
        ready.set()
        while context.is_active():
            time.sleep(0.01)
        return reply(messages.Document())(request, context)

    server.answer(slow)
    call = asyncio.ensure_future(to_server.get(f"{documents}/c/a", deadline=Deadline.after(4)))
    assert await asyncio.to_thread(ready.wait, 20)
    await to_server.close()

    with pytest.raises(DeadlineError, match=r"\d attempts? ended in"):
        await call


@pytest.mark.parametrize("count", [1, 3])
async def test_calls_that_outlive_a_close_leave_nothing(
    server: ScriptedServer, to_server: Connection, count: int, background_threads: Threads
) -> None:
    """Calls in flight during close are tried again, over a thread that ends with the last of them."""
    documents = await to_server.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    ready, go_on = threading.Semaphore(0), threading.Event()

    def broken_off(request: bytes, context: Any) -> Any:
        ready.release()
        while context.is_active():
            time.sleep(0.01)
        return reply(messages.Document())(request, context)

    def held(request: bytes, context: Any) -> Any:
        ready.release()
        go_on.wait(20)
        return reply(messages.Document(name="x"))(request, context)

    server.answer(*[broken_off] * count, *[held] * count)
    calls = [
        asyncio.ensure_future(to_server.get(f"{documents}/c/a", deadline=Deadline.after(20))) for _ in range(count)
    ]
    for _ in calls:
        assert await asyncio.to_thread(ready.acquire, timeout=20)
    await to_server.close()
    for _ in calls:
        assert await asyncio.to_thread(ready.acquire, timeout=20)
    assert 1 == len(background_threads())
    go_on.set()

    assert ["x"] * count == [document.name for document in await asyncio.gather(*calls)]
    assert [] == background_threads()


@pytest.mark.parametrize("bound", [False, True])
async def test_cancellation_reaches_the_call(server: ScriptedServer, to_server: Connection, bound: bool) -> None:
    """Cancelling the caller's task cancels the call at the server, and the connection goes on working."""
    documents = await to_server.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    if bound:
        await to_server.bind()
    ready, cancelled = threading.Event(), threading.Event()
    server.answer(hanging(ready, cancelled), reply(messages.Document(name="x")))
    call = asyncio.ensure_future(to_server.get(f"{documents}/c/a", deadline=Deadline.after(20)))
    assert await asyncio.to_thread(ready.wait, 20)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(cancelled.wait, 5)
    assert "x" == (await to_server.get(f"{documents}/c/a", deadline=Deadline.after(20))).name


async def test_cancelled_while_it_leaves(
    server: ScriptedServer, to_server: Connection, background_threads: Threads
) -> None:
    """A loop that is cancelled while its channel waits for a call to end takes the background thread along."""
    documents = await to_server.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    arrived = threading.Event()
    server.answer(reply(messages.Document()), hanging(arrived))
    await to_server.get(f"{documents}/c/a", deadline=Deadline.after(20))
    assert 1 == len(background_threads())
    await to_server.bind()
    link = to_server._links[os.getpid()]
    call = asyncio.ensure_future(link.call("GetDocument", b"", metadata=(), timeout=20))
    assert await asyncio.to_thread(arrived.wait, 20)
    leaving = asyncio.ensure_future(to_server.unbind())
    await asyncio.sleep(0.1)  # in which it begins to wait for the call
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving

    assert [] == background_threads()
    assert not link.is_open
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_a_cancelled_call_is_not_retried(server: ScriptedServer, to_server: Connection) -> None:
    """asyncio.wait_for around a call ends it, however often it would have been tried again."""
    documents = await to_server.documents(Deadline.after(20))
    arrived = threading.Event()
    server.answer(hanging(arrived))
    call = asyncio.ensure_future(to_server.get(f"{documents}/c/a", deadline=Deadline.after(20)))
    assert await asyncio.to_thread(arrived.wait, 20)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(call, 0.2)

    assert 1 == len(server.calls)


async def test_context_crosses_to_the_background() -> None:
    """What the background loop runs sees the caller's context variables."""
    from firestore_flowstate._rpc.loop_thread import LoopThread

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    thread = LoopThread("test")

    async def look() -> str:
        return variable.get()

    variable.set("crossed")
    assert "crossed" == await thread.run(look())
    thread.stop()


async def test_errors_keep_their_traceback() -> None:
    """An error raised on the background loop shows the line that raised it, and the line that awaited it."""
    from firestore_flowstate._rpc.loop_thread import LoopThread

    thread = LoopThread("test")

    async def fail_there() -> None:
        raise LookupError("there")

    with pytest.raises(LookupError) as error:
        await thread.run(fail_there())
    names = [frame.name for frame in traceback.extract_tb(error.value.__traceback__)]
    assert ["test_errors_keep_their_traceback", "run", "fail_there"] == [names[0], names[1], names[-1]]
    thread.stop()


def test_wait_blocks_and_hands_over_errors() -> None:
    """The blocking way returns results, raises errors, and refuses to deadlock or to run after stop."""
    from firestore_flowstate._rpc.loop_thread import LoopStoppedError, LoopThread

    thread = LoopThread("test")

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    async def wait_for_itself() -> int:
        return thread.wait(double(1))

    assert 42 == thread.wait(double(21))
    with pytest.raises(RuntimeError, match="cannot wait for its own"):
        thread.wait(wait_for_itself())
    thread.stop()
    thread.stop()
    with pytest.raises(LoopStoppedError):
        thread.wait(double(1))


async def test_stop_ends_what_runs() -> None:
    """Who waits for a coroutine on a loop that is stopped is told, and does not wait for ever."""
    from firestore_flowstate._rpc.loop_thread import LoopStoppedError, LoopThread

    thread = LoopThread("test")
    started = threading.Event()

    async def linger() -> None:
        started.set()
        await asyncio.sleep(3600)

    waiting = asyncio.ensure_future(thread.run(linger()))
    await asyncio.to_thread(started.wait)
    await asyncio.to_thread(thread.stop)

    with pytest.raises(LoopStoppedError) as stopped:
        await waiting
    assert stopped.value.started
    with pytest.raises(LoopStoppedError) as refused:
        await thread.run(linger())
    assert not refused.value.started


@pytest.mark.parametrize(
    "use",
    [
        "asyncio.run(get())",
        "asyncio.run(get()); asyncio.run(get())",
        "asyncio.run(bind_and_get())",
        "asyncio.run(get()); asyncio.run(bind_and_get())",
        "asyncio.run(get()); del connection",
        "threading.Thread(target=outlive).start(); begun.wait()",
        "asyncio.run(leave_in_flight())",
        "asyncio.run(get()); sys.exit(0)",
    ],
)
def test_exit_without_close(emulator: Emulator, use: str) -> None:
    """A process that never closes its connection ends by itself at once, and says nothing."""
    outcome = run_python(
        f"""
        import asyncio, atexit, sys, threading, time
        from firestore_flowstate.settings import FlowStateSettings
        from firestore_flowstate._rpc.connection import Connection
        from firestore_flowstate._rpc.deadline import Deadline

        connection = Connection(FlowStateSettings(emulator_host=sys.argv[1]))
        atexit.register(lambda: print(time.time()))

        async def get():
            deadline = Deadline.after(20)
            await connection.get(await connection.documents(deadline) + "/c/a", deadline=deadline)

        async def bind_and_get():
            await connection.bind()
            await get()

        begun = threading.Event()

        def outlive():
            asyncio.run(get())
            begun.set()
            threading.main_thread().join()
            asyncio.run(get())

        async def leave_in_flight():
            await get()
            tasks = [asyncio.ensure_future(get()) for _ in range(5)]
            await asyncio.sleep(0)

        {use}
        """,
        emulator.host,
    )

    assert (0, "") == (outcome.returncode, outcome.stderr)
    assert time.time() - float(outcome.stdout) < 10
