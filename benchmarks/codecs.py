"""Compression of payload values: which level, and from how many bytes on.

    python benchmarks/codecs.py

Two kinds of text: the cache of our states (half structure, half words that do not repeat themselves), and prose, the
language reference that Python carries with it. What calls of language models hold lies between. A conversation that
each step repeats compresses better than both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pydoc_data.topics import topics
from typing import Final

from report import at_least, table, title
from rounds import Spread, number, several
from states import L, Size, wire_form

from firestore_flowstate._document.builtin_codecs import compress, decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LENGTHS: Final = (1_000, 2_000, 4_096, 16_000, 64_000, 500_000)
_LEVELS: Final = (-1, 1, 2, 3, 6, 9)
_TABLES: Final = ((12, 7), (13, 6), (13, 7), (14, 6), (14, 7))  # hash_log and min_match. The third is the store's
_SECONDS: Final = several(30) / 1_000
_ROUNDS: Final = several(7)


def main() -> None:
    """Measure all levels and lengths."""
    texts = {"states": _states(500_000), "prose": _prose(400_000)}
    title("Compression by level: how many times smaller, and microseconds of CPU in and out")
    rows: list[tuple[str, ...]] = []
    for name, whole in texts.items():
        for level in _LEVELS:
            packed = zstd.compress(whole, level)
            taken = _micros(lambda: zstd.compress(whole, level))  # noqa: B023  # called at once
            given = _micros(lambda: decompress(packed, len(whole)))  # noqa: B023  # as above
            rows.append(
                (f"{name}, {len(whole):,} bytes, level {level}", f"{len(whole) / len(packed):.2f}", taken, given)
            )
    table(rows, head=["", "smaller", "us in", "us out"])

    title("At level 1, by the size of the table and the shortest match, with one compressor for all")
    rows = []
    for name, whole in texts.items():
        for length in (16_000, 40_000, len(whole)):
            text = whole[:length]
            taken = _micros(lambda: zstd.compress(text, 1))  # noqa: B023  # called at once
            packed = zstd.compress(text, 1)
            rows.append((f"{name}, {length:,} bytes, as it is, made anew", f"{length / len(packed):.2f}", taken))
            for hash_log, min_match in _TABLES:
                compressor = zstd.ZstdCompressor(
                    options={
                        zstd.CompressionParameter.compression_level: 1,
                        zstd.CompressionParameter.hash_log: hash_log,
                        zstd.CompressionParameter.min_match: min_match,
                    }
                )
                once = partial(compressor.compress, text, zstd.ZstdCompressor.FLUSH_FRAME)
                what = f"{name}, {length:,} bytes, 2**{hash_log} places, matches of {min_match}"
                rows.append((what, f"{length / len(once()):.2f}", _micros(once)))
    table(rows, head=["", "smaller", "us in"])

    title("Compression as the store does it, by length")
    rows = []
    for name, whole in texts.items():
        for length in _LENGTHS:
            text = whole[:length]
            packed = compress(text)
            taken, given = _micros(lambda: compress(text)), _micros(lambda: decompress(packed, len(text)))  # noqa: B023
            saved = len(text) - len(packed)
            rows.append((f"{name}, {len(text):,} bytes", f"{len(text) / len(packed):.2f}", taken, given, f"{saved:,}"))
    table(rows, head=["", "smaller", "us in", "us out", "bytes saved"])
    for name, whole in texts.items():
        for length in (16_000, 400_000):
            text = whole[:length]
            at_least(f"{name}, {length:,} bytes, times smaller", len(text) / len(compress(text)), 2.5)


def _states(length: int) -> bytes:
    text = json.dumps(wire_form(Size(L.name, L.steps + 10, L.step_bytes))["cache"], separators=(",", ":")).encode()
    return text[:length]


def _prose(length: int) -> bytes:
    return json.dumps("\n".join(topics[name] for name in sorted(topics)), ensure_ascii=False).encode()[:length]


def _micros(call: Callable[[], object]) -> str:
    call()
    figures = []
    for _ in range(_ROUNDS):
        count, began = 0, time.process_time()
        while time.process_time() - began < _SECONDS:
            call()
            count += 1
        figures.append((time.process_time() - began) / count * 1e6)
    return number(Spread.of(figures).median)


if __name__ == "__main__":
    main()
