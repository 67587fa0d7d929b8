"""What a process imports up to its first save, and that no later call holds up the event loop by imports."""

from __future__ import annotations

import os
import subprocess

import pytest

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import STRICT_PYTHON

FIRST_SAVE = """
import asyncio, sys, threading
from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings, SyncFlowStateStore

imported_on_loop = []

def note(event, arguments):
    if event == "import" and threading.current_thread() is threading.main_thread():
        imported_on_loop.append(arguments[0])

async def main(settings, *, calls=None):
    async with FirestoreFlowStateStore(settings) as store:
        await store.save("cold", FlowState.start(flow_id="cold"))
        if calls is not None:
            sys.addaudithook(note)
            await calls(store)
"""


LARGE = ("firestore_flowstate._operations", "google.", "grpc", "proto.", "requests")


def run(emulator: Emulator, code: str) -> list[str]:
    done = subprocess.run(
        [*STRICT_PYTHON, "-c", FIRST_SAVE + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, **emulator.environment},
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout.split()


@pytest.mark.parametrize(
    "save",
    [
        "asyncio.run(main(FlowStateSettings()))",
        "SyncFlowStateStore(FirestoreFlowStateStore()).save('cold', FlowState.start())",
    ],
)
def test_the_first_save_imports_little(emulator: Emulator, save: str) -> None:
    """It imports neither Google's client nor what that brings, and on the emulator nothing of credentials."""
    loaded = run(emulator, f"{save}\nprint(*sys.modules)")
    large = ("google.cloud.firestore", "google.api_core", "google.auth", "proto.", "requests")

    assert {"grpc", "google.protobuf"} <= set(loaded)
    assert [] == [name for name in loaded if name.startswith(large)]


@pytest.mark.parametrize("layout", ["serialized", "native"])
def test_later_calls_import_nothing_large_on_the_loop(emulator: Emulator, layout: str) -> None:
    """What takes long to import was imported on a thread by the first call, also for Firestore's own types."""
    code = f"""
from datetime import datetime, timezone
EVERY_TYPE = {{"time": datetime(2026, 1, 1, tzinfo=timezone.utc), "bytes": b"x"}} if {layout!r} == "native" else {{}}

async def calls(store):
    state = FlowState.start(flow_id="again", input=EVERY_TYPE)
    await store.create("again", state)
    assert (await store.load("again")).start_time == state.start_time
    async with store.edit("again") as edited:
        edited.name = "cold"
    await store.update("again", cache={{}}, if_version=edited.version)
    await store.list()
    await store.list_summaries()
    await store.count()
    async for state in store.watch("again"):
        break
    await store.delete("again")

asyncio.run(main(FlowStateSettings(layout={layout!r}, collection="cold-{layout}"), calls=calls))
print(*imported_on_loop)
"""
    assert [] == [name for name in run(emulator, code) if name.startswith(LARGE)]


def test_types_of_google_load_beside_our_messages(emulator: Emulator) -> None:
    """Points, references and vectors of native documents are Google's own, as is a client that is passed."""
    code = """
async def calls(store):
    from google.cloud.firestore import AsyncClient, GeoPoint
    from google.cloud.firestore_v1.vector import Vector

    client = AsyncClient(project="demo-flowstate")  # which the store has if none is named
    reference = client.document("c/d")
    state = FlowState.start(flow_id="g", input={"g": GeoPoint(1, 2), "r": reference, "v": Vector([1.0, 2.0])})
    theirs = FirestoreFlowStateStore(store.settings, client=client)
    await theirs.save("g", state)
    loaded = (await theirs.load("g")).input
    assert (GeoPoint(1, 2), reference, Vector([1.0, 2.0])) == (loaded["g"], loaded["r"], loaded["v"]), loaded
    assert isinstance((await store.load("g")).input["g"], GeoPoint)
    await theirs.close()
    await client._firestore_api.transport.close()

asyncio.run(main(FlowStateSettings(layout="native", collection="cold-types"), calls=calls))
print("ok")
"""

    assert ["ok"] == run(emulator, code)
