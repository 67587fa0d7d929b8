from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from firestore_flowstate import FlowStateDecodeError
from firestore_flowstate._document.builtin_codecs import compress, decompress
from firestore_flowstate._document.payload import MAX_VALUE_BYTES, Payloads, check_together

PAYLOADS = Payloads(compress_over=4096)


def packed(text: bytes) -> bytes:
    return PAYLOADS.pack(text, "flows/flow", "input")


def test_what_compresses_beyond_measure_is_never_a_bomb() -> None:
    """A state may have many values of one letter: they are stored so that readers do not refuse them."""
    text = b'"' + b"x" * (64 * 2**20) + b'"'
    stored = packed(text)
    count = MAX_VALUE_BYTES // len(text) + 1
    check_together([stored] * count)

    assert text == PAYLOADS.unpack(stored, "flows/flow", "input")


def test_values_together_may_declare_512_mib_plus_100_times_what_they_take() -> None:
    """One byte more is refused, whatever each of them declares. A value that is not compressed declares its bytes."""
    plain = b'"x"'
    one = declaring(300 * 2**20)
    rest = declaring(0)
    room = 512 * 2**20 + 100 * (len(plain) + len(one) + len(rest)) - len(plain) - 300 * 2**20
    check_together([plain, one, declaring(room)])

    with pytest.raises(FlowStateDecodeError, match="would unpack to"):
        check_together([plain, one, declaring(room + 1)])


def declaring(size: int) -> bytes:
    """Return an envelope that declares so many bytes, of which none is there."""
    return b"\xf5zstd=%012d\n" % size


def test_small_values_compress_as_far_as_they_go() -> None:
    """A log does not have room for enough small values to be a bomb."""
    text = b'"' + b"x" * 60_000 + b'"'

    assert len(packed(text)) < len(text) / 500
    check_together([packed(text)] * 8_000)
    assert text == PAYLOADS.unpack(packed(text), "flows/flow", "input")


def test_a_large_value_without_layers_is_bytes() -> None:
    """A value that compression would make too small for readers is not compressed, and is an envelope all the same."""
    small, large = (b'"' + b"x" * (size - 2) + b'"' for size in (PAYLOADS.compress_over, 100_000))

    assert small == packed(small)
    assert b"\xf5\n" + large == packed(large)
    assert large == PAYLOADS.unpack(packed(large), "flows/flow", "input")


def test_many_threads_at_once_make_frames_of_their_own() -> None:
    """Compressors are used again, by one value at a time."""
    texts = [f"value {number} ".encode() * 5_000 for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        frames = list(threads.map(compress, texts))

    assert texts == [decompress(frame, len(text)) for frame, text in zip(frames, texts, strict=True)]
    assert frames == [compress(text) for text in texts]
