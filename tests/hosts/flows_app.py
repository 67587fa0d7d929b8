"""Durable flows that tests of hosts serve: alone, and mounted in FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi import FastAPI

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run

flows = Flows(FirestoreFlowStateStore(), lease=timedelta(seconds=60))


async def nap(seconds: float) -> float:
    print(f"napping for {seconds} s", flush=True)  # tests wait for this line
    await asyncio.sleep(seconds)
    return seconds


@flows.flow
async def napping(run: Run, naps: list[float]) -> list[float]:
    return [await run.step("nap", nap, seconds) for seconds in naps]


alone = flows.app(verify=None)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with flows.store, flows:
        yield


mounted = FastAPI(lifespan=lifespan)
mounted.mount("/flows", flows.app(verify=None))


@mounted.get("/")
async def hello() -> str:
    return "hello"
