"""Who may call: requests with a token of Google's for a service account, as Cloud Tasks and Cloud Scheduler send."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

from ..errors import shown

_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9_.-]+)")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


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
        self._certificates: Any = None

    async def __call__(self, request: Any) -> bool:
        """Return whether the request carries such a token.

        Args:
            request: Starlette's Request, or anything with its headers.

        Raises:
            google.auth.exceptions.TransportError: Google's certificates cannot be fetched, or what came are none.
        """
        return await asyncio.to_thread(self.allows, request.headers.get("authorization"))

    def allows(self, authorization: str | None) -> bool:
        """Return whether the value of a header ``Authorization`` has such a token: for synchronous hosts.

        This blocks while Google's certificates are fetched.

        Raises:
            google.auth.exceptions.TransportError: Google's certificates cannot be fetched, or what came are none.
        """
        match = _BEARER.fullmatch(authorization or "")
        if match is None:
            return False
        from .google_tokens import KeptResponses, claims_of

        if self._certificates is None:
            self._certificates = KeptResponses()
        claims = claims_of(match[1], self._certificates, audience=self.audience)
        if claims is None:
            return False
        return claims.get("email") == self.service_account and claims.get("email_verified") is True
