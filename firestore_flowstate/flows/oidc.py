"""Who may call: requests with a token of Google's for a service account, as Cloud Tasks and Cloud Scheduler send."""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import TYPE_CHECKING, Any, Final

from ..errors import shown
from .arguments import check_account
from .engine import LOG

if TYPE_CHECKING:
    from .google_tokens import KeptResponses

_TAKEN_OFF: Final = ".SIGNATURE_REMOVED_BY_GOOGLE"
"""How a token ends that Cloud Run has checked itself: https://cloud.google.com/run/docs/troubleshooting#signature-removed"""
_BEARER: Final = re.compile(r"[Bb]earer +([A-Za-z0-9_.-]+)")


class Oidc:
    """A `verify` of `Flows.app` that lets in who shows a token which Google has signed for this account and audience.

    google-auth checks the signature, the issuer, the audience and the time of the token. Google's certificates are
    fetched once, by all who wait together, and kept for as long as their server says: a few hours. They are kept for a
    day at most, and for a second if they are not to be kept, which serves a burst of requests.

    The service has to be one that anybody may call. A private service of Cloud Run, or of Firebase, gets tokens that
    Google has checked, and whose signatures it has taken off then. They are refused, and a warning says so once: give
    ``verify=None`` there.

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
        check_account(service_account, "service_account")
        self.audience = audience
        self.service_account = service_account
        self._certificates: KeptResponses | None = None
        self._has_warned = False

    async def __call__(self, request: Any) -> bool:
        """Return whether the request carries such a token.

        Args:
            request: Starlette's Request, or anything with its headers.

        Raises:
            FlowStateError: Google's certificates cannot be fetched, or something else came. `Flows.app` answers 500
                then, so that the queue tries again. The error of the client library, if it raised one, is the
                ``__cause__``.
        """
        token = self._formed(request.headers.get("authorization"))
        return token is not None and self._is_let_in(token, await self._kept().get())

    def allows(self, authorization: str | None) -> bool:
        """Return whether the value of a header ``Authorization`` has such a token: for synchronous hosts.

        This blocks while Google's certificates are fetched, for 10 seconds at most.

        Raises:
            FlowStateError: Google's certificates cannot be fetched, or something else came. Answer 503, so that the
                caller tries again. The error of the client library, if it raised one, is the ``__cause__``.
        """
        token = self._formed(authorization)
        return token is not None and self._is_let_in(token, self._kept().wait())

    def _formed(self, authorization: str | None) -> str | None:
        """Return the token if it has the form of one of Google's: nobody fetches or waits for anything else."""
        match = _BEARER.fullmatch(authorization or "")
        if match is None:
            LOG.info("A request was refused: it has no header Authorization of the form Bearer TOKEN.")
            return None
        if match[1].endswith(_TAKEN_OFF) and _has_form(match[1]):
            LOG.log(
                logging.INFO if self._has_warned else logging.WARNING,
                "A token was refused: it ends as those do whose signature Cloud Run has taken off. If this service is "
                "private, give verify=None, or let anybody call it (--allow-unauthenticated). If anybody may call it, "
                "somebody has made this token up.",
            )
            self._has_warned = True
            return None
        if not _has_form(match[1]):
            LOG.info(
                "A token was refused: it must be of Google, of now, and for %r. It has another form.", self.audience
            )
            return None
        return match[1]

    def _kept(self) -> KeptResponses:
        from .google_tokens import KeptResponses

        if self._certificates is None:
            self._certificates = KeptResponses()
        return self._certificates

    def _is_let_in(self, token: str, certificates: Any) -> bool:
        from .google_tokens import claims_of

        claims = claims_of(token, certificates, audience=self.audience)
        if claims is None:
            return False
        is_let_in = claims.get("email") == self.service_account and claims.get("email_verified") is True
        if not is_let_in:
            LOG.info(
                "A token was refused: it must be of the account %r, with an email that Google has verified. It is of "
                "Google, of now, and for %r.",
                self.service_account,
                self.audience,
            )
        return is_let_in


def _has_form(token: str) -> bool:
    """Return whether the token has three parts and a header that names a key and Google's algorithm."""
    parts = token.split(".")
    try:
        header = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError):
        return False
    if len(parts) != 3 or not isinstance(header, dict):
        return False
    return header.get("alg") == "RS256" and isinstance(header.get("kid"), str)
