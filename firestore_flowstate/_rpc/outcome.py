"""How a call ended that did not succeed, and what follows: may it be sent again, was it applied?

No exception of grpc goes beyond the channel.
"""

from __future__ import annotations

from enum import Flag, auto
from typing import Final

CHANNEL_CLOSED: Final = "the channel is closed"
STORE_CLOSED: Final = "the store was closed while it was watched"
PLUGIN_FAILED: Final = "Getting metadata from plugin failed"
"""What grpc says, as UNAVAILABLE, when google.auth raised an error instead of giving a token."""
# How the texts of grpc's client begin if the request was never sent; the third is that of its newer resolvers of names.
# If grpc changes such a text, the commit is taken for ambiguous, which costs a read and is never wrong.
_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "errors resolving ",
    PLUGIN_FAILED,
    CHANNEL_CLOSED,
)
# What google.auth says of credentials that no retry makes valid again.
_LOST: Final = (
    "invalid_grant",
    "invalid_client",
    "invalid_scope",
    "unauthorized_client",
    "invalid_rapt",
    "Reauthentication",
)
# What servers and grpc's client say of a message over their limit. Its code is that of a used up quota.
_SIZE: Final = ("larger than max", "exceeds maximum size", "payload size exceeds")
# What grpc's client says, as UNKNOWN, of HTTP 431 (RFC 6585): the server has not looked at the request itself.
_HEADERS: Final = "http2 header with status: 431"


class Meaning(Flag):
    """What a status of grpc means for the call that it ends."""

    TRANSIENT = auto()  # a read is tried again
    AMBIGUOUS = auto()  # a commit may have been applied
    REFUSED = auto()  # a commit was not applied, for a reason that its caller must judge
    PRECONDITION = auto()  # that reason may be what others have written
    DATABASE = auto()  # the status may be about the database or its project, and not about a document
    DENIED = auto()  # the caller is not known, or lacks a permission


_LOST_REPLY: Final = Meaning.TRANSIENT | Meaning.AMBIGUOUS
_NOT_AS_EXPECTED: Final = Meaning.REFUSED | Meaning.PRECONDITION

STATUSES: Final = {
    "CANCELLED": _LOST_REPLY,
    "DEADLINE_EXCEEDED": _LOST_REPLY,
    "INTERNAL": _LOST_REPLY,
    "UNAVAILABLE": _LOST_REPLY,  # but for `_NEVER_SENT`
    "UNKNOWN": _LOST_REPLY,  # but for `_HEADERS`
    "DATA_LOSS": Meaning.AMBIGUOUS,
    "ABORTED": Meaning.TRANSIENT,
    "RESOURCE_EXHAUSTED": Meaning.TRANSIENT,  # but for `_SIZE`
    "ALREADY_EXISTS": _NOT_AS_EXPECTED,
    "FAILED_PRECONDITION": _NOT_AS_EXPECTED | Meaning.DATABASE,
    "NOT_FOUND": _NOT_AS_EXPECTED | Meaning.DATABASE,
    "INVALID_ARGUMENT": Meaning.REFUSED | Meaning.DATABASE,
    "OUT_OF_RANGE": Meaning.REFUSED,
    "PERMISSION_DENIED": Meaning.DENIED | Meaning.DATABASE,
    "UNAUTHENTICATED": Meaning.DENIED,
}
"""What each status means. A status that is not here, such as UNIMPLEMENTED, is an error without further meaning."""


class CallFailed(Exception):  # noqa: N818  # an outcome to judge; what is an error is in errors.py
    """One attempt of a call failed. Its cause is the exception of grpc, if there was one.

    Attributes:
        code: The name of the grpc status, such as "UNAVAILABLE".
        message: What the server, or grpc itself, said.
        details: The google.rpc details of the status, serialized; empty if there were none.
        began: When the attempt began, by `monotonic`; None until `repeat` has noted it.
    """

    def __init__(self, code: str, message: str, *, details: bytes = b"") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details
        self.began: float | None = None


class Refused(Exception):  # noqa: N818  # as above
    """The server answered that it did not apply the commit. The cause is kept.

    Attributes:
        code: The name of the grpc status: FAILED_PRECONDITION, ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT,
            OUT_OF_RANGE, or RESOURCE_EXHAUSTED if the request was larger than the server takes.
        message: What the server said. Its texts differ between the emulator and production, so code goes by `code`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Ambiguous(Exception):  # noqa: N818  # as above
    """The commit was sent, and whether it was applied is not known. The cause is kept.

    Attributes:
        sent_at: When it was sent, or a little before, by `monotonic`. Attempts that failed to connect came earlier.
    """

    def __init__(self, message: str, *, sent_at: float) -> None:
        super().__init__(message)
        self.sent_at = sent_at


class Exhausted(Exception):  # noqa: N818  # as above
    """The deadline does not allow another attempt. The cause is the last failure.

    Attributes:
        attempts: How many attempts were made, possibly none.
        failure: The failure of the last attempt that did not just run out of time; None if no attempt was made.
    """

    def __init__(self, attempts: int, failure: CallFailed | None) -> None:
        super().__init__(attempts, failure)
        self.attempts = attempts
        self.failure = failure


def means(code: str, meaning: Meaning) -> bool:
    """Return whether the status has the meaning."""
    return meaning in STATUSES.get(code, Meaning(0))


def is_about_size(failure: CallFailed) -> bool:
    """Return whether a request or reply was over a limit of size, which no retry helps, and not over a quota."""
    return failure.code == "RESOURCE_EXHAUSTED" and any(words in failure.message for words in _SIZE)


def is_about_headers(failure: CallFailed) -> bool:
    """Return whether the headers of a call were larger than the server takes, which no retry helps."""
    return failure.code == "UNKNOWN" and _HEADERS in failure.message


def is_ambiguous(failure: CallFailed) -> bool:
    """Return whether a commit that failed so may have been applied all the same."""
    if is_about_headers(failure):
        return False
    return means(failure.code, Meaning.AMBIGUOUS) and not _was_never_sent(failure)


def read_again(failure: CallFailed) -> bool:
    """Return whether a read that failed so is worth another attempt."""
    if PLUGIN_FAILED in failure.message and any(words in failure.message for words in _LOST):
        return False
    return means(failure.code, Meaning.TRANSIENT) and not (is_about_size(failure) or is_about_headers(failure))


def commit_again(failure: CallFailed) -> bool:
    """Return whether a commit that failed so was certainly not applied and may be sent again unchanged."""
    return read_again(failure) and not is_ambiguous(failure)


def _was_never_sent(failure: CallFailed) -> bool:
    return failure.code == "UNAVAILABLE" and failure.message.startswith(_NEVER_SENT)
