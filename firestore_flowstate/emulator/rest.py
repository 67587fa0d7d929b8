"""Requests to a running emulator over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from ..errors import EmulatorError

_PING_SECONDS: Final = 5.0
_RESET_SECONDS: Final = 60.0
_FAILURES: Final = (OSError, http.client.HTTPException, UnicodeError)  # the last: DNS cannot have the name of the host
_OWNER: Final = {"Authorization": "Bearer owner"}  # passes the security rules, on the emulator only


def answers(host: str) -> bool:
    """Return whether an HTTP server on `host`, which is ``host:port``, answers as the emulator does."""
    try:
        status, body = _request(host, "GET", "/", timeout=_PING_SECONDS)
    except _FAILURES:
        return False
    return status == HTTPStatus.OK and body.strip() == b"Ok"


def delete_documents(host: str, project: str, database: str) -> None:
    """Delete all documents of one database.

    Raises:
        EmulatorError: The emulator does not answer, or refuses.
    """
    path = f"/emulator/v1/projects/{quote(project, safe='')}/databases/{quote(database, safe='()')}/documents"
    try:
        status, body = _request(host, "DELETE", path, headers=_OWNER, timeout=_RESET_SECONDS)
    except _FAILURES as error:
        raise EmulatorError(f"The Firestore emulator on {host} does not answer: {error!r}") from error
    if status != HTTPStatus.OK:
        said = body.decode(errors="replace").strip()
        raise EmulatorError(f"The Firestore emulator on {host} refused to delete the documents: {status} {said}")


def problem_with_rules(host: str, project: str) -> str | None:
    """Return the compiler's message if the emulator cannot use its security rules; it says so at the first request."""
    path = f"/v1/projects/{quote(project, safe='')}/databases/(default)/documents/rules/check"
    status, body = _request(host, "GET", path, timeout=_RESET_SECONDS)
    if status != HTTPStatus.BAD_REQUEST:
        return None
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


def _request(
    host: str, method: str, path: str, *, headers: Mapping[str, str] | None = None, timeout: float
) -> tuple[int, bytes]:
    # By http.client, since urllib would send the request through a proxy that the environment names.
    with contextlib.closing(http.client.HTTPConnection(host, timeout=timeout)) as connection:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
