"""Names of fields as Firestore's field paths.

Source: https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1#fieldreference
"""

from __future__ import annotations

import re
from typing import Final

_SIMPLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def quoted(key: str) -> str:
    """Return a field's name as a field path, quoted whatever is in it."""
    escaped = key.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def field_path(key: str) -> str:
    """Return a field's name as a field path, quoted where it must be, as people write it."""
    return key if _SIMPLE.fullmatch(key) else quoted(key)
