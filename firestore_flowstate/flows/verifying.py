"""Whether a request may call what it asks for."""

from __future__ import annotations

import inspect
from typing import Any


async def allows(verify: Any, request: Any) -> bool:
    """Return what `verify` says to the request; None says that the platform has looked at it already."""
    if verify is None:
        return True
    said = verify(request)
    return bool(await said if inspect.isawaitable(said) else said)
