"""An application that fails while it is imported, in a library that it calls."""

from __future__ import annotations

import json

json.loads("{")
