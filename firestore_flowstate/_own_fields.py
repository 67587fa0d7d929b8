"""The names of the fields that a document has of its own, in either layout: no unknown key of a state can have one."""

from __future__ import annotations

from typing import Final

PAYLOAD: Final = "_flowstate"
"""The packed values of the serialized layout."""
SUMMARY_EXTRA: Final = "summary.extra."
"""The path of the unknown keys in the summary of a head, which repeats them so that a projection can ask for all."""
NATIVE_FIELDS: Final = frozenset({"input", "cache", "eventsTriggered", "operation", "executions", "traceContext"})
"""Values of a state that only a native document has by these names. The serialized layout has them in the payload."""
HEAD_FIELDS: Final = frozenset(
    {"flowId", "name", "startTime", "status", "blockedOnStep", "shard", "expireAt", "summary", PAYLOAD}
)
"""The fields of the serialized layout. A native document has those of Genkit's schema and ``expireAt``."""
OWN_NAMES: Final = HEAD_FIELDS | NATIVE_FIELDS
