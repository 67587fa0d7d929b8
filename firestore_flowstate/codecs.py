"""Codecs of the application's own for payload values."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class PayloadCodec(Protocol):
    """Turns the bytes of a payload value into others and back, such as a compressor with a dictionary.

    Its name is stored with each value that went through it; what was stored under a name must be decodable
    under that name for as long as it is stored.

    Attributes:
        name: 1 to 40 ASCII letters, digits, dots, dashes and underscores.
    """

    name: str

    def encode(self, data: bytes, /) -> bytes:
        """Return what to store for the data. Raise any exception if it cannot: FlowStateEncodeError keeps it."""
        ...

    def decode(self, data: bytes, /) -> bytes:
        """Return the data of what was stored. Raise any exception if it cannot: FlowStateDecodeError keeps it."""
        ...
