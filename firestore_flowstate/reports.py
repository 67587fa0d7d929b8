"""What maintenance of a store reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .errors import FlowStateError


@dataclass(frozen=True, kw_only=True)
class GcReport:
    """What `gc` found.

    Attributes:
        orphans: Parts that no flow state refers to, older than an hour.
        deleted: How many of them were deleted; none in a dry run.
        young: Parts that no flow state refers to yet, less than an hour old: a save may be about to.
        unreadable: Ids of flow states whose document cannot be read, so that their parts were left alone.
    """

    orphans: int
    deleted: int
    young: int
    unreadable: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class MigrateReport:
    """What `migrate` did.

    Attributes:
        migrated: Flow states that were written to the target, or would be in a dry run.
        unchanged: Flow states that were there already as they should be.
        failed: Why others could not be migrated, by their ids; they are as they were.
    """

    migrated: int
    unchanged: int
    failed: Mapping[str, FlowStateError] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RewrapReport:
    """What `rewrap` did.

    Attributes:
        rewrapped: Flow states that were stored anew.
        unchanged: Flow states that were as they should be.
        native: Ids of native documents, of which nothing is encrypted; `migrate` makes them serialized.
    """

    rewrapped: int
    unchanged: int
    native: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What `doctor.examine` found wrong.

    Attributes:
        kind: "hidden": lists cannot see the document. "native": they cannot, since it is native and the store has
            shards; or it is in the clear, since it is native and the store has keys. "unreadable": it cannot be
            decoded. "head": its head says something else than its state. "missing_ttl": states that expired long ago
            are still stored. "index": an index is missing. "late_run": the ``wakeAt`` of a flow passed more than 3
            minutes ago, so it seems that nobody looks after it; or it counts as running and was not written for 3 days.
            "clock": the clock of this machine is more than 2 seconds apart from the server's. "dead_owner": whoever
            drove a run has died, and nobody has taken it over. "unknown_flow": the application has no flow of the
            name of some runs. "queue": its queue cannot be reached, or delivers nothing.
        id: The id of the document; None if it is not about one.
        message: What is wrong, and what to do.
    """

    kind: Literal[
        "hidden",
        "native",
        "unreadable",
        "head",
        "missing_ttl",
        "index",
        "late_run",
        "clock",
        "dead_owner",
        "unknown_flow",
        "queue",
    ]
    id: str | None
    message: str
