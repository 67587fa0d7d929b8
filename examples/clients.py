"""A store on a client of Google's: its project, database and credentials, and its channel if it has one.

    python examples/clients.py

A synchronous Client and the App of firebase_admin are taken in the same way. None of them is ever closed here.
"""

from __future__ import annotations

import asyncio

from google.cloud.firestore import AsyncClient

from firestore_flowstate import FirestoreFlowStateStore, FlowState

client = AsyncClient()
store = FirestoreFlowStateStore(client=client)


async def start(id: str) -> str:
    """Start a flow, and read its document with the client, on whose loop the store uses the client's channel."""
    order = client.collection("orders").document(id)
    await order.set({"item": "book"})
    await store.save(id, FlowState.start(name="order", input=(await order.get()).to_dict()))
    run = await client.collection("genkit-flows").document(id).get()
    await store.close()  # which leaves the client open
    return f"{run.get('name')} is {run.get('status')}"


if __name__ == "__main__":
    print(asyncio.run(start("run-1")))
    print(asyncio.run(store.load("run-1")))  # on another loop, over a channel of the store's own
