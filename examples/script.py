"""A script: one store for all its loops and threads, and nothing that must be closed.

    python examples/script.py

Each asyncio.run has a loop of its own, which is gone afterwards. The store outlives them: its calls hop to a loop on a
background thread, which ends with the process.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from firestore_flowstate import CacheEntry, FirestoreFlowStateStore, FlowState

store = FirestoreFlowStateStore()


async def start(id: str) -> None:
    """Start a flow under the id."""
    await store.save(id, FlowState.start(name="order", flow_id=id))


async def pack(id: str) -> list[str]:
    """Run the steps of a flow. Within the block calls go over a channel of this loop, and none hops."""
    async with store:
        await store.update(id, cache={"pick": CacheEntry(value=True)})
        state = await store.modify(id, lambda state: state.cache.update(pack=CacheEntry(value=True)))
    return list(state.cache)


def main() -> None:
    """Use the store on one loop after another, and on several at once."""
    asyncio.run(start("run-0"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asyncio.run(start(f"run-{number}")), range(1, 10)))
    print(asyncio.run(store.count()), "runs, the first of which did", *asyncio.run(pack("run-0")))


if __name__ == "__main__":
    main()
