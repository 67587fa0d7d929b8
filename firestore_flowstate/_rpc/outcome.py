"""How a call ended that did not succeed, in this package's words: no exception of grpc goes beyond the channel."""

from __future__ import annotations

from typing import Final

CHANNEL_CLOSED: Final = "the channel is closed"
STORE_CLOSED: Final = "the store was closed while it was watched"


class CallFailed(Exception):  # noqa: N818  # an outcome to judge; what is an error is in errors.py
    """One attempt of a call failed. The grpc exception, if there was one, is the cause.

    Attributes:
        code: The name of the grpc status, such as "UNAVAILABLE".
        message: What the server, or grpc itself, said.
        details: The google.rpc details of the status, serialized; empty if there were none.
    """

    def __init__(self, code: str, message: str, *, details: bytes = b"") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details


class Refused(Exception):  # noqa: N818  # as above
    """The server answered that it did not apply the commit. The cause is kept.

    Attributes:
        code: The name of the grpc status: FAILED_PRECONDITION, ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT,
            OUT_OF_RANGE, or RESOURCE_EXHAUSTED if the request was larger than the server takes.
        message: What the server said. Texts differ between the emulator and production: go by the code.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Ambiguous(Exception):  # noqa: N818  # as above
    """The commit was sent, and whether it was applied is not known. The cause is kept."""
