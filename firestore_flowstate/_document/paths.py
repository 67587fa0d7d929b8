"""The path of a value in a flow state, as errors write it."""

from __future__ import annotations

import json


def in_cache(step: object) -> str:
    """Return the path of a step's entry."""
    return f"cache[{_shown(step)}]"


def in_events(step: object) -> str:
    """Return the path of an event's payload."""
    return f"events_triggered[{_shown(step)}]"


def in_extra(key: object) -> str:
    """Return the path of an unknown key that an update names."""
    return f"extra[{_shown(key)}]"


def _shown(step: object) -> str:
    if not isinstance(step, str):
        return repr(step)[:80]
    return json.dumps(step if len(step) <= 80 else step[:80] + "…", ensure_ascii=False)
