"""What an actor knows of a flow state, and what a write on top of that is to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from firestore_flowstate import FlowState, FlowStateError

from .history import Attempt
from .marks import Look, Mark
from .model import Append, Case, Effect, Replace, Requirement, Shows

LONG: Final = 25
"""Marks; a flow state that has more is written afresh if that can be."""


@dataclass(kw_only=True)
class Known:
    """A version of a flow state, as it was read or written last.

    Attributes:
        version: The version.
        look: How the flow state looks.
        at: When it was read, at the earliest.
        state: The state, if all of it is known.
    """

    version: str
    look: Look
    at: float
    state: FlowState | None = None

    @property
    def since(self) -> float:
        """When the version was read, if nothing but its time tells it, as of native documents."""
        return math.inf if self.look.ordered else self.at

    def attempt(
        self,
        mark: Mark,
        *,
        fresh: bool,
        refusals: Mapping[type[FlowStateError], Requirement],
        began: float | None = None,
    ) -> Attempt:
        """Return what a write on top of this version is to do.

        Args:
            mark: What it leaves.
            fresh: Whether it takes out what was there before.
            refusals: What its errors say.
            began: When it began, if that is later than the call.
        """
        effect: Effect = Replace(mark.text) if fresh else Append(mark.text)
        success = Case(Shows(self.look), effect)
        return Attempt(success=success, refusals=refusals, mark=mark.text, since=self.since, began=began)
