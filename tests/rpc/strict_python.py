"""A Python of its own in which every warning is an error."""

from __future__ import annotations

import sys
from typing import Final

OLD_PYTHONS: Final = "ignore:You are using a:FutureWarning"
"""The filter, for ``-W``, of the warning that Google's libraries give of old Pythons, which they still run on."""

OLD_PYTHONS_BY_ENVIRONMENT: Final = "ignore:You are using:FutureWarning"
"""The same, for PYTHONWARNINGS: Python takes a filter that is in both for the weaker one, whatever stands after it."""

STRICT_PYTHON: Final = (sys.executable, "-W", "error", "-W", OLD_PYTHONS)
