"""What a process pays before its first save: imports, and the time from its start, beside Google's client.

    python benchmarks/cold_start.py

Every figure is of a fresh interpreter. The contenders of a round take turns, and only ratios within a round are
compared. `bare` is an interpreter that does nothing, `pydantic` defines one small model, `grpc` is the import of
grpc.aio. `AsyncClient` saves a state of size S as native maps, `store` and `blocking` the same state: on the emulator,
and with what stands in production's place: there both look for credentials, get a token and connect by TLS.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from production import production
from report import at_most, machine, table, title
from rounds import QUICK, Spread, number, several
from states import S, wire_form

from firestore_flowstate.emulator import start_emulator

ROUNDS = several(15)
WARM_UP = several(1, quick=0)  # fills the file cache and the emulator's own
EXTRA_MILLISECONDS = 25  # the target: the import, more than that of pydantic

_MODEL: Final = "import pydantic\nclass Model(pydantic.BaseModel):\n    name: str"
IMPORTS: Final = {
    "bare": "",
    "pydantic": _MODEL,
    "import firestore_flowstate": "import firestore_flowstate",
    "its models": "from firestore_flowstate import FlowState",
    "its Firestore store": "from firestore_flowstate import FirestoreFlowStateStore",
    "its blocking store": "from firestore_flowstate import FirestoreFlowStateStore, SyncFlowStateStore",
    "grpc": "import grpc.aio",
    "google.cloud.firestore": "import google.cloud.firestore",
}
_STATE: Final = f"import json\nstate = json.loads({json.dumps(wire_form(S))!r})\n"
_OURS: Final = "from firestore_flowstate import {}, FlowState\n{}flow_state = FlowState.model_validate(state)\n"
FIRST_SAVES: Final = {
    "bare": "",
    "AsyncClient": _STATE
    + "import asyncio, os\nfrom google.cloud.firestore import AsyncClient\n"
    + "options = {'api_endpoint': os.environ.get('FLOWSTATE_ENDPOINT')}\n"
    + "client = AsyncClient(client_options=options)\n"
    + "asyncio.run(client.collection('cold').document('plain').set(state))",
    "store": _OURS.format("FirestoreFlowStateStore", _STATE)
    + "import asyncio\nasyncio.run(FirestoreFlowStateStore().save('ours', flow_state))",
    "blocking": _OURS.format("FirestoreFlowStateStore, SyncFlowStateStore", _STATE)
    + "SyncFlowStateStore(FirestoreFlowStateStore()).save('blocking', flow_state)",
}
FIRST_SAVE_LIMIT: Final = 0.9  # the target: times AsyncClient
_NOT_INHERITED: Final = ("FIRESTORE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT")


def measure(programs: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the milliseconds from the start of a process until its program is done, by program."""
    took: dict[str, list[float]] = {name: [] for name in programs}
    order = list(programs)
    for round in range(WARM_UP + ROUNDS):
        for name in order:
            started = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, "-c", f"{programs[name]}\nprint(flush=True)"],
                stdout=subprocess.PIPE,
                env=dict(environment),
                cwd=Path(__file__).parents[1],
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"\n", f"{name} failed"
                passed = time.perf_counter() - started
            if round >= WARM_UP:
                took[name].append(passed * 1e3)
        order.append(order.pop(0))
    return took


def more(costs: Sequence[float], than: Sequence[float]) -> Spread:
    """Return how much more the one took than the other, round by round."""
    return Spread.of([one - other for one, other in zip(costs, than, strict=True)])


def times(costs: Sequence[float], bare: Sequence[float], base: Sequence[float]) -> Spread:
    """Return how many times as much the one took as the other, round by round, without the interpreter's start."""
    rounds = zip(costs, bare, base, strict=True)
    return Spread.of([(one - nothing) / (other - nothing) for one, nothing, other in rounds])


def report(took: Mapping[str, Sequence[float]], base: str) -> None:
    """Print what each program took beside the base."""
    rows = [
        [name, more(costs, took["bare"]), "" if name == base else times(costs, took["bare"], took[base])]
        for name, costs in took.items()
        if name != "bare"
    ]
    table(rows, head=["", "ms after the interpreter's start", f"times {base}"])


def first_save(environment: Mapping[str, str], what: str) -> None:
    """Measure and print how long it is from the start of the interpreter until the first save is done."""
    took = measure(FIRST_SAVES, environment)
    report(took, "AsyncClient")
    whole = Spread.of([ours / theirs for ours, theirs in zip(took["store"], took["AsyncClient"], strict=True)])
    at_most(f"{what}, from the start of the interpreter, times AsyncClient", whole, FIRST_SAVE_LIMIT)


def main() -> None:
    """Measure and print."""
    title("Cold start: median (quartiles) of fresh processes that take turns")
    imports = measure(IMPORTS, os.environ)
    print(f"\nThe interpreter alone: {number(statistics.median(imports['bare']))} ms")
    report(imports, "pydantic")
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    with start_emulator(attach=QUICK) as emulator:
        on_emulator = {**environment, **emulator.environment, "GOOGLE_CLOUD_PROJECT": "demo-benchmarks"}
        first_save(on_emulator, "first save on the emulator")
    with production() as variables:
        first_save(environment | variables, "first save with credentials and TLS")
    extra = more(imports["import firestore_flowstate"], imports["pydantic"]).median
    at_most("import firestore_flowstate, ms more than pydantic", extra, EXTRA_MILLISECONDS)
    extra = more(imports["its models"], imports["pydantic"]).median
    at_most("with its models, ms more than pydantic", extra, EXTRA_MILLISECONDS)
    print()
    print(machine())


if __name__ == "__main__":
    main()
