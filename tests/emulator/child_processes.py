"""Processes that a test starts, and what is left of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 20.0  # seconds that a process may take to end on a busy machine


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def processes_with(argument: str) -> list[tuple[int, str]]:
    """Return the process id and command of every process that has this text among its arguments."""
    program = shutil.which("ps", path=os.defpath)  # also if a test has emptied PATH
    assert program, "these tests look at processes by ps: install procps"
    answer = subprocess.run([program, "-A", "-ww", "-o", "pid=,args="], capture_output=True, text=True, check=True)
    lines = (line.split(maxsplit=1) for line in answer.stdout.splitlines() if argument in line)
    return [(int(pid), command) for pid, command in lines]


def nothing_is_left_of(port: int) -> bool:
    """Wait until neither Java nor its supervisor is there."""
    return eventually(lambda: not processes_with(f"--port={port}"))


class Programs:
    """Python programs of a test, ended with it, and so is what they have started."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,  # so that it can be ended with what it has started, which holds its pipes too
        )
        self._started.append(program)
        return program

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Return exit code, standard output and standard error."""
        program = self.start(*arguments, **environment)
        out, err = program.communicate(timeout=90)
        return program.returncode, out, err

    def end(self) -> None:
        for program in self._started:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.communicate(timeout=PATIENCE)
