"""Asking `verify` of `Flows.app` whether a request is let in."""

from __future__ import annotations

import inspect
from typing import Any


async def allows(verify: Any, request: Any) -> bool:
    """Return whether `verify`, which may be async, lets the request in. If it is None, the platform has verified it."""
    if verify is None:
        return True
    said = verify(request)
    return bool(await said if inspect.isawaitable(said) else said)
