"""A process that is killed before one of its commits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Final

from typing_extensions import Self

# A fork costs 20 ms, while a new interpreter would import for a second.
_FORKS: Final = """
import asyncio, json, os, signal, sys
from firestore_flowstate import _operations

_operations.import_all()  # before the forks, and not after each

def die_at(point, *stores):
    def dying(commit):
        async def call(writes, **options):
            nonlocal point
            if point == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            point -= 1
            return await commit(writes, **options)
        return call

    for store in stores:
        store._connection.commit = dying(store._connection.commit)

for line in sys.stdin:
    if not (pid := os.fork()):
        asyncio.run(main(*json.loads(line)))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Dying:
    """Runs ``async def main`` of the code in a process of its own for each call.

    There ``die_at(point, *stores)`` has the process kill itself in the place of the commit number `point`, counted
    from 0, of these stores together.
    """

    def __init__(self, code: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", code + _FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},  # of Google's libraries, of old Pythons
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate(timeout=20)

    def ends(self, *arguments: Any) -> bool:
        """Call ``main`` with these arguments. Return whether it ended before it was to die."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -9), code
        return code == 0
