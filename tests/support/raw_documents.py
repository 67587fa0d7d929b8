"""Documents as Firestore keeps them, read and written over REST: by none of our code and no client library."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import quote

from firestore_flowstate import FlowStateSettings

# The emulator's token for an owner of the project, whom security rules do not bind.
_HEADERS = {"Authorization": "Bearer owner", "Content-Type": "application/json"}

Fields = dict[str, Any]
"""Fields in the form of the REST interface, such as ``{"done": {"booleanValue": True}}``."""


class RawCollection:
    """The collection that settings name, on the emulator."""

    def __init__(self, settings: FlowStateSettings) -> None:
        assert settings.emulator_host is not None
        self._host = settings.emulator_host
        self.path = settings.collection
        self._parent = f"/v1/projects/{settings.project}/databases/(default)/documents/{quote(self.path)}"

    def read(self, id: str) -> Fields:
        """Return the fields of a document."""
        return dict(self._call("GET", self._of(id)).get("fields", {}))

    def write(self, id: str, fields: Fields) -> None:
        """Create or replace a document. An id with slashes names a document below."""
        self._call("PATCH", self._of(id), {"fields": fields})

    def delete(self, id: str) -> None:
        """Delete a document."""
        self._call("DELETE", self._of(id))

    def update_time(self, id: str) -> str:
        """Return when a document was last written."""
        return str(self._call("GET", self._of(id))["updateTime"])

    def below(self, id: str, collection: str) -> dict[str, Fields]:
        """Return the fields of each document in a collection below a document, by their ids."""
        found = self._call("GET", f"{self._of(id)}/{collection}?pageSize=300").get("documents", [])
        return {document["name"].rpartition("/")[2]: document["fields"] for document in found}

    def _of(self, id: str) -> str:
        return f"{self._parent}/{quote(id)}"

    def _call(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        with closing(http.client.HTTPConnection(self._host, timeout=30)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), _HEADERS)
            response = connection.getresponse()
            answer = response.read()
        assert response.status == 200, answer.decode()
        return dict(json.loads(answer))
