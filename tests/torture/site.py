"""A collection under torture: its settings, and the flow states that come and go in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from firestore_flowstate import FlowState, FlowStateSettings

from .marks import Look, Mark, look_at, new_state
from .plan import Sizes

_START = 1_700_000_000_000


@dataclass(frozen=True, kw_only=True)
class Site:
    """A collection.

    Attributes:
        settings: Its settings, without an address of the server.
        ids: The ids of its flow states.
        standing: How many of them, the last ones, are never deleted or replaced, so that lists must always show them.
        sizes: How large values are.
    """

    settings: FlowStateSettings
    ids: Sequence[str]
    standing: int
    sizes: Sizes = "small"

    @property
    def name(self) -> str:
        """What it is called."""
        return self.settings.collection

    @property
    def native(self) -> bool:
        """Whether it is written in the native layout, which keeps no order of steps."""
        return self.settings.layout == "native"

    def key(self, id: str) -> str:
        """Return the name of a flow state among those of all collections."""
        return f"{self.name}/{id}"

    def flow_name(self, id: str) -> str:
        """Return the name of the flow, which some share."""
        return f"flow {self.ids.index(id) % 3}"

    def start_time(self, id: str) -> int:
        """Return when the flow started, at the same time as some others."""
        return _START + self.ids.index(id) // 4 * 1000

    def position(self, id: str) -> tuple[int, bytes]:
        """Return the place in lists, greatest first."""
        return self.start_time(id), id.encode()

    def in_order(self) -> list[str]:
        """Return the ids in the order of lists."""
        return sorted(self.ids, key=self.position, reverse=True)

    def new_state(self, id: str, mark: Mark) -> FlowState:
        """Return a state that has this mark alone."""
        return new_state(id, mark, name=self.flow_name(id), start_time=self.start_time(id))

    def look_at(self, state: FlowState, id: str) -> Look:
        """Return how a state looks. Raise TornError if it is not whole."""
        return look_at(state, id, name=self.flow_name(id), start_time=self.start_time(id), ordered=not self.native)
