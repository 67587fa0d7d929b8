"""A workflow of DBOS, run by the Python of build/dbos: for each line of standard input it does its steps once.

build/dbos/bin/python dbos_workflow.py DATABASE_URL RESULTS_AS_JSON
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from dbos import DBOS  # type: ignore[import-not-found]  # it is installed in build/dbos alone

VALUES: list[Any] = json.loads(sys.argv[2])
DBOS(
    config={
        "name": "benchmark",
        "system_database_url": sys.argv[1],
        "run_admin_server": False,
        "log_level": "ERROR",
    }
)


@DBOS.step()  # type: ignore[untyped-decorator]  # as above
def give(index: int) -> Any:
    """Return a result of a step."""
    return VALUES[index]


@DBOS.workflow()  # type: ignore[untyped-decorator]  # as above
def steps() -> tuple[float, float]:
    """Do the steps. Return the processor time and the time of each."""
    give(0)
    cpu, began = time.process_time(), time.perf_counter()
    for index in range(len(VALUES)):
        give(index)
    return (time.process_time() - cpu) / len(VALUES), (time.perf_counter() - began) / len(VALUES)


def main() -> None:
    """Do the steps as often as one asks."""
    DBOS.launch()
    for _ in sys.stdin:
        print(json.dumps(steps()), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
