"""Plain programs: as many loops and threads as they like, one store, and an end without ceremony."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PREAMBLE = """
import asyncio, atexit, threading, time
from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState

store = FirestoreFlowStateStore()
"""


def run_python(environment: dict[str, str], code: str) -> str:
    """Run the code after the preamble, every warning an error; return what it prints, which must be all it says."""
    outcome = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert (0, "") == (outcome.returncode, outcome.stderr)
    return outcome.stdout


def test_loops_and_threads(host_environment: dict[str, str]) -> None:
    """One store: asyncio.run again and again, 16 threads with a loop each, close, and use again."""
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
        "threading.Thread(target=lambda: asyncio.run(store.save('a', FlowState.start()))).start()",
        "loop = asyncio.new_event_loop(); loop.run_until_complete(store.count()); loop.close()",
    ],
)
def test_exit_without_close(host_environment: dict[str, str], use: str) -> None:
    """A program that never closes its store ends at once and without a word."""
    code = f"""
    {use}
    ended = time.monotonic()
    atexit.register(lambda: print("ended", time.monotonic() - ended < 10))
    """

    assert "ended True\n" == run_python(host_environment, code)


def test_a_firebase_admin_app(host_environment: dict[str, str]) -> None:
    """On the emulator an App needs no credentials, and names the project; the store leaves it to the caller."""
    code = """
    import warnings
    warnings.simplefilter("ignore")  # of Google's libraries, about old Pythons
    import firebase_admin
    from firebase_admin import firestore

    app = firebase_admin.initialize_app(options={"projectId": "demo-from-app"})
    store = FirestoreFlowStateStore.from_app(app)
    asyncio.run(store.save("a", FlowState.start(name="from an app")))
    asyncio.run(store.close())
    other = FirestoreFlowStateStore(store.settings.model_copy(update={"project": "demo-from-app"}))
    print(asyncio.run(other.load("a")).name)
    print(asyncio.run(FirestoreFlowStateStore().load("a")))
    firebase_admin.delete_app(app)
    """

    assert "from an app\nNone\n" == run_python(host_environment, code)
