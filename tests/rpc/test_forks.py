"""Processes that fork, with real processes: a store works on both sides, or says why it cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import OLD_PYTHONS
from tests.support.ports import Port

PREAMBLE = """
import asyncio, multiprocessing, os, sys, threading, time, traceback
from firestore_flowstate.settings import FlowStateSettings
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline

connection = Connection(FlowStateSettings())

async def get(connection=connection, seconds=20):
    deadline = Deadline.after(seconds)
    await connection.get(await connection.documents(deadline) + "/c/missing", deadline=deadline)
    return "ok"

def run(*arguments):
    return asyncio.run(get(*arguments))

def child(function, *, fork=os.fork):
    "Call the function in a forked child, and return what it said, or how it ended."
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            said = function()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return said if status == 0 else f"status {status}"

def twice():
    return run() + run()
"""


WARNINGS = (
    "-Werror",
    # Python warns of any fork beside threads. That the children work is what these tests show.
    "-Wignore:This process:DeprecationWarning",
    f"-W{OLD_PYTHONS}",
)


def run_python(emulator: Emulator, code: str, **environment: str) -> list[str]:
    """Run the code after the preamble in a fresh interpreter. Return its lines, which must be all that it says."""
    outcome = subprocess.run(
        [sys.executable, *WARNINGS, "-c", PREAMBLE + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        # grpc says itself, in the parent, that a fork comes at a bad time.
        env={**os.environ, "GRPC_VERBOSITY": "NONE", **emulator.environment, **environment},
    )
    assert (0, "") == (outcome.returncode, outcome.stderr), outcome.stderr
    return outcome.stdout.splitlines()


SUPPORT = [{}, {"GRPC_ENABLE_FORK_SUPPORT": "1"}]


@pytest.mark.parametrize("environment", SUPPORT)
@pytest.mark.parametrize(
    "before",
    [
        "pass",
        "import grpc.aio",
        "run()",
        "run(); asyncio.run(connection.close())",
        "threading.Thread(target=run).run()",
        "other = Connection(FlowStateSettings()); run(); run(other)",
    ],
)
def test_before_a_fork(emulator: Emulator, before: str, environment: dict[str, str]) -> None:
    """Whatever the parent did with the connection before, child, second child and parent all use it afterwards."""
    code = f"""
    {before}
    print(child(twice), child(twice), run())
    """

    assert ["okok okok ok"] == run_python(emulator, code, **environment)


def test_the_child_collects_garbage(emulator: Emulator) -> None:
    """A child that is forked while a thread decodes, be it another one or the one that forks, has its collector on.

    What the child itself sets is not undone when the block ends there, nor what the application has set before.
    """
    code = """
    import gc
    from firestore_flowstate._gc_pause import gc_paused
    inside, leave = threading.Event(), threading.Event()

    def decode():
        with gc_paused():
            inside.set()
            leave.wait()

    def now():
        return str(gc.isenabled())

    def decoding():
        with gc_paused():
            return now() + child(now) + now()

    thread = threading.Thread(target=decode)
    thread.start()
    inside.wait()
    print("while another decodes:", now(), child(now), child(decoding), now())
    leave.set()
    thread.join()
    print("in the block:", decoding(), now())

    block = gc_paused()

    def left():
        gc.disable()
        block.__exit__(None, None, None)
        return now() + child(now)

    block.__enter__()
    print("set by the child:", child(left))
    block.__exit__(None, None, None)
    gc.disable()
    print("set before:", child(now), decoding(), now())
    """

    assert [
        "while another decodes: False True FalseTrueFalse False",
        "in the block: FalseTrueFalse True",
        "set by the child: FalseFalse",
        "set before: False FalseFalseFalse False",
    ] == run_python(emulator, code)


@pytest.mark.parametrize("close", ["asyncio.run(hung.close())", "pass"], ids=["closed", "open"])
@pytest.mark.parametrize("wait", [0.0, 1.5, 2.5])
def test_after_a_call_to_a_silent_server(emulator: Emulator, close: str, wait: float) -> None:
    """Grpc does not break off a try to connect, so the fork waits for its end: the child connects, and at once."""
    code = f"""
    import socket
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(50)  # accepts, and never answers
    hung = Connection(FlowStateSettings(emulator_host="127.0.0.1:%s" % server.getsockname()[1]))
    try:
        run(hung, 0.5)
    except Exception as error:
        print(type(error).__name__)
    {close}
    time.sleep({wait})
    print(child(twice), run())
    server.close()
    """

    assert ["DeadlineError", "okok ok"] == run_python(emulator, code)


def test_a_bound_loop(emulator: Emulator) -> None:
    """A fork from code that runs on a bound loop: the child makes its own channel, the parent's loop stays bound."""
    code = """
    async def parent():
        await connection.bind()
        await get()
        said = child(twice)
        await get()
        print(said, sum(thread.name == "firestore-flowstate" for thread in threading.enumerate()))
        await connection.unbind()
        await connection.close()

    asyncio.run(parent())
    """

    assert ["okok 0"] == run_python(emulator, code)


def test_a_child_within_a_coroutine(emulator: Emulator) -> None:
    """A child that goes on in the coroutine that forked has no running loop, and is told. Its parent goes on."""
    code = """
    async def parent():
        await get()
        pid = os.fork()
        try:
            print(await get(), flush=True)
        except Exception as error:
            print(type(error).__name__, str(error).partition(":")[0], flush=True)
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        await connection.close()

    asyncio.run(parent())
    """

    told = "FlowStateError a store is awaited on an event loop of asyncio, and none is running here"
    assert {"ok", told} == set(run_python(emulator, code))


def test_grandchildren(emulator: Emulator) -> None:
    """A child that has used the connection may fork again."""
    code = """
    def middle():
        return run() + child(twice) + run()

    run()
    print(child(middle))
    """

    assert ["okokokok"] == run_python(emulator, code)


def test_forks_while_other_threads_call(emulator: Emulator) -> None:
    """With calls in flight on other threads, every child works, and no call of the parent fails."""
    code = """
    stop = threading.Event()
    failures, calls = [], 0

    def work():
        global calls
        while not stop.is_set():
            try:
                run()
                calls += 1
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    said = {child(twice) for _ in range(20)}
    stop.set()
    for thread in threads:
        thread.join()
    print(said, failures, calls > 0)
    """

    assert ["{'okok'} [] True"] == run_python(emulator, code)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(emulator: Emulator, tmp_path: Path, method: str) -> None:
    """Pools of each start method work beside a parent that uses the connection."""
    script = tmp_path / "pool.py"
    script.write_text(
        PREAMBLE
        + textwrap.dedent(
            f"""
            def task(_):
                return twice()

            if __name__ == "__main__":
                run()
                with multiprocessing.get_context({method!r}).Pool(2) as pool:
                    print(set(pool.map(task, range(8))), run())
            """
        )
    )
    outcome = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **emulator.environment, "PYTHONPATH": str(Path.cwd())},
    )

    assert (0, "{'okok'} ok\n") == (outcome.returncode, outcome.stdout), outcome.stderr


OTHERS = """
import grpc
address = os.environ["FIRESTORE_EMULATOR_HOST"]

def use_other_channel():
    channel = grpc.insecure_channel(address)
    try:
        channel.unary_unary("/nothing")(b"", timeout=10)
    except grpc.RpcError:
        return channel

async def use_other_aio_channel():
    channel = grpc.aio.insecure_channel(address)
    try:
        await channel.unary_unary("/nothing")(b"", timeout=10)
    except grpc.RpcError:
        return channel
"""


@pytest.mark.parametrize("environment", SUPPORT)
def test_beside_an_open_channel_of_others(emulator: Emulator, environment: dict[str, str]) -> None:
    """An open synchronous channel of others spoils grpc for the child, unless grpc's fork support is on: it is told."""
    code = OTHERS + textwrap.dedent(
        """
        channel = use_other_channel()
        run()
        print(child(run), run())
        channel.close()
        print(child(twice), run())
        """
    )
    [beside, afterwards] = run_python(emulator, code, **environment)

    expected = "ok ok" if environment else "StoreUnavailableError: this process was forked while a channel of grpc"
    assert beside.startswith(expected)
    assert "okok ok" == afterwards


@pytest.mark.parametrize("environment", SUPPORT)
def test_beside_an_open_aio_channel_of_others(emulator: Emulator, environment: dict[str, str]) -> None:
    """An open grpc.aio channel of others spoils grpc.aio for the child in any case: it is told, and does not crash."""
    code = OTHERS + textwrap.dedent(
        """
        async def parent():
            channel = await use_other_aio_channel()
            await get()
            print(child(run), await get())
            await channel.close()

        asyncio.run(parent())
        """
    )
    said = "\n".join(run_python(emulator, code, **environment))

    assert "StoreUnavailableError: this process was forked while a channel of grpc.aio was open" in said
    assert said.endswith(" ok")


def test_after_a_cancelled_stream(emulator: Emulator) -> None:
    """A CancelledError that somebody keeps keeps nothing of grpc, which would not end before the fork."""
    code = """
    kept = []

    async def cancelled():
        await connection.bind()
        await get()
        names = [await connection.documents(Deadline.after(20)) + "/c/missing"]
        for pause in (0, 0, 0.001, 0.002, 0.004):
            call = asyncio.ensure_future(connection.batch_get(names, deadline=Deadline.after(20)))
            await asyncio.sleep(pause)
            call.cancel()
            try:
                await call
            except asyncio.CancelledError as error:
                kept.append(error)
            call = None
        await connection.unbind()

    asyncio.run(cancelled())
    print(len(kept) > 2, child(run))
    """
    assert ["True ok"] == run_python(emulator, code)


def test_a_fork_behind_pythons_back(emulator: Emulator) -> None:
    """A fork by C code, as of uWSGI, which gives nobody notice, leaves a child that is told, and does not crash."""
    code = """
    import _imp, ctypes

    def fork():
        # C code runs no bytecode before what follows the fork, at which the child could give way to threads it has not.
        sys.setswitchinterval(60)
        _imp.acquire_lock()  # which the child is to find taken, from Python 3.13 on
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            _imp.release_lock()
        sys.setswitchinterval(0.005)
        return pid

    print(child(twice, fork=fork))
    run()
    print(child(run, fork=fork), run())
    """
    [unused, used] = run_python(emulator, code)

    assert "okok" == unused
    assert used.startswith("StoreUnavailableError: this process was forked, but not by Python")
    assert used.endswith(" ok")


@contextmanager
def gunicorn(emulator: Emulator, folder: Path, *options: str, workers: int) -> Iterator[str]:
    """Serve app.py of the folder. Give its address, and fail if a worker did not end well."""
    port = Port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", port.host, "--workers", str(workers), *options, "app:serve"],
        cwd=folder,
        env={**os.environ, **emulator.environment, "PYTHONPATH": str(Path.cwd())},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that its workers can be ended with it
    )
    assert process.stderr is not None
    log = ""
    try:
        while log.count("Booting worker") < workers:  # the socket listens by then, and each worker hears of the end
            line = process.stderr.readline()
            assert line, log
            log += line
        yield f"http://{port.host}"
        process.terminate()
        log += process.communicate(timeout=60)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
        port.close()
    assert not re.search("SIGSEGV|SIGABRT|SIGKILL|WORKER TIMEOUT", log), log
    assert "Traceback" not in log, log


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (1, ["--preload"]),
        (2, ["--preload"]),
        (2, ["--preload", "--worker-class", "gthread", "--threads", "4"]),
        (2, []),
    ],
)
@pytest.mark.parametrize("at_import", ["pass", "run()"])
def test_gunicorn(emulator: Emulator, tmp_path: Path, workers: int, options: list[str], at_import: str) -> None:
    """Workers of gunicorn use a connection that the app's module made, or used already, when it was imported."""
    (tmp_path / "app.py").write_text(
        PREAMBLE
        + textwrap.dedent(
            f"""
            {at_import}

            def serve(environ, start_response):
                start_response("200 OK", [("content-type", "text/plain")])
                return [f"{{run()}} {{os.getpid()}}".encode()]
            """
        )
    )
    with gunicorn(emulator, tmp_path, *options, workers=workers) as address:
        answers = [urllib.request.urlopen(address, timeout=20).read().decode().split() for _ in range(20)]  # noqa: S310  # loopback

    assert {"ok"} == {said for said, _pid in answers}
