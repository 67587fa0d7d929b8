"""Google's tokens: what one claims, if it is Google's, and the certificates that tell."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from math import isfinite
from threading import Lock, Thread
from typing import Any, Final

from google.auth.crypt import RSAVerifier
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import id_token
from requests import Session

from firestore_flowstate import FlowStateError

from .dispatch.queue_calls import OnePerProcess
from .engine import LOG

CERTIFICATES_URL: Final = "https://www.googleapis.com/oauth2/v1/certs"
FETCH_SECONDS: Final = 10.0
"""How long anybody waits for a fetch of the certificates."""
PAUSE_SECONDS: Final = 1.0
"""How long after a fetch that failed none begins."""
_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What google-auth raises, beside its own errors, for a text that is not a token."""
_DIRECTIVE: Final = re.compile(r'([^\s=,"]+)(?:=(?:"([^"]*)"|([^\s,]*)))?')
"""A directive of ``Cache-Control``: its name, and its value with or without quotes."""
_SECONDS: Final = re.compile(r"[0-9]+")
_SKEW_SECONDS: Final = 10
"""By how much Google's clock may be ahead of ours: a token that it has just made is else one of the future."""
_KEPT_SECONDS: Final = 300.0
"""How long certificates are kept if their server does not say."""
LEAST_SECONDS: Final = 1.0
"""How long certificates are kept if they are not to be kept at all, or what their server says cannot be read. A queue
delivers 500 tasks a second unless it is set otherwise: one fetch serves as many, and no header makes it more than that.
"""
_MOST_SECONDS: Final = 86_400.0
"""How long certificates are kept at most. Google says some hours, and withdraws a key that is lost."""


class KeptResponses:
    """Google's certificates, fetched once for all who ask, and kept for as long as their server says, 1 s to a day.

    Each process fetches its own, on a thread of its own, so that a server which hangs takes no thread of asyncio's.
    Whoever asks meanwhile waits for the same fetch, from any thread and event loop. After one that failed there is a
    pause, in which nobody else need wait to hear the same.

    Args:
        request: The transport of google-auth that makes the requests.
    """

    def __init__(self, request: Any = None) -> None:
        self._here = OnePerProcess(lambda: _Fetches(request or _request))

    def wait(self) -> Any:
        """Return the response, for synchronous hosts.

        Raises:
            FlowStateError: The certificates cannot be fetched, or something else came.
        """
        fetch = self._here.here().latest()
        wait((fetch.outcome,), timeout=fetch.seconds_left())
        return fetch.response()

    async def get(self) -> Any:
        """Return the response.

        Raises:
            FlowStateError: The certificates cannot be fetched, or something else came.
        """
        fetch = self._here.here().latest()
        if not fetch.outcome.done():
            waiting = asyncio.wrap_future(fetch.outcome)
            try:
                await asyncio.wait([waiting], timeout=fetch.seconds_left())
            finally:
                waiting.cancel()
        return fetch.response()


class _Fetch:
    """One fetch. Its outcome is the response or an error, and nobody who waits can cancel it."""

    def __init__(self) -> None:
        self.outcome: Future[Any] = Future()
        self.outcome.set_running_or_notify_cancel()
        self.deadline = time.monotonic() + FETCH_SECONDS
        self.until = self.deadline + PAUSE_SECONDS

    def seconds_left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def response(self) -> Any:
        """Return the response, if it has come.

        Raises:
            FlowStateError: It has not come, or is an error; an error of its own for each who waits.
        """
        outcome = self.outcome.result() if self.outcome.done() else None
        if outcome is None:
            raise _unverified(f"{CERTIFICATES_URL} has not answered within {FETCH_SECONDS:g} s")
        if isinstance(outcome, Exception):
            raise _unverified(str(outcome)) from outcome
        return outcome


class _Fetches:
    """The latest fetch of this process."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._lock = Lock()
        self._latest: _Fetch | None = None

    def latest(self) -> _Fetch:
        """Return the fetch that counts now; begin it if there is none, or the last one counts no more."""
        with self._lock:
            if self._latest is None or time.monotonic() >= self._latest.until:
                fetch = _Fetch()
                Thread(target=self._run, args=(fetch,), name="flow-certificates", daemon=True).start()
                self._latest = fetch
            return self._latest

    def _run(self, fetch: _Fetch) -> None:
        outcome: Any
        try:
            outcome = self._request(CERTIFICATES_URL, method="GET", timeout=FETCH_SECONDS)
            kept = _checked_seconds(outcome)
        except Exception as error:  # noqa: BLE001  # those who wait are told
            outcome, kept = error, PAUSE_SECONDS
        fetch.until = time.monotonic() + kept
        fetch.outcome.set_result(outcome)


def claims_of(token: str, response: Any, *, audience: str) -> Any:
    """Return what the token claims; None: it is not a token of Google's, of now, and for the audience.

    Args:
        token: The token.
        response: The response with the certificates.
        audience: The audience.
    """
    try:
        claims: Any = id_token.verify_oauth2_token(  # type: ignore[no-untyped-call]  # google-auth has few types
            token, lambda *_, **__: response, audience, clock_skew_in_seconds=_SKEW_SECONDS
        )
        _check_times(claims)
    except (*_MALFORMED, GoogleAuthError) as error:
        kind = type(error).__name__  # the message may have the whole token, or whatever its claims say
        LOG.info("A token was refused (%s): it must be of Google, of now, and for %r.", kind, audience)
        return None
    return claims


def _check_times(claims: Any) -> None:
    """Refuse what google-auth lets pass: a time that is NaN, as which nothing is late, and a token of the future.

    Raises:
        ValueError: A time is not a number, or the token is not yet to be used.
    """
    times = [claims[name] for name in ("iat", "exp", "nbf") if name in claims]
    if not all(type(each) is int or (type(each) is float and isfinite(each)) for each in times):
        raise ValueError("a time of the token is not a number")
    if claims.get("nbf", 0) > time.time() + _SKEW_SECONDS:
        raise ValueError("the token is not yet to be used")


def _request(url: str, *, method: str, timeout: float) -> Any:
    """Make a request on a connection of its own, since hours go by until the next one."""
    with Session() as session:
        return Request(session)(url, method=method, timeout=timeout)


def _checked_seconds(response: Any) -> float:
    """Return how long the response is to be kept.

    What is not certificates by their ids, such as a proxy's page of HTML, is not kept: every token would be refused.

    Raises:
        ValueError: The response is something else.
    """
    if response.status != 200:
        raise ValueError(f"{CERTIFICATES_URL} answered {response.status}")
    try:
        certificates = json.loads(response.data)
        if not certificates:
            raise ValueError("there are none")
        for certificate in certificates.values():
            RSAVerifier.from_string(certificate)  # type: ignore[no-untyped-call]  # as above
    except (*_MALFORMED, GoogleAuthError) as error:
        raise ValueError(f"{CERTIFICATES_URL} answered with something other than certificates: {error}") from error
    return kept_seconds(dict(response.headers))


def kept_seconds(headers: Mapping[str, str]) -> float:
    """Return how long a response is to be kept, by the headers of its server and of a cache in between.

    Args:
        headers: The headers. The case of their names does not count, nor does that of the directives.
    """
    found = {name.lower(): value for name, value in headers.items()}
    said = [(name.lower(), quoted or bare) for name, quoted, bare in _DIRECTIVE.findall(found.get("cache-control", ""))]
    ages = [value for name, value in said if name == "max-age"]
    if any(name in ("no-store", "no-cache") for name, _ in said) or not all(map(_SECONDS.fullmatch, ages)):
        return LEAST_SECONDS
    if not ages:
        return _KEPT_SECONDS
    age = found.get("age", "")
    left = min(map(_delta, ages)) - (_delta(age) if _SECONDS.fullmatch(age) else 0.0)
    return min(max(left, LEAST_SECONDS), _MOST_SECONDS)


def _delta(text: str) -> float:
    return min(float(text), 2.0**31)  # as RFC 9111 takes longer ones: of two infinities nothing can be told


def _unverified(text: str) -> FlowStateError:
    return FlowStateError(f"no token can be verified now: {text}. Let the caller try again")
