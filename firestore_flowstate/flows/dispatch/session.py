"""The HTTP client of a function's queue: its requests are bounded in time, and it belongs to one process."""

from __future__ import annotations

from functools import partial
from typing import Any

from .queue_calls import CALL_SECONDS


class QueueSession:
    """What stands in for firebase_admin's own HTTP client.

    A request of firebase_admin's client may take 240 s. That client belongs to the App, so a process and its forked
    children would write to one connection.

    Args:
        credential: The credentials, as google-auth has them.
    """

    def __init__(self, credential: Any) -> None:
        from google.auth.transport.requests import AuthorizedSession

        self._credential = credential
        self._session: Any = AuthorizedSession(credential)  # type: ignore[no-untyped-call]  # google-auth has few types

    def refresh(self) -> None:
        """Get a new token if the one there is about to expire. firebase_admin would wait two minutes for one.

        Raises:
            GoogleAuthError: The credentials give no token.
        """
        from google.auth.credentials import TokenState
        from google.auth.transport.requests import Request

        if self._credential.token_state != TokenState.FRESH:
            request = Request()
            self._credential.refresh(partial(request, timeout=CALL_SECONDS))

    def body(self, method: str, url: str, **options: Any) -> Any:
        """Return the JSON of the answer to a request; firebase_admin calls this.

        Raises:
            RequestException: No answer came, or its status is an error.
        """
        answer = self.request(method, url, **options)
        answer.raise_for_status()
        return answer.json()

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return the response to a request, whatever its status.

        Raises:
            RequestException: No answer came.
        """
        return self._session.request(method, url, timeout=CALL_SECONDS, **options)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
