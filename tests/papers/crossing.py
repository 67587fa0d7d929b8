"""Prints the files that a small save, update and load enter, each in order, with the calls in each, when all is warm.

Run in a process of its own: it traces every thread of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import firestore_flowstate
from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState

PACKAGE = Path(firestore_flowstate.__file__).parent


class Tracer:
    """Notes the files whose functions are called while a block runs, and how many calls these are."""

    def __init__(self) -> None:
        self._entered: dict[str, int] | None = None

    def note(self, frame: Any, event: str, _: Any) -> None:
        """Note one event, for `sys.setprofile`."""
        if self._entered is None or event != "call":
            return
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            name = str(path.relative_to(PACKAGE))
            self._entered[name] = self._entered.get(name, 0) + 1

    async def files(self, call: Callable[[], Awaitable[Any]]) -> dict[str, int]:
        """Return the files that a call enters, in the order in which it first does, with the calls in each."""
        self._entered = {}
        await call()
        entered, self._entered = self._entered, None
        return entered


async def crossed(tracer: Tracer, store: FirestoreFlowStateStore) -> dict[str, dict[str, int]]:
    """Return the files that each call enters, with the calls in each."""
    state = FlowState.start(name="trip")
    state.cache["weather"] = CacheEntry(value={"degrees": 21.5})
    step = {"hotel": CacheEntry(value="booked")}
    return {
        "save": await tracer.files(lambda: store.save("trip", state)),
        "update": await tracer.files(lambda: store.update("trip", cache=step, if_version=state.version or "")),
        "load": await tracer.files(lambda: store.load("trip")),
    }


async def main() -> None:
    """Call each of them once so that all is imported and connected, and once more."""
    tracer = Tracer()
    threading.setprofile(tracer.note)
    sys.setprofile(tracer.note)
    async with FirestoreFlowStateStore() as store:
        await crossed(tracer, store)
        print(json.dumps(await crossed(tracer, store)))


if __name__ == "__main__":
    asyncio.run(main())
