"""What a run has survived, in figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .checking import Verdict
from .examining import Inventory
from .history import History

_COLUMNS = ("done", "refused", "unknown", "unavailable", "cancelled", "nothing there")


@dataclass
class Report:
    """The figures of a run.

    Attributes:
        seed: The seed that the plan was drawn from.
        rounds: How many rounds there were.
        seconds: How long it took.
        calls: How many calls of which kind ended how.
        faults: How many faults of which kind there were.
        kills: How often the server was killed, by how it came back.
        events: How many operations on single flow states were put in an order.
        late: How many flow states only a request that came late, once more, could explain.
        overdue: The most seconds by which a call has missed its deadline, and which call it was.
        in_parts: How many flow states were found in parts after a round.
        compacted: How many flow states were found with a compacted log after a round.
        collected: How many parts were left over and collected.
        yields: How often watches yielded something.
    """

    seed: int
    rounds: int = 0
    seconds: float = 0.0
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    events: int = 0
    late: list[str] = field(default_factory=list)
    overdue: tuple[float, str] = (-math.inf, "")
    in_parts: int = 0
    compacted: int = 0
    collected: int = 0
    yields: int = 0

    def add(
        self,
        history: History,
        verdict: Verdict,
        inventories: Sequence[Inventory],
        faults: Counter[str],
    ) -> None:
        """Add the figures of a round."""
        self.collected += history.counts.pop(("parts", "collected"), 0)
        self.calls.update(history.counts)
        self.faults.update(faults)
        self.overdue = max(self.overdue, history.late)
        self.events += verdict.events
        self.late += verdict.late
        for inventory in inventories:
            self.in_parts += inventory.in_parts
            self.compacted += inventory.compacted

    def line(self) -> str:
        """Return one line on the run so far."""
        return (
            f"{self.rounds} rounds, {self.calls.total()} operations, {self.faults.total()} faults, "
            f"{self.kills.total()} kills: all explained"
        )

    def __str__(self) -> str:
        kinds = sorted({kind for kind, _ in self.calls})
        rows = [["operation", *_COLUMNS]]
        rows += [[kind, *(str(self.calls[kind, outcome]) for outcome in _COLUMNS)] for kind in kinds]
        rows.append(["all", *(str(sum(self.calls[kind, outcome] for kind in kinds)) for outcome in _COLUMNS)])
        table = "\n".join(
            "  ".join(cell.rjust(12) if i else cell.ljust(16) for i, cell in enumerate(row)) for row in rows
        )
        faults = ", ".join(f"{kind} {count}" for kind, count in self.faults.most_common())
        kills = ", ".join(f"{kind} {count}" for kind, count in self.kills.most_common())
        return "\n".join(
            [
                f"seed {self.seed}: {self.rounds} rounds, {self.seconds:.0f} s",
                "",
                table,
                "",
                f"faults: {faults}",
                f"kills of the server, which came back: {kills}",
                f"events on single flow states put in order: {self.events}",
                f"histories in which a save or create arrived once more, late: {len(self.late)}",
                f"states found in parts: {self.in_parts}, with a compacted log: {self.compacted}",
                f"changes that those who watch were told of: {self.yields}",
                f"parts left over by writers, and collected: {self.collected}",
                f"latest return after a deadline: {self.overdue[0]:+.2f} s ({self.overdue[1]})",
            ]
        )
