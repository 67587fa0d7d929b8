"""The floor: a bare grpc.aio stub that sends ready bytes and leaves the reply as it came.

For each state there is one CommitRequest and one GetDocumentRequest, serialized beforehand. The document has one
field: the whole state as one JSON string, uncompressed. So the floor pays for grpc and for the bytes of the state,
and for nothing else; no client in Python can be cheaper and keep the same text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own
from google.cloud.firestore_v1 import types

_SERVICE = "/google.firestore.v1.Firestore/"


class Floor:
    """Saves and loads the states it was made for, as fast as grpc.aio goes. To be made on the running loop."""

    def __init__(self, host: str, *, project: str, collection: str, states: Sequence[dict[str, Any]]) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(host, options=options)
        self._commit = self._channel.unary_unary(_SERVICE + "Commit")
        self._get = self._channel.unary_unary(_SERVICE + "GetDocument")
        database = f"projects/{project}/databases/(default)"
        self._commits, self._gets = [], []
        for number, state in enumerate(states):
            name = f"{database}/documents/{collection}/floor-{number}"
            text = json.dumps(state, separators=(",", ":"), ensure_ascii=False)
            write = types.Write.pb()(update={"name": name, "fields": {"state": {"string_value": text}}})
            self._commits.append(types.CommitRequest.pb()(database=database, writes=[write]).SerializeToString())
            self._gets.append(types.GetDocumentRequest.pb()(name=name).SerializeToString())

    async def save(self, index: int) -> object:
        """Save one of the states."""
        return await self._commit(self._commits[index % len(self._commits)])

    async def load(self, index: int) -> object:
        """Load one of the states that were saved."""
        return await self._get(self._gets[index % len(self._gets)])

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
