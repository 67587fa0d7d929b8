"""The plain client: google.cloud.firestore's AsyncClient with each state as native maps, as Genkit lays it out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import AsyncClient


class Plain:
    """Saves and loads the states it was made for, as an app would without a store."""

    def __init__(self, host: str, *, project: str, collection: str, states: Sequence[dict[str, Any]]) -> None:
        with patch.dict(os.environ, FIRESTORE_EMULATOR_HOST=host):  # the client looks there, and nowhere else
            credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google.auth is typed in part
            self.client = AsyncClient(project=project, credentials=credentials)
        self.collection = self.client.collection(collection)
        self._documents = [self.collection.document(f"plain-{number}") for number in range(len(states))]
        self._states = states

    async def save(self, index: int) -> object:
        """Save one of the states."""
        number = index % len(self._states)
        return await self._documents[number].set(self._states[number])

    async def load(self, index: int) -> object:
        """Load one of the states that were saved, its values decoded."""
        return (await self._documents[index % len(self._documents)].get()).to_dict()

    async def delete(self, index: int) -> object:
        """Delete one of the states."""
        return await self._documents[index % len(self._documents)].delete()

    async def close(self) -> None:
        """Close the channel, which `AsyncClient.close` leaves open."""
        await self.client._firestore_api.transport.close()
