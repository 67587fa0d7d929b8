"""The value that stands for "not given", as None means null."""

from __future__ import annotations

from typing import Final, final


@final
class Unset:
    """The type of `UNSET`; it has one value, which is false and survives copying and pickling."""

    __slots__ = ()
    _only: Unset | None = None

    def __new__(cls) -> Unset:  # noqa: D102  # described by its class
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNSET"

    def __reduce__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()
"""Not given. The default of parameters for which None means null."""
