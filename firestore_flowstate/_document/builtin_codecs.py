"""The codecs of the package itself: compression by zstd, and encryption by AES-GCM with a keyring.

zstd is that of the standard library if Python has it, else its backport. Encryption needs the extra `crypto`.
"""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ..errors import FlowStateDecodeError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM


if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# By benchmarks/codecs.py these are the fastest options that make the text of LLM calls 2.5 times smaller. A hash table
# of 32 KB stays in the cache of a core, and matches of less than seven bytes are not worth the search.
_OPTIONS: Final[dict[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.hash_log: 13,
    zstd.CompressionParameter.min_match: 7,
}
_idle: Final[list[zstd.ZstdCompressor]] = []  # compressors to use again: as many as were ever in use at once


_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 8.2: random nonces of 96 bits


def compress(data: bytes) -> bytes:
    """Return the data as one zstd frame."""
    # Compressors are used again. To make one for each value takes a tenth of the time, for its 40 KB of memory.
    try:
        compressor = _idle.pop()
    except IndexError:
        compressor = zstd.ZstdCompressor(options=_OPTIONS)
    frame = compressor.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)
    _idle.append(compressor)  # not reached by a compressor that has failed
    return bytes(frame)


def decompress(data: bytes, size: int) -> bytes:
    """Return the data of one zstd frame.

    Args:
        data: The frame.
        size: How many bytes it is to hold. No more than one byte beyond them is decompressed, whatever it holds.

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


class KeyFailedError(Exception):
    """The application's function for a key raised, or returned what is not an AES key. `__cause__` is its exception."""


class Keyring:
    """Keys by id: new values are encrypted with the current one, old ones decrypted with theirs.

    Args:
        keys: The keys by id, each 16, 24 or 32 bytes in base64, or a function that returns such a key's bytes
            when it is first needed (a KMS).
        current: The id of the key for new values.

    Raises:
        ImportError: The package `cryptography` is not installed.
    """

    def __init__(self, keys: Mapping[str, str | Callable[[], bytes]], current: str) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import aead
        except ImportError as error:
            raise ImportError(
                "Encryption needs the package cryptography: pip install 'firestore-flowstate[crypto]'"
            ) from error
        self._aesgcm = aead.AESGCM
        self._keys = dict(keys)
        self._ciphers: dict[str, AESGCM] = {}
        self.current = current

    def encrypt(self, data: bytes, bound_to: bytes) -> tuple[str, bytes]:
        """Return the id of the current key, and the nonce with the ciphertext behind it.

        Args:
            data: What to encrypt.
            bound_to: Text that is not stored, and that `decrypt` must be given again.

        Raises:
            KeyFailedError: The application's function did not return the key.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self.current, nonce + self._cipher(self.current).encrypt(nonce, data, bound_to)

    def decrypt(self, key_id: str, data: bytes, bound_to: bytes, logical: str) -> bytes:
        """Return what was encrypted.

        Args:
            key_id: The id of the key that has encrypted it.
            data: The nonce with the ciphertext behind it.
            bound_to: The text that `encrypt` was given.
            logical: The name of the value, for errors.

        Raises:
            FlowStateDecodeError: The key is unknown, its function failed, it is another key than the one that has
                encrypted the data, or the data was changed or has been moved here from another flow or field.
        """
        from cryptography.exceptions import InvalidTag

        if key_id not in self._keys:
            known = ", ".join(self._keys)
            raise FlowStateDecodeError(
                f"{logical} is encrypted with the key {key_id!r:.80}; the settings have only: {known}"
            )
        try:
            cipher = self._cipher(key_id)
        except KeyFailedError as error:
            raise FlowStateDecodeError(f"{logical} cannot be decrypted: {error}") from error.__cause__
        try:
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound_to)
        except (InvalidTag, ValueError) as error:
            raise FlowStateDecodeError(
                f"{logical} cannot be decrypted with the key {key_id!r:.80}: another key has this id, or the value was "
                "changed or belongs to another flow or field"
            ) from error

    def _cipher(self, key_id: str) -> AESGCM:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            key = self._keys[key_id]
            try:
                cipher = self._aesgcm(key() if callable(key) else base64.b64decode(key))
            except Exception as error:
                raise KeyFailedError(f"the key {key_id!r:.80} cannot be had: {error!r}") from error
            self._ciphers[key_id] = cipher
        return cipher
