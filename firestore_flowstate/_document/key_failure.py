"""A key that cannot be had: apart from `encryption`, which is imported only if there are keys."""

from __future__ import annotations


class KeyFailedError(Exception):
    """The application's function for a key raised, or returned what is not an AES key. The cause is kept."""
