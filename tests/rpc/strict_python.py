"""A Python of its own in which every warning is an error."""

from __future__ import annotations

import sys
from typing import Final

STRICT_PYTHON: Final = (
    sys.executable,
    "-W",
    "error",
    "-W",
    "ignore:You are using a:FutureWarning",  # Google's libraries, of old Pythons, which they still run on
)
