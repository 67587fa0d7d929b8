"""The emulators that benchmarks run on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rounds import QUICK

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.emulator import Emulator, start_emulator


async def fresh_emulator() -> Emulator:
    """Return an emulator of its own, with room: it keeps every version of every document until it stops.

    To see only whether benchmarks still run, the one that FIRESTORE_EMULATOR_HOST names will do.
    """
    return await asyncio.to_thread(start_emulator, attach=QUICK, java_options=[] if QUICK else ["-Xmx6g"])


@asynccontextmanager
async def fresh_store() -> AsyncIterator[FirestoreFlowStateStore]:
    """Open a store on an emulator of its own."""
    with await fresh_emulator() as emulator:
        settings = FlowStateSettings(project="demo-benchmarks", emulator_host=emulator.host)
        async with FirestoreFlowStateStore(settings) as store:
            yield store
