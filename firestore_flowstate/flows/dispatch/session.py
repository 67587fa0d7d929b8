"""The HTTP client of a function's queue, bounded in time, and of one process."""

from __future__ import annotations

from functools import partial
from typing import Any

from .calling import CALL_SECONDS


class QueueSession:
    """Stands in the place of firebase_admin's own client, which may take 240 s for a request, and belongs to the App.

    So a process and the children that it has forked would write to one connection.

    Args:
        credential: Of google-auth.
    """

    def __init__(self, credential: Any) -> None:
        from google.auth.transport.requests import AuthorizedSession

        self._credential = credential
        self._session: Any = AuthorizedSession(credential)  # type: ignore[no-untyped-call]  # google-auth has few types

    def refresh(self) -> None:
        """Have a token, for which firebase_admin would wait two minutes.

        Raises:
            GoogleAuthError: There is none.
        """
        from google.auth.credentials import TokenState
        from google.auth.transport.requests import Request

        if self._credential.token_state != TokenState.FRESH:
            request = Request()
            self._credential.refresh(partial(request, timeout=CALL_SECONDS))

    def body(self, method: str, url: str, **options: Any) -> Any:
        """Return the answer to a request, as firebase_admin asks for it.

        Raises:
            RequestException: There is none, or it is an error.
        """
        answer = self.request(method, url, **options)
        answer.raise_for_status()
        return answer.json()

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Return the response to a request."""
        return self._session.request(method, url, timeout=CALL_SECONDS, **options)

    def close(self) -> None:
        """Close its connections."""
        self._session.close()
