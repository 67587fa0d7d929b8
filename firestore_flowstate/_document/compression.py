"""Compression of payload values: zstd, of the standard library if Python has it, else its backport."""

from __future__ import annotations

import sys
from typing import Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# benchmarks/codecs.py: of what makes text of LLM calls 2.5 times smaller, the fastest. A table of 32 KB stays in the
# cache of a core, and matches of less than seven bytes are not worth the search.
_OPTIONS: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.hash_log: 13,
    zstd.CompressionParameter.min_match: 7,
}
_idle: Final[list[zstd.ZstdCompressor]] = []  # no more than were ever in use at once


def compress(data: bytes) -> bytes:
    """Return the data as one zstd frame."""
    # If a compressor is made for each value, a tenth of the time goes into its memory, which has 40 KB.
    try:
        compressor = _idle.pop()
    except IndexError:
        compressor = zstd.ZstdCompressor(options=_OPTIONS)
    frame = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    _idle.append(compressor)  # one that has failed is left behind
    return bytes(frame)


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
