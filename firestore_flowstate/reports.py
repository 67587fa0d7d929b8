"""What maintenance of a store reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import Self

from .errors import FlowStateError


@dataclass(frozen=True, kw_only=True)
class GcReport:
    """What `gc` found.

    Attributes:
        orphans: How many parts that no flow state refers to are older than an hour.
        deleted: How many of these were deleted; none in a dry run.
        young: How many parts that no flow state refers to are younger than an hour. A save that is under way may
            refer to them next, so they stay.
        unreadable: Ids of flow states whose document cannot be read. Their parts were left alone.
    """

    orphans: int
    deleted: int
    young: int
    unreadable: Sequence[str] = ()


class PurgeReport(int):
    """What `purge` did: how many flow states it deleted, or would in a dry run, as an int.

    Attributes:
        unfinished: How many of these are of flows that had not ended: they wait, or run, or were to begin.
    """

    unfinished: int

    def __new__(cls, purged: int, *, unfinished: int = 0) -> Self:
        """Make a report of so many flow states."""
        report = super().__new__(cls, purged)
        report.unfinished = unfinished
        return report

    def __getnewargs_ex__(self) -> tuple[tuple[int], dict[str, int]]:
        """Return what a copy, or an unpickled report, is made of."""
        return (int(self),), {"unfinished": self.unfinished}


@dataclass(frozen=True, kw_only=True)
class MigrateReport:
    """What `migrate` did.

    Attributes:
        migrated: How many flow states were written to the destination, or would be in a dry run.
        unchanged: How many flow states were there already as they should be.
        failed: The errors of those that could not be migrated, by their ids. They are stored as before.
    """

    migrated: int
    unchanged: int
    failed: Mapping[str, FlowStateError] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RewrapReport:
    """What `rewrap` did.

    Attributes:
        rewrapped: How many flow states were stored anew.
        unchanged: How many flow states were stored as they should be.
        native: Ids of native documents, which are never encrypted. `migrate` makes them serialized.

    Parts that no flow state refers to are not in it: they stay as they were stored, until `gc` deletes them.
    """

    rewrapped: int
    unchanged: int
    native: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What `doctor.examine` found wrong.

    Attributes:
        kind: What is wrong, in one word.

            - "hidden": lists cannot see the document.
            - "native": the document is native. If the store has shards, its lists cannot see it; if it has keys, the
              document is stored in the clear.
            - "unreadable": the document cannot be decoded.
            - "head": the head of the document says something else than its state.
            - "orphan": parts that no flow state refers to are not encrypted by the current key, though there are keys.
            - "missing_ttl": states that expired more than 72 hours ago are still stored.
            - "index": an index is missing.
            - "late_run": the ``wakeAt`` of a flow passed more than 3 minutes ago, or the flow counts as running and
              was not written for 3 days. It seems that nobody looks after it.
            - "clock": the clock of this machine and the server's differ by more than 2 seconds.
            - "dead_owner": the process that drove a run has died, and no other has taken the run over.
            - "unknown_flow": the application has no flow of the name of some runs.
            - "queue": the queue of the application cannot be reached, or delivers nothing.
        id: The id of the document; None if the finding is not about one.
        message: What is wrong, and what to do.
    """

    kind: Literal[
        "hidden",
        "native",
        "unreadable",
        "head",
        "orphan",
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
