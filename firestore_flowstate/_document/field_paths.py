"""Names of fields as Firestore's field paths.

Source: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#fieldreference
"""

from __future__ import annotations

import re
from typing import Final

_SIMPLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def quoted(key: str) -> str:
    """Return a field's name as a field path, quoted whatever is in it.

    A carriage return is escaped too: read as it is, it becomes a line feed, and the path that of another field.
    """
    escaped = key.replace("\\", "\\\\").replace("`", "\\`").replace("\r", "\\r")
    return f"`{escaped}`"


def unquoted(path: str) -> str:
    """Return the name of the field that `quoted` has given this path."""
    return _ESCAPED.sub(lambda match: "\r" if match[1] == "r" else match[1], path[1:-1])


def field_path(key: str) -> str:
    """Return a field's name as a field path, quoted where it must be, as people write it."""
    return key if _SIMPLE.fullmatch(key) else quoted(key)
