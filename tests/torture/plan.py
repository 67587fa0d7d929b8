"""The plan: which operations and which faults, all drawn from a seed.

A seed gives the same plan every time. In which order the operations of different actors meet each other and the
faults is up to the machine.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .marks import Mark

Kind = Literal[
    "save", "save_many", "create", "save_new", "save_version", "replace_version", "update", "update_version", "edit",
    "modify", "delete", "delete_version", "delete_many", "load", "load_many", "list", "iterate", "list_summaries", "gc",
    "compact", "due",
]  # fmt: skip
FaultKind = Literal[
    "cut", "lose request", "lose reply", "swallow replies", "hold replies", "hold", "hold and cut", "delay", "repeat",
    "refuse",
]  # fmt: skip
Kill = Literal["wiped", "restored"]
Sizes = Literal["small", "mixed", "large"]

_KINDS: Final[Mapping[Kind, int]] = {
    "save": 7, "save_many": 2, "create": 8, "save_new": 3, "save_version": 8, "replace_version": 4, "update": 18,
    "update_version": 16, "edit": 9, "modify": 13, "delete": 2, "delete_version": 3, "delete_many": 1, "load": 10,
    "load_many": 3, "list": 6, "iterate": 2, "list_summaries": 5, "gc": 3,
    "compact": 5, "due": 5,
}  # fmt: skip
_WHOLE: Final = frozenset({"save", "save_many", "create", "save_new", "save_version", "replace_version"})
_GENTLE: Final = frozenset({"load", "update", "modify", "compact"})  # what is done to flow states that are always there
_NEVER_BLOCKING: Final = frozenset({"edit", "iterate", "gc", "compact"})
_SIZES: Final[Mapping[Sizes, Mapping[int, int]]] = {
    "small": {0: 70, 3_000: 30},
    "mixed": {0: 55, 3_000: 22, 25_000: 14, 90_000: 7, 700_000: 2, 1_600_000: 1},
    "large": {0: 55, 3_000: 10, 25_000: 10, 90_000: 12, 700_000: 9, 1_600_000: 4},
}
_FAULTS: Final[Mapping[FaultKind, int]] = {
    "cut": 4, "lose request": 5, "lose reply": 7, "swallow replies": 2, "hold replies": 2, "hold": 2,
    "hold and cut": 2, "delay": 3, "repeat": 3, "refuse": 2,
}  # fmt: skip
_FAULTS_A_ROUND: Final = 200  # more than there is time for, so that faults do not end before the round does
_SHORT: Final = (0.05, 0.2, 0.6, 1.2)  # seconds
_LONG: Final = (0.05, 0.3, 1.2, 2.5)  # some of them longer than one try of a call


@dataclass(frozen=True, kw_only=True)
class Operation:
    """An operation to do.

    Attributes:
        kind: Which kind of operation.
        keys: The positions of the flow states in the actor's collection; one, but for those of many.
        mark: What it leaves.
        fresh: Whether it takes out what was there before, if it can.
        limit: The size of pages.
        filter: What a list asks for: the name of the first flow state, or the status that the mark has.
        timeout: The timeout of the call in seconds; None: as the settings say.
        cancel_after: Seconds after which the caller cancels it; None: never.
        pause: Seconds to wait before it.
    """

    kind: Kind
    keys: Sequence[int]
    mark: Mark
    fresh: bool
    limit: int
    filter: Literal["name", "status"] | None
    timeout: float | None
    cancel_after: float | None
    pause: float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something to happen to a connection.

    Attributes:
        kind: Which kind of fault.
        after: How many operations begin on the connection before it does.
        seconds: How long it lasts.
    """

    kind: FaultKind
    after: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a run.

    Attributes:
        seed: What everything is drawn from.
        operations_a_round: How many operations each actor does in a round.
    """

    seed: int
    operations_a_round: int = 40

    def operations(
        self, round: int, actor: str, *, keys: int, standing: int, sizes: Sizes, blocking: bool = False
    ) -> list[Operation]:
        """Return what an actor does in a round.

        Args:
            round: The number of the round, from 0 on.
            actor: The name of the actor.
            keys: How many flow states there are in its collection.
            standing: How many of them, the last ones, are only read and updated.
            sizes: How large the values are to be.
            blocking: Whether it calls a store that blocks, whose calls cannot be cancelled.
        """
        draw = random.Random(f"{self.seed} {round} {actor}")
        names = [f"{round}.{actor}.{index}" for index in range(self.operations_a_round)]
        return [_operation(draw, name, keys, standing, sizes, blocking=blocking) for name in names]

    def faults(self, round: int, line: str, *, native: bool = False) -> list[Fault]:
        """Return what happens to a connection in a round, one after the other.

        Native documents do not tell a write from its own duplicate that came first: docs/reliability.md, known limits.
        """
        draw = random.Random(f"{self.seed} {round} {line} faults")
        kinds = draw.choices(list(_FAULTS), list(_FAULTS.values()), k=_FAULTS_A_ROUND)
        kinds = [kind for kind in kinds if not (native and kind == "repeat")]
        return [
            Fault(kind=kind, after=draw.randint(3, 15), seconds=draw.choice(_LONG if "hold" in kind else _SHORT))
            for kind in kinds
        ]

    def kill(self, round: int) -> tuple[Kill, float] | None:
        """Return whether the server is killed in a round, and after which share of the operations."""
        draw = random.Random(f"{self.seed} {round} kill")
        kill: Kill | None = ("restored", "wiped", None)[round % 3]
        return None if kill is None else (kill, draw.uniform(0.3, 0.8))


def _operation(draw: random.Random, name: str, keys: int, standing: int, sizes: Sizes, *, blocking: bool) -> Operation:
    kinds = {kind: weight for kind, weight in _KINDS.items() if not (blocking and kind in _NEVER_BLOCKING)}
    [kind] = draw.choices(list(kinds), list(kinds.values()))
    [size] = draw.choices(list(_SIZES[sizes]), list(_SIZES[sizes].values()))
    often = keys - standing
    # Some flow states have much more company than others.
    key = min(draw.randrange(often), draw.randrange(often))
    if kind in _GENTLE and draw.random() < 0.15:
        key = draw.randrange(often, keys)
    whole = kind in _WHOLE or (kind in ("edit", "modify") and draw.random() < 0.25)
    many = kind.endswith("_many")
    cancel = draw.random() < 0.08 and not blocking
    return Operation(
        kind=kind,
        keys=draw.sample(range(often), 3) if many else [key],
        mark=Mark.of(name, whole=whole, size=min(size, 25_000) if many else size, ends=draw.random() < 0.3),
        fresh=whole and draw.random() < 0.4,
        limit=draw.choice([2, 3, 5, 9]),
        filter=draw.choice([None, None, None, "name", "status"]),
        timeout=draw.choice([None] * 7 + [0.3, 1.0]),
        cancel_after=draw.choice([0.0, 0.002, 0.01, 0.05]) if cancel else None,
        pause=draw.choice([0, 0, 0, 0.005, 0.03]),
    )
