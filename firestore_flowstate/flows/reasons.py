"""The text that ends a cancelled run, and the reason in it: ``cancelled: REASON``."""

from __future__ import annotations

from typing import Final

_CANCELLED: Final = "cancelled"


def cancelled_text(reason: str) -> str:
    """Return the error of a run that was cancelled for the reason, which may be empty."""
    return f"{_CANCELLED}: {reason}" if reason else _CANCELLED


def reason_in(text: str) -> str:
    """Return the reason in the error of a run that was cancelled; it is empty if none was given."""
    return text.removeprefix(_CANCELLED).removeprefix(": ")
