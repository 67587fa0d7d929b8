"""Continuation tokens: where a page ended, bound to the collection, order and filters it was asked with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from typing import Final, NamedTuple

from .._limits import is_flow_id, is_int64
from ..errors import InvalidContinuationTokenError
from ..query import FlowStateQuery, milliseconds

_VERSION: Final = 1  # of the form of tokens
_ORDER: Final = "startTime desc, id desc"
_CHECK_BYTES: Final = 6
_FIELDS: Final = 4


class Position(NamedTuple):
    """A place in the order of a list.

    Attributes:
        start_time: The start in milliseconds since the epoch, as the int or float that is stored.
        id: The id of a document.
    """

    start_time: int | float
    id: str


def scope_of(collection: str, query: FlowStateQuery) -> str:
    """Return what a token is bound to. It is equal for queries that differ only in limit, token and on_error."""
    after, before = (None if t is None else milliseconds(t) for t in (query.started_after, query.started_before))
    filters = [query.name, query.status, query.blocked_on, after, before, sorted(query.where.items())]
    text = json.dumps([collection, _ORDER, filters], separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=9).hexdigest()


def to_token(position: Position, scope: str) -> str:
    """Return the token that asks for what comes after the position."""
    body = json.dumps([_VERSION, scope, position.start_time, position.id], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(_check(body) + body).decode().rstrip("=")


def from_token(token: str, scope: str) -> Position:
    """Return the position that the token was made for.

    Raises:
        InvalidContinuationTokenError: The token is damaged, of a newer version, or was given for another list.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _damaged(token) from None
    body = raw[_CHECK_BYTES:]
    if not body or _check(body) != raw[:_CHECK_BYTES] or base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
        raise _damaged(token)
    # Anybody can compute the check, so each field is checked as those of a query are.
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _damaged(token) from None
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int:
        raise _damaged(token)
    if fields[0] != _VERSION:
        raise InvalidContinuationTokenError(
            f"The continuation token is of version {fields[0]!r:.20}; this version of the package knows {_VERSION}. "
            "Start again from the first page, or upgrade."
        )
    if len(fields) != _FIELDS or not _is_start(fields[2]) or not is_flow_id(fields[3]):
        raise _damaged(token)
    if fields[1] != scope:
        raise InvalidContinuationTokenError(
            "The continuation token was given for another collection or other filters. "
            "Ask for the next page with the query of the page before, and start again if filters change."
        )
    return Position(fields[2], fields[3])


def _is_start(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return type(value) is int and is_int64(value)


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES, person=b"flowstate").digest()


def _damaged(token: str) -> InvalidContinuationTokenError:
    return InvalidContinuationTokenError(
        f"The continuation token {token!r:.40} is damaged or was not given by this store. "
        "Pass it exactly as the page before returned it, or start again without one."
    )
