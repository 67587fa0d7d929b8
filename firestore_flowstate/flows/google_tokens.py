"""Google's tokens: what one claims, if it is Google's, and the certificates that tell."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

from google.auth.crypt import RSAVerifier
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from .engine import LOG

_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What google-auth raises, beside its own errors, for a text that is not a token."""
_MAX_AGE: Final = re.compile(r"max-age=(\d+)")
_SKEW_SECONDS: Final = 10
"""By how much Google's clock may be ahead of ours: a token that it has just made is else one of the future."""
_KEPT_SECONDS: Final = 300.0
"""How long certificates are kept if their server does not say."""


class KeptResponses:
    """A transport of google-auth for certificates, which are kept for as long as their ``Cache-Control`` says.

    Args:
        request: The transport that makes the requests; None: google-auth's own.
    """

    def __init__(self, request: Any = None) -> None:
        self._request = request or Request()
        self._kept: dict[str, tuple[float, Any]] = {}

    def __call__(self, url: str, method: str = "GET", **options: Any) -> Any:
        """Return the response, or the one that is kept.

        Raises:
            TransportError: The certificates cannot be fetched, or what came are none.
        """
        until, response = self._kept.get(url, (0.0, None))
        if time.monotonic() < until:
            return response
        response = self._request(url, method=method, **options)
        if response.status == 200:
            _check_certificates(response.data, url)
            headers = {name.lower(): value for name, value in dict(response.headers).items()}
            age = _MAX_AGE.search(headers.get("cache-control", ""))
            self._kept[url] = (time.monotonic() + (float(age[1]) if age is not None else _KEPT_SECONDS), response)
        return response


def claims_of(token: str, certificates: KeptResponses, *, audience: str) -> Any:
    """Return what the token claims; None: it is not a token of Google's, of now, and for the audience.

    Raises:
        TransportError: The certificates cannot be fetched, or what came are none.
    """
    try:
        return id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]  # google-auth has few types
            token, certificates, audience, clock_skew_in_seconds=_SKEW_SECONDS
        )
    except TransportError:
        raise
    except (*_MALFORMED, GoogleAuthError) as error:
        kind = type(error).__name__  # the message may have the whole token, or whatever its claims say
        LOG.info("A token was refused (%s): it must be of Google, of now, and for %r.", kind, audience)
        return None


def _check_certificates(data: bytes, url: str) -> None:
    """Refuse what is not certificates by their ids, such as a proxy's page of HTML: every token would be refused by it.

    Raises:
        TransportError: The data is something else.
    """
    try:
        certificates = json.loads(data)
        if not certificates:
            raise ValueError("there are none")
        for certificate in certificates.values():
            RSAVerifier.from_string(certificate)  # type: ignore[no-untyped-call]  # google-auth has few types
    except (*_MALFORMED, GoogleAuthError) as error:
        raise TransportError(  # type: ignore[no-untyped-call]  # google-auth has few types
            f"what {url} answered are not Google's certificates, so that no token can be verified now: {error}"
        ) from error
