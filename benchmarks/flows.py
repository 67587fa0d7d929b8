"""What a durable step costs beside a bare update, and how soon a run goes on that has waited.

    python benchmarks/flows.py              # beside DBOS too, if build/dbos is there
    python benchmarks/flows.py --dbos       # which this makes: DBOS from PyPI, in a virtual environment of its own

*Durable step* is `await run.step(...)`, one after the other: each is recorded before the next begins. *Bare update* is
`store.update(id, cache={key: entry}, if_version=version)` with the same results, on the same store. DBOS keeps its
steps in SQLite, and in a PostgreSQL of its own if that is installed. The processor time of PostgreSQL is not counted,
nor is that of Firestore's emulator. SQLite works in the process that is measured.
"""

from __future__ import annotations

import argparse
import asyncio

from dbos_process import databases
from durable_steps import VALUES, measure_steps
from long_runs import measure_long_runs
from report import machine, title
from waiting_runs import measure_resumptions, measure_waiting_runs


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="Measure durable flows.")
    parser.add_argument("--dbos", action="store_true", help="install DBOS into build/dbos, to measure it too")
    arguments = parser.parse_args()
    title("Durable flows: median (quartiles) of rounds in which all take turns")
    with databases(VALUES, install=arguments.dbos) as others:
        asyncio.run(measure_steps(others))
    asyncio.run(measure_long_runs())
    asyncio.run(measure_resumptions())
    asyncio.run(measure_waiting_runs())
    print()
    print(machine())


if __name__ == "__main__":
    main()
