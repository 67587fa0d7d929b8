"""Where a flow state is kept, and how its values are packed there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ..errors import FlowStateDecodeError
from .json_text import decode, decode_each
from .payload import Payloads, check_together

_DECODED_TOGETHER: Final = 1024 * 1024  # bytes of JSON; more are not to be there twice


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a flow state is kept, and how its values are packed.

    Attributes:
        path: The path of its document relative to the database.
        payloads: Packs and unpacks values.
        shard: The shard it is in.
    """

    path: str
    payloads: Payloads
    shard: int = 0

    def pack(self, text: bytes, logical: str) -> bytes:
        """Return JSON text packed for storage."""
        return self.payloads.pack(text, self.path, logical)

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
            FlowStateDecodeError: A value cannot be read, and says which; or together they would unpack to too much.
        """
        if check_together(value for _, value in stored) <= _DECODED_TOGETHER:
            texts = [self.payloads.unpack(value, self.path, logical) for logical, value in stored]
            with suppress(ValueError):  # below, it gets its name
                yield from decode_each(texts)
                return
        for logical, value in stored:
            yield self.unpack(value, logical)
