"""SyncFlowStateStore in real processes: their end, their forks, their interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import STRICT_PYTHON

PREAMBLE = """
import asyncio, atexit, gc, os, signal, sys, threading, time
from firestore_flowstate import *

wrapped = FirestoreFlowStateStore()
store = SyncFlowStateStore(wrapped)

def child(function):
    "Call the function in a forked child, and return what it said, or how it ended."
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            said = str(function())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    status = os.waitpid(pid, 0)[1]
    return said if status == 0 else f"status {status}"
"""


def command(code: str, before: str = "") -> list[str]:
    # Python warns of any fork beside threads. That the children work is what these tests show.
    no_fork_warning = "ignore:This process:DeprecationWarning"
    return [*STRICT_PYTHON, "-W", no_fork_warning, "-c", textwrap.dedent(before) + PREAMBLE + textwrap.dedent(code)]


def environment(emulator: Emulator) -> Mapping[str, str]:
    # grpc says itself, in the parent, that a fork comes at a bad time.
    return {**os.environ, **emulator.environment, "GRPC_VERBOSITY": "NONE", "PYTHONPATH": str(Path.cwd())}


def run_python(emulator: Emulator, code: str, *, before: str = "") -> str:
    """Run the code around the preamble, every warning an error. Return what it prints, which must be all it says."""
    outcome = subprocess.run(
        command(code, before), capture_output=True, text=True, timeout=60, check=False, env=environment(emulator)
    )
    assert (0, "") == (outcome.returncode, outcome.stderr)
    return outcome.stdout


def test_importing_and_wrapping_does_nothing(firestore_emulator: Emulator) -> None:
    """Neither the import nor the constructor imports grpc or google, or starts a thread."""
    code = """
    print(sorted(sys.modules.keys() & {"grpc", "google.auth", "google.protobuf", "proto"}))
    print(threading.active_count())
    """

    assert "[]\n1\n" == run_python(firestore_emulator, code)


@pytest.mark.parametrize(
    "use",
    [
        "store.count()",
        "store.__enter__(); store.count()",
        "states = store.iterate(FlowStateQuery(limit=1)); next(states)",
        "store.save('a', FlowState.start()); block = store.edit('a'); block.__enter__()",
        "threading.Thread(target=store.count).start()",
        "threading.Thread(target=lambda: (time.sleep(0.3), store.count(), print('after'))).start()",
    ],
)
def test_exit_without_close(firestore_emulator: Emulator, use: str) -> None:
    """A process that ends without closing ends at once, with no word, whatever was under way."""
    code = f"""
    store.save("b", FlowState.start())
    atexit.register(lambda: print(time.time()))
    {use}
    """
    [*_, began_to_end] = run_python(firestore_emulator, code).splitlines()

    assert time.time() - float(began_to_end) < 10


def test_calls_at_exit(firestore_emulator: Emulator) -> None:
    """A handler of atexit may call and close the store if it was registered after the import. Others are told."""
    before = """
    import atexit

    def flush(when):
        try:
            print(when, store.count() > 0)
        except FlowStateError as error:
            print(when, type(error).__name__)

    atexit.register(lambda: store.close())
    atexit.register(flush, "before the import")
    """
    code = """
    atexit.register(flush, "before the first call")
    store.save("a", FlowState.start())
    atexit.register(flush, "after it")
    """
    said = run_python(firestore_emulator, code, before=before)

    assert "after it True\nbefore the first call True\nbefore the import StoreUnavailableError\n" == said


def test_daemons_at_exit(firestore_emulator: Emulator) -> None:
    """Daemon threads in the middle of calls are frozen by the interpreter. They hold nothing up and print nothing."""
    code = """
    def work():
        while True:
            store.count()
            called.release()

    called = threading.Semaphore(0)
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    for _ in range(9):
        called.acquire()
    """

    assert "" == run_python(firestore_emulator, code)


@pytest.mark.parametrize("before", ["pass", "store.count()", "store.__enter__()", "store.__enter__(); store.close()"])
def test_forks(firestore_emulator: Emulator, before: str) -> None:
    """Whatever was done before a fork, child, second child and parent each call on a loop of their own."""
    code = f"""
    def use():
        store.save(str(os.getpid()), FlowState.start(flow_id=str(os.getpid())))
        return store.load(str(os.getpid())).flow_id == str(os.getpid())

    {before}
    print(child(use), child(lambda: (use(), child(use))), use(), child(use), use())
    store.close()
    """

    assert "True (True, 'True') True True True\n" == run_python(firestore_emulator, code)


def test_what_was_begun_before_a_fork(firestore_emulator: Emulator) -> None:
    """A block or an iteration stays with the process that began it: a child is told, and does not hang."""
    code = """
    for id in "ab":
        store.save(id, FlowState.start())
    states, block = store.iterate(FlowStateQuery(limit=1)), store.edit("a")
    next(states)
    state = block.__enter__()
    print(child(lambda: next(states)))
    print(child(lambda: block.__exit__(None, None, None)))
    state.name = "changed"
    block.__exit__(None, None, None)
    next(states)
    print(store.load("a").name)
    store.close()
    """
    first, second, name = run_python(firestore_emulator, code).splitlines()

    assert first.startswith("StoreUnavailableError: iterate: the store was closed by another thread, or the process")
    assert second.startswith("StoreUnavailableError: edit: the store was closed by another thread, or the process")
    assert "changed" == name


@pytest.mark.parametrize("wait", ["store.load('a')", "next(store.iterate())", "store.edit('a').__enter__()"])
def test_interrupt(firestore_emulator: Emulator, wait: str) -> None:
    """Ctrl-C ends the wait at once, cancels the call on the loop, and leaves a store that works."""
    code = f"""
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell has tests run in the background

    class Slow(MemoryFlowStateStore):
        async def load(self, id, *, timeout=None):
            print("waiting", flush=True)
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

        async def list(self, query=None, *, timeout=None):
            return await self.load("a")

        async def _enter(self, id):
            await self.load(id)

        def edit(self, id, *, timeout=None):
            from contextlib import asynccontextmanager

            @asynccontextmanager
            async def block():
                yield await self.load(id)

            return block()

    store = SyncFlowStateStore(Slow())
    try:
        {wait}
    except KeyboardInterrupt:
        print("interrupted", cancelled.wait(5), store.count())
    store.close()
    """
    process = subprocess.Popen(
        command(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(firestore_emulator)
    )
    try:
        assert process.stdout is not None
        assert "waiting\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)

        assert ("interrupted True 0\n", "") == process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate(timeout=20)


def test_signals_at_any_point(firestore_emulator: Emulator) -> None:
    """A handler of a signal may call the store in the middle of a call, at whatever point that was."""
    code = """
    store = SyncFlowStateStore(MemoryFlowStateStore())
    inside, handled = False, 0

    def handle(*_):
        global inside, handled
        if not inside:
            inside = True
            store.load("a")
            handled += 1
            inside = False

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    while handled < 1000:
        store.load("a")
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("done")
    """

    assert "done\n" == run_python(firestore_emulator, code)
