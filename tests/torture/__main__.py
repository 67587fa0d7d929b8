"""`make torture`: runs until the time is up, or something is wrong."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time

from .plan import Plan
from .run import torture
from .wrong import WrongError


def main() -> int:
    """Run by the arguments. Return the exit code."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what operations and faults are drawn from")
    parser.add_argument("--seconds", type=float, default=180.0, help="no round begins later")
    parser.add_argument("--operations", type=int, default=40, help="how many each actor does in a round")
    given = parser.parse_args()
    seed = random.randrange(10**6) if given.seed is None else given.seed
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)  # a program prints

    say(f"seed {seed}")
    try:
        report = asyncio.run(
            torture(Plan(seed=seed, operations_a_round=given.operations), seconds=given.seconds, say=say)
        )
    except WrongError as error:
        print(f"\n{error}", file=sys.stderr)  # as above
        return 1
    print(f"\n{report}")  # as above
    return 0


if __name__ == "__main__":
    sys.exit(main())
