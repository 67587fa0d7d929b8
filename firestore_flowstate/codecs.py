"""Codecs of the application's own for payload values."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class PayloadCodec(Protocol):
    """Turns the bytes of a payload value into others and back, such as a compressor with a dictionary.

    Its name is stored with each value that it has encoded. A codec of that name must be able to decode the value for as
    long as the value is stored.

    ::

        class Bzip2:
            name = "bz2"

            def encode(self, data: bytes) -> bytes:
                return bz2.compress(data)

            def decode(self, data: bytes) -> bytes:
                return bz2.decompress(data)

        settings = FlowStateSettings(codecs=[Bzip2()])

    Attributes:
        name: 1 to 40 ASCII letters, digits, dots, dashes and underscores.
    """

    name: str

    def encode(self, data: bytes, /) -> bytes:
        """Return what to store for the data. Raise any exception if it cannot: FlowStateEncodeError keeps it.

        Args:
            data: The JSON of a payload value, which is not compressed yet, or what the codec before has made of it.
        """
        ...

    def decode(self, data: bytes, /) -> bytes:
        """Return the data of what was stored. Raise any exception if it cannot: FlowStateDecodeError keeps it.

        Args:
            data: What `encode` has returned, perhaps in another process and by an earlier release of the application.
        """
        ...
