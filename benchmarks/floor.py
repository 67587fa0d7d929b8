"""The floors: the cost below which no client in Python can come, and that for clients that compress.

`Floor` is a bare grpc.aio stub that sends ready bytes and leaves the reply as it came.

For each state there is one CommitRequest and one GetDocumentRequest, serialized beforehand. The document has one
field: the whole state as one JSON string, uncompressed. So the floor pays for grpc and for the bytes of the state,
and for nothing else. No client in Python can be cheaper and keep the same text.

`CompressingFloor` begins with the state as a dict and ends with one: orjson, zstd as the store has it, one bytes field,
and the same stub. It neither checks a value nor keeps what orjson loses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio has no types of its own
import orjson

from firestore_flowstate._document.builtin_codecs import compress, decompress
from firestore_flowstate._rpc import messages

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
            write = messages.Write(update={"name": name, "fields": {"state": messages.Value(string_value=text)}})
            self._commits.append(messages.CommitRequest(database=database, writes=[write]).SerializeToString())
            self._gets.append(messages.GetDocumentRequest(name=name).SerializeToString())

    async def save(self, index: int) -> object:
        """Save one of the states."""
        return await self._commit(self._commits[index % len(self._commits)])

    async def load(self, index: int) -> object:
        """Load one of the states that were saved."""
        return await self._get(self._gets[index % len(self._gets)])

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class CompressingFloor:
    """Saves and loads the states it was made for, each as one compressed text. To be made on the running loop."""

    def __init__(self, host: str, *, project: str, collection: str, states: Sequence[dict[str, Any]]) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(host, options=options)
        self._commit = self._channel.unary_unary(_SERVICE + "Commit")
        self._get = self._channel.unary_unary(_SERVICE + "GetDocument")
        self._database = f"projects/{project}/databases/(default)"
        self._states = states
        self._names = [f"{self._database}/documents/{collection}/compressed-{number}" for number in range(len(states))]

    async def save(self, index: int) -> object:
        """Save one of the states."""
        number = index % len(self._states)
        text = orjson.dumps(self._states[number])
        fields = {"state": messages.Value(bytes_value=compress(text)), "size": messages.Value(integer_value=len(text))}
        write = messages.Write(update={"name": self._names[number], "fields": fields})
        request = messages.CommitRequest(database=self._database, writes=[write])
        return messages.CommitResponse.FromString(await self._commit(request.SerializeToString()))

    async def load(self, index: int) -> object:
        """Load one of the states that were saved."""
        request = messages.GetDocumentRequest(name=self._names[index % len(self._names)])
        fields = messages.Document.FromString(await self._get(request.SerializeToString())).fields
        return orjson.loads(decompress(fields["state"].bytes_value, fields["size"].integer_value))

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
