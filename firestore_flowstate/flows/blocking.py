"""The flows for hosts without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .flows import Flows


class BlockingFlows:
    """Placeholder."""

    def __init__(self, flows: Flows) -> None:
        self._flows = flows
