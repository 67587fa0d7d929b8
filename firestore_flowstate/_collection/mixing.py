"""Layouts that are mixed: how a store knows that Genkit JS may not read what it is about to write."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from ..errors import FlowStateWarning


@dataclass
class MixedLayoutsWarning:
    """Warns once, when a store that has met native documents is about to write a serialized one beside them.

    Attributes:
        met_native: Whether it has met one.
    """

    met_native: bool = False
    _warned: bool = False

    def about_to_serialize(self, *, path: str) -> None:
        """Take note of a document that is about to be written whole to the collection with this path."""
        if self._warned or not self.met_native:
            return
        self._warned = True
        warnings.warn(
            f"Native documents, such as Genkit JS writes, are in {path!r}, and this store is about to write the "
            "serialized layout there, which Genkit JS cannot read. If Genkit JS uses the collection, set "
            'layout="native" (FLOWSTATE_LAYOUT). If it does not any more, `flowstate migrate` ends the mixture. '
            "See docs/migration.md.",
            FlowStateWarning,
            stacklevel=2,
        )
