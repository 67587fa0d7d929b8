"""Calls to Firestore as a client without Google's libraries makes them."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any


def request(
    host: str, method: str, path: str, *, token: str | None = None, body: object = None
) -> tuple[int, dict[str, Any]]:
    """Return status and answer of a call to Firestore's REST interface."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        connection.request(method, f"/v1/{path}", body=json.dumps(body) if body is not None else None, headers=headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read() or b"{}")
