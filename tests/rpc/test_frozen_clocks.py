"""Clocks that an application's tests have frozen: calls work, deadlines hold, and all of it works once they thaw."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Final

import pytest

from firestore_flowstate.emulator import Emulator
from tests.rpc.strict_python import OLD_PYTHONS

FREEZE: Final = {
    "freezegun": "freezegun.freeze_time('{year}-01-01')",
    "freezegun, real asyncio": "freezegun.freeze_time('{year}-01-01', real_asyncio=True)",
    "time-machine": "time_machine.travel('{year}-01-01', tick=False)",
}
CODE: Final = """
import asyncio, os, socket, time, uuid
from datetime import datetime, timedelta, timezone
import freezegun, time_machine
from firestore_flowstate import *
from firestore_flowstate.flows import Flows, Run

def seconds():
    return time.clock_gettime(5)  # what neither of them freezes: CLOCK_REALTIME_COARSE

def settings(**more):
    return FlowStateSettings(collection="c" + uuid.uuid4().hex, **more)

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(50)  # accepts, and never answers
shared = SyncFlowStateStore(FirestoreFlowStateStore(settings()))
expiring = SyncFlowStateStore(
    FirestoreFlowStateStore(settings(expire_after=timedelta(hours=1), expire_when="always"))
)

async def inside():
    async with FirestoreFlowStateStore(settings()) as store:
        await store.save("k", FlowState.start(flow_id="k"), timeout=10)
        async with store.edit("k") as state:
            state.cache["b"] = CacheEntry(value=2)
        assert ["k"] == [state.flow_id async for state in store.iterate()]
        # Ten writers of one state conflict, and pause between their tries.
        await asyncio.gather(*(store.update("k", cache={str(i): CacheEntry(value=i)}) for i in range(10)))
        assert 11 == len((await store.load("k")).cache)
    silent = FirestoreFlowStateStore(settings(emulator_host="127.0.0.1:%s" % server.getsockname()[1]))
    began = seconds()
    try:
        await silent.load("k", timeout=1.5)
    except DeadlineError:
        took = seconds() - began
        assert 0.3 < took < 10, took  # of real time
    silent = FirestoreFlowStateStore(settings(timeout=1.0, emulator_host="127.0.0.1:%s" % server.getsockname()[1]))
    began = seconds()
    try:
        await anext(silent.watch("k"))
    except DeadlineError:
        took = seconds() - began
        assert 0.3 < took < 10, took
    await silent.close()

async def following():
    async with FirestoreFlowStateStore(settings()) as store, FirestoreFlowStateStore(settings()) as other:
        flows = Flows(store)

        @flows.flow
        async def ask(run: Run) -> int:
            return await run.step("one", lambda: 1) + await run.interrupt("two", int)

        async with flows, flows.worker():
            handle = await flows.start(ask, id="a")
            async for state in handle.watch():
                if state.status == "blocked":
                    break
            if TIMERS:  # freezegun stops those of the loop too, unless it is told not to
                try:
                    raise AssertionError(await handle.result(timeout=0.5))
                except TimeoutError:
                    pass
            await handle.resume(2)
            assert 3 == await handle.result(timeout=20)
        async for page in store.watch_list():
            assert ["a"] == [summary.id for summary in page]
            break
        assert 1 == (await store.migrate(other)).migrated
        assert 0 == (await other.gc()).deleted

with FROZEN:
    asyncio.run(inside())
    began = seconds()
    asyncio.run(following())
    assert seconds() - began < 25  # no thread waits on for what was cancelled, such as 30 s for the target of a watch
    shared.save("s", FlowState.start())
    shared.modify("s", lambda state: None)
    expiring.save("e", FlowState.start())
    assert timedelta(hours=1) == expiring.load("e").expire_at - datetime.now(timezone.utc)

assert shared.load("s") is not None
pid = os.fork()
if pid == 0:
    os._exit(shared.load("s") is None)
assert 0 == os.waitpid(pid, 0)[1]
shared.save("s", FlowState.start())
shared.close()
expiring.close()
server.close()
print("all works")
"""
IMPORTS: Final = """
import importlib, pkgutil
import firestore_flowstate, freezegun

with freezegun.freeze_time("2020-01-01"):
    for module in pkgutil.walk_packages(firestore_flowstate.__path__, "firestore_flowstate."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from firestore_flowstate.testing import VersionedFlowStateStoreTests
print("all imported")
"""


def test_a_module_may_be_imported_under_a_frozen_clock() -> None:
    """If the package is imported, freezegun may be at work when a module of it is: that of a test, or of an extra."""
    outcome = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=False)

    assert (0, "all imported\n") == (outcome.returncode, outcome.stdout), outcome.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells the real time when time-machine froze it")
@pytest.mark.parametrize("year", [2020, 2040])
@pytest.mark.parametrize("tool", FREEZE)
def test_a_store_under_a_frozen_clock(emulator: Emulator, tool: str, year: int) -> None:
    """The clock may stand before now or after it. Each deadline comes, none at once. Expiry goes by that clock."""
    code = textwrap.dedent(CODE).replace("FROZEN", FREEZE[tool].format(year=year))
    code = code.replace("TIMERS", str(tool != "freezegun"))
    outcome = subprocess.run(
        [sys.executable, "-Werror", "-Wignore:This process:DeprecationWarning", f"-W{OLD_PYTHONS}", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "GRPC_VERBOSITY": "NONE", **emulator.environment},
    )

    assert (0, "all works\n", "") == (outcome.returncode, outcome.stdout, outcome.stderr), outcome.stderr
