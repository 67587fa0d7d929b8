"""Who may call: requests with a token of Google's for a service account, as Cloud Tasks and Cloud Scheduler send."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Final

from ..errors import shown
from .engine import LOG

_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9_.-]+)")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_MAX_AGE: Final = re.compile(r"max-age=(\d+)")
_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What google-auth raises, beside its own errors, for a text that is not a token."""
_SKEW_SECONDS: Final = 10
"""By how much Google's clock may be ahead of ours: a token that it has just made is else one of the future."""
_KEPT_SECONDS: Final = 300.0
"""How long certificates are kept if their server does not say."""


class Oidc:
    """A `verify` of `Flows.app` that lets in who shows a token which Google has signed for this account and audience.

    google-auth checks the signature, the issuer, the audience and the time of the token. Google's certificates are
    fetched once, and kept for as long as their server says: a few hours.

    Args:
        audience: The address that the token was made for: the `url` of `CloudTasks`.
        service_account: The email of the account.

    Raises:
        TypeError: `audience` or `service_account` is not a string.
        ValueError: `audience` or `service_account` is empty, or the account is not an email.
    """

    def __init__(self, *, audience: str, service_account: str) -> None:
        for name, given in (("audience", audience), ("service_account", service_account)):
            value: object = given
            if not isinstance(value, str):
                raise TypeError(f"{name} is a string, not {shown(value)}: an Oidc lets in one account for one audience")
        if not audience or not service_account:
            raise ValueError(
                "audience or service_account is empty: give the url of the queue's tasks, and the email of the account"
            )
        if not _EMAIL.fullmatch(service_account):
            raise ValueError(
                "service_account is the email of the account, such as tasks@my-project.iam.gserviceaccount.com, not "
                f"{shown(service_account)}"
            )
        self.audience = audience
        self.service_account = service_account
        self._transport: Any = None

    async def __call__(self, request: Any) -> bool:
        """Return whether the request carries such a token.

        Args:
            request: Starlette's Request, or anything with its headers.

        Raises:
            google.auth.exceptions.TransportError: Google's certificates cannot be fetched.
        """
        return await asyncio.to_thread(self.allows, request.headers.get("authorization"))

    def allows(self, authorization: str | None) -> bool:
        """Return whether the value of a header ``Authorization`` has such a token: for synchronous hosts.

        This blocks while Google's certificates are fetched.

        Raises:
            google.auth.exceptions.TransportError: Google's certificates cannot be fetched.
        """
        match = _BEARER.fullmatch(authorization or "")
        if match is None:
            return False
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.oauth2 import id_token

        if self._transport is None:
            from google.auth.transport.requests import Request

            self._transport = KeptResponses(Request())
        try:
            claims: Any = id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]  # google-auth has few types
                match[1], self._transport, self.audience, clock_skew_in_seconds=_SKEW_SECONDS
            )
        except TransportError:
            raise
        except (*_MALFORMED, GoogleAuthError) as error:
            kind = type(error).__name__  # the message may have the whole token, or whatever its claims say
            LOG.info("A token was refused (%s): it must be of Google, of now, and for %r.", kind, self.audience)
            return False
        return claims.get("email") == self.service_account and claims.get("email_verified") is True


class KeptResponses:
    """A transport of google-auth that keeps a response for as long as its header ``Cache-Control`` says.

    Args:
        request: The transport that makes the requests.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._kept: dict[str, tuple[float, Any]] = {}

    def __call__(self, url: str, method: str = "GET", **options: Any) -> Any:
        """Return the response, or the one that is kept."""
        until, response = self._kept.get(url, (0.0, None))
        if time.monotonic() < until:
            return response
        response = self._request(url, method=method, **options)
        if response.status == 200:
            headers = {name.lower(): value for name, value in dict(response.headers).items()}
            age = _MAX_AGE.search(headers.get("cache-control", ""))
            self._kept[url] = (time.monotonic() + (float(age[1]) if age is not None else _KEPT_SECONDS), response)
        return response
