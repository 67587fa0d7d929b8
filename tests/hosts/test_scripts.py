"""Plain programs: as many loops and threads as they like, one store, and an end without ceremony."""

from __future__ import annotations

import subprocess
import textwrap
import time

import pytest

from tests.hosts.serving import EXAMPLES
from tests.rpc.strict_python import STRICT_PYTHON

PREAMBLE = """
import asyncio, atexit, signal, threading, time
from firestore_flowstate import *

store = FirestoreFlowStateStore()
blocking = SyncFlowStateStore(store)
"""


def run_python(environment: dict[str, str], code: str, *, before: str = "") -> str:
    """Run the code around the preamble, every warning an error. Return what it prints, which must be all it says."""
    return _output(environment, "-c", textwrap.dedent(before) + PREAMBLE + textwrap.dedent(code))


def run_example(environment: dict[str, str], name: str) -> str:
    """Run the example, every warning an error. Return what it prints, which must be all it says."""
    return _output(environment, str(EXAMPLES / name))


def _output(environment: dict[str, str], *arguments: str) -> str:
    outcome = subprocess.run(
        [*STRICT_PYTHON, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (0, "") == (outcome.returncode, outcome.stderr)
    return outcome.stdout


def test_the_script(host_environment: dict[str, str]) -> None:
    """The example runs on one loop after another, and on several at once."""
    said = run_example(host_environment, "script.py")

    assert "10 runs, the first of which did pick pack\n" == said


def test_the_client(host_environment: dict[str, str]) -> None:
    """The example reads with Google's client what the store has written beside it, and goes on without it."""
    first, second = run_example(host_environment, "clients.py").splitlines()

    assert "order is scheduled" == first
    assert "input={'item': 'book'}" in second


def test_loops_and_threads(host_environment: dict[str, str]) -> None:
    """One store serves asyncio.run again and again, 16 threads with a loop each, a close, and calls after it."""
    code = """
    async def step(name):
        await store.modify("a", lambda state: state.cache.update({name: CacheEntry(value=1)}))

    asyncio.run(store.save("a", FlowState.start()))
    for number in range(5):
        asyncio.run(step(f"run {number}"))
    threads = [threading.Thread(target=lambda n=n: asyncio.run(step(f"thread {n}"))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(store.close())
    print(len(asyncio.run(store.load("a")).cache))

    async def entered():
        async with store:
            await step("entered")
        await step("left")
        await store.close()

    asyncio.run(entered())
    print(len(asyncio.run(store.load("a")).cache))
    """

    assert "21\n23\n" == run_python(host_environment, code)


@pytest.mark.parametrize(
    "use",
    [
        "asyncio.run(store.save('a', FlowState.start()))",
        "asyncio.run(store.__aenter__())",
        "begun = threading.Event(); threading.Thread(target=outlive, args=(begun,)).start(); begun.wait()",
        "loop = asyncio.new_event_loop(); loop.run_until_complete(store.count()); loop.close()",
        "asyncio.run(store.save('a', FlowState.start())); left = store.edit('a'); asyncio.run(left.__aenter__())",
        "asyncio.run(save_three()); left = store.iterate(FlowStateQuery(limit=1)); asyncio.run(start(left))",
        "called = threading.Event(); threading.Thread(target=call, args=(called,), daemon=True).start(); called.wait()",
    ],
)
def test_exit_without_close(host_environment: dict[str, str], use: str) -> None:
    """A program that never closes its store ends at once and without a word, whatever was under way."""
    code = f"""
    async def save_three():
        await store.save_many({{id: FlowState.start() for id in "abc"}})

    async def start(states):
        await states.__anext__()

    def call(called):
        while True:
            asyncio.run(store.count())
            called.set()

    def outlive(begun):
        asyncio.run(store.count())
        begun.set()
        threading.main_thread().join()
        asyncio.run(store.count())

    atexit.register(lambda: print(time.time()))
    {use}
    """
    began_to_end = float(run_python(host_environment, code))

    assert time.time() - began_to_end < 10


def test_entered_on_several_loops(host_environment: dict[str, str]) -> None:
    """Threads that enter and leave one store at their own times close it under each other, and lose nothing."""
    code = """
    async def work(number):
        async with store:
            await store.update("a", cache={f"{number} first": CacheEntry(value=1)})
            await store.update("a", cache={f"{number} second": CacheEntry(value=2)})

    asyncio.run(store.save("a", FlowState.start()))
    threads = [
        threading.Thread(target=lambda n=n: [asyncio.run(work(f"{n} {turn}")) for turn in range(3)]) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(asyncio.run(store.load("a")).cache))
    """

    assert "36\n" == run_python(host_environment, code)


def test_sent_to_a_process(host_environment: dict[str, str]) -> None:
    """A store that has been used may be sent to another process, and copied: each connects by itself."""
    code = """
    import copy, multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    blocking.save("a", FlowState.start(name="sent"))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        print(pool.submit(blocking.load, "a").result().name)
    print(asyncio.run(copy.deepcopy(store).load("a")).name)
    """

    assert "sent\nsent\n" == run_python(host_environment, code)


@pytest.mark.parametrize("count", ["asyncio.run(store.count())", "blocking.count()"])
def test_a_first_call_at_the_end(host_environment: dict[str, str], count: str) -> None:
    """A thread that first calls when the program has ended is served, or told that Python starts no thread then."""
    code = f"""
    def outlive():
        threading.main_thread().join()
        try:
            print({count})
        except FlowStateError as error:
            print(error)

    threading.Thread(target=outlive).start()
    """
    told = "Firestore cannot be called without a thread of its own: can't create new thread at interpreter shutdown"

    assert run_python(host_environment, code) in ("0\n", f"{told}\n")


def test_calls_at_exit(host_environment: dict[str, str]) -> None:
    """A handler of atexit may call the store if it was registered after the import. Others are told at once."""
    before = """
    import asyncio, atexit, time

    def flush(when):
        began = time.monotonic()
        try:
            print(when, asyncio.run(store.count()))
        except FlowStateError as error:
            print(when, str(error).partition(":")[0], time.monotonic() - began < 10)

    atexit.register(lambda: asyncio.run(store.close()))
    atexit.register(flush, "before the import")
    """
    code = """
    atexit.register(flush, "before the first call")
    asyncio.run(store.save("a", FlowState.start()))
    """

    assert [
        "before the first call 1",
        "before the import the process is ending, and its connection to Firestore has ended True",
    ] == run_python(host_environment, code, before=before).splitlines()


def test_sigterm(host_environment: dict[str, str]) -> None:
    """A handler of SIGTERM may write a last state and exit, in the middle of a call and on a running loop too."""
    blocking = """
    def end(*_):
        blocking.save("ended", FlowState.start())
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    blocking.save("begun", FlowState.start())
    threading.Timer(0.2, signal.raise_signal, (signal.SIGTERM,)).start()
    while True:
        blocking.count()
    """
    awaiting = """
    async def main():
        ending = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
        async with store:
            await store.count()
            signal.raise_signal(signal.SIGTERM)
            await ending.wait()
            print(await store.count())

    asyncio.run(main())
    """

    assert "" == run_python(host_environment, blocking)
    assert "2\n" == run_python(host_environment, awaiting)


@pytest.mark.parametrize("count", ["asyncio.run(store.count())", "blocking.count()"])
def test_gevent(host_environment: dict[str, str], count: str) -> None:
    """If gevent has patched threads there is no room for another event loop: the error says what to use."""
    before = """
    from gevent import monkey

    monkey.patch_all()
    """
    code = f"""
    try:
        {count}
    except FlowStateError as error:
        print(error)
    """

    assert run_python(host_environment, code, before=before).endswith("gunicorn does by `--worker-class gthread`\n")


MAKE = "client = {}(project='demo-theirs')"
USE = "client.collection('genkit-flows').document('a').get()"


@pytest.mark.parametrize(
    ("make", "stays_usable"),
    [
        (f"{MAKE.format('AsyncClient')}; asyncio.run(use())", "asyncio.run(client._firestore_api.transport.close())"),
        (f"{MAKE.format('Client')}; {USE}", f"assert {USE}.exists; client.close()"),
        ("client = initialize_app(options={'projectId': 'demo-theirs'})", "delete_app(client)"),
    ],
    ids=["AsyncClient", "Client", "App"],
)
def test_clients_of_the_caller(host_environment: dict[str, str], make: str, stays_usable: str) -> None:
    """A client that was passed, and used on another loop before, serves all loops and threads, and stays open."""
    code = f"""
    from firebase_admin import delete_app, initialize_app
    from google.cloud.firestore import AsyncClient, Client

    async def use():
        await {USE}

    {make}
    store = FirestoreFlowStateStore(client=client)
    blocking = SyncFlowStateStore(store)
    found = []

    def look():
        found.append(asyncio.run(store.load("a")).name)

    async def enter():
        async with store:
            found.append((await store.load("a")).name)

    asyncio.run(store.save("a", FlowState.start(name="theirs")))
    look()
    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(enter())
    found.append(blocking.load("a").name)
    print(found == ["theirs"] * 7, asyncio.run(FirestoreFlowStateStore().load("a")))
    blocking.close()
    {stays_usable}
    """

    assert "True None\n" == run_python(host_environment, code)


def test_an_app_of_firebase_admin(host_environment: dict[str, str]) -> None:
    """from_app takes the project of the App and leaves the rest to the settings. The emulator needs no credentials."""
    code = """
    from firebase_admin import initialize_app

    app = initialize_app(options={"projectId": "demo-from-app"})
    runs = FirestoreFlowStateStore.from_app(app, FlowStateSettings(collection="runs"))
    asyncio.run(runs.save("a", FlowState.start(name="from an app")))
    other = FirestoreFlowStateStore(FlowStateSettings(project="demo-from-app", collection="runs"))
    print(asyncio.run(other.load("a")).name)
    """

    assert "from an app\n" == run_python(host_environment, code)
