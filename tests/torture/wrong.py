"""What must not be."""

from __future__ import annotations


class WrongError(AssertionError):
    """The store did something that no order of operations and no fault explains."""
