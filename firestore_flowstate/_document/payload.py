"""Payload values: JSON text, and the chain of codecs it goes through on its way to a document.

A small value stays as it is: JSON text, readable in the console. Anything else is bytes in an envelope: a byte
that no JSON text starts with, a line that names the codecs in the order in which they were applied, and the body::

    0xF5 "zstd=52430;aes-gcm=key-1" LF body

If a reader does not know a codec that the line names, or the codec fails, the value cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ..codecs import PayloadCodec
from ..errors import FlowStateDecodeError, FlowStateEncodeError, FlowStateTooLargeError
from .builtin_codecs import KeyFailedError, Keyring, compress, decompress
from .json_text import decode, decode_each
from .stored_values import MAX_STATE_PARTS

_ENVELOPE: Final = b"\xf5"
MAX_VALUE_BYTES: Final = 512 * 1024 * 1024  # of JSON of one value, a limit of ours: it bounds what a bomb unpacks to
MAX_EXPANSION: Final = 100  # a limit of ours: unpacked bytes of a state for each stored one, beyond MAX_VALUE_BYTES
FREE_EXPANSION_BYTES: Final = 64 * 1024  # of JSON: smaller values may expand more, since a log has no room for many
NATIVE_IN_THE_CLEAR: Final = (
    "it is a native document, which is never encrypted, and the settings require encryption. Migrate it, by a store "
    "with the keys and without require_encryption: that encrypts it"
)
_DECODED_TOGETHER: Final = 1024 * 1024  # bytes of JSON that may be in memory twice: decoding together copies texts
_SMALL: Final = 64 * 1024  # bytes of JSON, far below each limit, so that none needs to be checked
_ZSTD: Final = "zstd"
_AES: Final = "aes-gcm"


@dataclass(frozen=True, kw_only=True)
class Payloads:
    """How values are packed for a collection, and unpacked again.

    Attributes:
        compress_over: Values with more bytes than this are compressed, if that makes them smaller.
        keyring: Encrypts and decrypts; None: neither.
        require_encryption: Refuse to unpack what was not encrypted.
        codecs: Codecs of the application, applied to every value before compression.
        retired: Codecs of the application that stored values have gone through. They unpack these and pack none.
    """

    compress_over: int
    keyring: Keyring | None = None
    require_encryption: bool = False
    codecs: Sequence[PayloadCodec] = field(default_factory=tuple)
    retired: Sequence[PayloadCodec] = field(default_factory=tuple)
    is_plain: bool = field(init=False, repr=False)
    """Whether values that are not compressed are stored as they are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_plain", self.keyring is None and not self.codecs)

    def pack(self, text: bytes, path: str, logical: str) -> bytes:
        """Return JSON text as it is to be stored: itself, or an envelope.

        Args:
            text: The JSON text, in UTF-8.
            path: The path of the document relative to the database. A ciphertext is bound to it, and not to the
                database, so that a backup restored into another database can be read.
            logical: The field the value belongs to, or its place in the log. It is the same in a root and in parts.

        Raises:
            FlowStateTooLargeError: The text is larger than any value may be.
            FlowStateEncodeError: A codec or the function of a key failed.
        """
        if len(text) > MAX_VALUE_BYTES:
            raise FlowStateTooLargeError(
                f"{_path_of(logical)} has {len(text):,} bytes of JSON; a value may have {MAX_VALUE_BYTES:,}. "
                "Keep it elsewhere, such as in Cloud Storage, and store its address.",
                path=_path_of(logical),
                size=len(text),
                limit=MAX_VALUE_BYTES,
            )
        applied = []
        body = text
        for codec in self.codecs:
            body = _encoded(codec, body, logical)
            applied.append(codec.name)
        if (smaller := self._compressed(body)) is not None:
            applied.append(f"{_ZSTD}={len(body)}")
            body = smaller
        if self.keyring is not None:
            try:
                key_id, body = self.keyring.encrypt(body, _bound_to(path, logical))
            except KeyFailedError as error:
                path = _path_of(logical)
                raise FlowStateEncodeError(f"Cannot encrypt {path}: {error}", path=path) from error.__cause__
            applied.append(f"{_AES}={key_id}")
        if not applied and len(body) <= self.compress_over:
            return body
        return _ENVELOPE + ";".join(applied).encode() + b"\n" + body

    def is_current(self, stored: bytes, path: str, logical: str) -> bool:
        """Return whether a stored value is packed as `pack` would pack it now, by the same key.

        Only a value that is not compressed, and has more bytes than `compress_over`, is decrypted to find out.

        Raises:
            FlowStateDecodeError: It cannot be decrypted.
        """
        has_envelope = stored.startswith(_ENVELOPE)
        line, _, body = stored[1:].partition(b"\n") if has_envelope else (b"", b"", stored)
        layers = [layer for layer in line.decode("ascii", "replace").split(";") if layer]
        sizes = [layer.partition("=")[2] for layer in layers if layer.startswith(f"{_ZSTD}=")]
        wanted = [codec.name for codec in self.codecs]
        if self.keyring is not None:
            wanted.append(f"{_AES}={self.keyring.current}")
        if [layer for layer in layers if not layer.startswith(f"{_ZSTD}=")] != wanted:
            return False
        if sizes:
            return _is_size(sizes[0]) and int(sizes[0]) > self.compress_over
        if not wanted:
            return has_envelope == (len(body) > self.compress_over)
        if len(body) <= self.compress_over:
            return True
        if self.keyring is not None:
            body = self._decrypt(self.keyring.current, body, path, logical)
        return self._compressed(body) is None

    def is_sealed(self, stored: bytes) -> bool:
        """Return whether a stored value, or what of it is in its first part, is encrypted by the current key."""
        if self.keyring is None or not stored.startswith(_ENVELOPE):
            return False
        layers = stored[1:].partition(b"\n")[0].decode("ascii", "replace")
        return layers.rpartition(";")[2] == f"{_AES}={self.keyring.current}"

    def check_native(self) -> None:
        """Raise FlowStateDecodeError if the settings require encryption, which native documents do not have.

        Otherwise anybody who may write to the collection could put one in the place of an encrypted document.
        """
        if self.require_encryption:
            raise FlowStateDecodeError(NATIVE_IN_THE_CLEAR)

    def unpack(self, stored: bytes, path: str, logical: str) -> bytes:
        """Return the JSON text of a stored value.

        Raises:
            FlowStateDecodeError: The envelope is damaged or names an unknown codec or key, a codec fails, or the value
                is not encrypted although the settings require it.
        """
        applied: list[str] = []
        body = stored
        if stored.startswith(_ENVELOPE):
            line, newline, body = stored[1:].partition(b"\n")
            if not newline:
                raise FlowStateDecodeError(f"the envelope of {logical} has no end")
            applied = line.decode("ascii", "replace").split(";") if line else []
            if len({layer.partition("=")[0] for layer in applied}) < len(applied):  # else a bomb could have any number
                raise FlowStateDecodeError(f"the envelope of {logical} names a layer twice")
        encrypted = False
        for layer in reversed(applied):
            name, _, parameter = layer.partition("=")
            if name == _AES:
                body = self._decrypt(parameter, body, path, logical)
                encrypted = True
            elif name == _ZSTD:
                body = _decompress(parameter, body, logical)
            else:
                body = self._decode(name, body, logical)
        if self.require_encryption and not encrypted:
            raise FlowStateDecodeError(f"{logical} is not encrypted, and the settings require encryption")
        return body

    def _compressed(self, body: bytes) -> bytes | None:
        """Return the body compressed; None: it is to stay as it is."""
        if len(body) <= self.compress_over:
            return None
        smaller = compress(body)
        return smaller if len(smaller) < len(body) and _may_expand(len(smaller), len(body)) else None

    def _decrypt(self, key_id: str, body: bytes, path: str, logical: str) -> bytes:
        if self.keyring is None:
            raise FlowStateDecodeError(f"{logical} is encrypted with the key {key_id!r}, and the settings have no keys")
        return self.keyring.decrypt(key_id, body, _bound_to(path, logical), logical)

    def _decode(self, name: str, body: bytes, logical: str) -> bytes:
        for codec in (*self.codecs, *self.retired):
            if codec.name == name:
                try:
                    return _bytes_of(codec.decode(body))
                except Exception as error:  # the application's code: whatever it raises, the value cannot be read
                    raise FlowStateDecodeError(f"the codec {name!r} failed on {logical}: {error}") from error
        raise FlowStateDecodeError(
            f"{logical} was stored with the codec {name!r}, which this store does not have; pass it in the settings"
        )


@dataclass(frozen=True, kw_only=True)
class DocumentContext:
    """The path and the shard of one document, and how its values are packed.

    Attributes:
        path: The path of the document relative to the database.
        payloads: Packs and unpacks values.
        shard: The shard it is in.
        limit: Returns how many parts a write may let it refer to. Only states in parts ask.
    """

    path: str
    payloads: Payloads
    shard: int = 0
    limit: Callable[[], int] = field(default=lambda: MAX_STATE_PARTS, repr=False, compare=False)

    @property
    def most_parts(self) -> int:
        """How many parts a write may let it refer to."""
        return self.limit()

    def pack(self, text: bytes, logical: str) -> bytes:
        """Return JSON text packed for storage."""
        payloads = self.payloads
        if len(text) <= _SMALL and len(text) <= payloads.compress_over and payloads.is_plain:
            return text
        return payloads.pack(text, self.path, logical)

    def unpack(self, stored: bytes, logical: str) -> Any:
        """Return the value of a packed payload value."""
        text = self.payloads.unpack(stored, self.path, logical)
        try:
            return decode(text)
        except ValueError as error:
            raise FlowStateDecodeError(f"{logical} is not JSON: {error}") from error

    def unpack_each(self, stored: Sequence[tuple[str, bytes]]) -> Iterator[Any]:
        """Yield the values of packed payload values, each given with its logical name.

        Raises:
            FlowStateDecodeError: A value cannot be read, which the text names, or they would unpack to too much.
        """
        if check_together([value for _, value in stored]) <= _DECODED_TOGETHER:
            payloads, path = self.payloads, self.path
            bare = not payloads.require_encryption
            texts = [
                value if bare and not value.startswith(_ENVELOPE) else payloads.unpack(value, path, logical)
                for logical, value in stored
            ]
            with suppress(ValueError):  # one is not JSON: the loop below finds out which, and names it
                yield from decode_each(texts)
                return
        for logical, value in stored:
            yield self.unpack(value, logical)


def check_together(values: Iterable[bytes]) -> int:
    """Return to how many bytes stored values unpack, by what their envelopes say.

    Codecs of the application are not counted: nobody knows what they make of a value.

    The limit grows with the stored bytes: 512 MiB, plus 100 bytes for each stored one. A fixed limit would refuse large
    states that are honest, of gigabytes in parts. By this one a document of 1 MiB without parts unpacks to at most
    612 MiB (tests/parts/test_compression.py).

    Raises:
        FlowStateDecodeError: Together the values unpack to more. Each may be small enough by itself, and a document has
            room for thousands.
    """
    stored = unpacked = 0
    for value in values:
        stored += len(value)
        unpacked += unpacked_size(value) if value.startswith(_ENVELOPE) else len(value)
    if unpacked > MAX_VALUE_BYTES + MAX_EXPANSION * stored:
        raise FlowStateDecodeError(f"its values take {stored:,} bytes and would unpack to {unpacked:,}")
    return unpacked


def unpacked_size(stored: bytes) -> int:
    """Return about how many bytes of JSON a stored value has, as its envelope says, without applications' codecs."""
    if not stored.startswith(_ENVELOPE):
        return len(stored)
    line, _, body = stored[1:].partition(b"\n")
    for layer in line.decode("ascii", "replace").split(";"):
        name, _, size = layer.partition("=")
        if name == _ZSTD and _is_size(size):
            return int(size)
    return len(body)


def _may_expand(stored: int, unpacked: int) -> bool:
    """Return whether a state can be read again that has any number of values that expand like this one."""
    return unpacked <= max(FREE_EXPANSION_BYTES, MAX_EXPANSION * stored)


def _encoded(codec: PayloadCodec, data: bytes, logical: str) -> bytes:
    try:
        return _bytes_of(codec.encode(data))
    except Exception as error:
        path = _path_of(logical)
        raise FlowStateEncodeError(f"The codec {codec.name!r} failed on {path}: {error!r}", path=path) from error


def _bytes_of(data: object) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):  # bytes() of a number would be as many zeros
        raise TypeError(f"it returned {type(data).__qualname__}, not bytes")
    return bytes(data)


def _path_of(logical: str) -> str:
    """Return the path of a value as errors write it. For a value of the log that is a parameter of `update`."""
    if not logical.startswith("log."):
        return logical
    return {"set": "cache", "del": "remove", "events": "events_triggered"}[logical.rpartition(".")[2]]


def _bound_to(path: str, logical: str) -> bytes:
    collection, _, id = path.rpartition("/")
    return json.dumps([collection, id], separators=(",", ":")).encode() + b"\n" + logical.encode()


def _decompress(size: str, body: bytes, logical: str) -> bytes:
    if not _is_size(size):
        raise FlowStateDecodeError(f"{logical} declares a size of {size!r:.40} bytes; {MAX_VALUE_BYTES:,} are allowed")
    try:
        return decompress(body, int(size))
    except ValueError as error:
        raise FlowStateDecodeError(f"{logical} cannot be decompressed: {error}") from error


def _is_size(size: str) -> bool:
    return size.isascii() and size.isdigit() and len(size) <= 12 and int(size) <= MAX_VALUE_BYTES
