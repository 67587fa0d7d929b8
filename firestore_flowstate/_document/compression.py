"""Compression of payload values: zstd, of the standard library where Python has it, else its backport."""

from __future__ import annotations

import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LEVEL: Final = 1  # benchmarks/codecs.py: of the levels that make text of LLM calls 2.5 times smaller, the fastest


def compress(data: bytes) -> bytes:
    """Return the data as one zstd frame."""
    return bytes(zstd.compress(data, _LEVEL))


def decompress(data: bytes, size: int) -> bytes:
    """Return the data of one zstd frame; never makes more than one byte beyond the size.

    Raises:
        ValueError: The frame is damaged or does not hold exactly that many bytes.
    """
    decompressor = zstd.ZstdDecompressor()
    try:
        whole = decompressor.decompress(data, max_length=size + 1)
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if len(whole) != size or not decompressor.eof or decompressor.unused_data:
        raise ValueError(f"it does not hold the {size:,} bytes it declares")
    return bytes(whole)
