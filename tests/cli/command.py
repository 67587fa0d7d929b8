"""The command, run as its users run it: as a process of its own, or in this one if that makes no difference."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from firestore_flowstate.cli import main

PATIENCE = 60.0  # seconds that a command may take on a busy machine


class Outcome(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


class Processes:
    """Runs the command as processes, which see this environment only."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *arguments: str, input: str = "", **environment: str) -> Outcome:
        """Run the command to its end, with pipes for all that it reads and writes."""
        process = self.start(*arguments, stdin=subprocess.PIPE, **environment)
        out, err = process.communicate(input.encode(), timeout=PATIENCE)
        return checked(Outcome(process.returncode, out.decode(), err.decode()))

    def start(
        self,
        *arguments: str,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start the command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "firestore_flowstate.cli", *arguments],
            env={**self._environment, **environment},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """Kill the processes that still run."""
        for process in self._started:
            process.kill()
            process.communicate(timeout=PATIENCE)


def run_here(*arguments: str, encoding: str = "utf-8") -> Outcome:
    """Run the command in this process, by its entry point."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return checked(Outcome(code, *(stream.buffer.getvalue().decode() for stream in (out, err))))  # type: ignore[attr-defined]  # a BytesIO


def shown_here(*arguments: str) -> str:
    """Run the command in this process, and return all that it says in the order in which it does."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        main(arguments)
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined, no-any-return]  # a BytesIO


def checked(outcome: Outcome) -> Outcome:
    """Return the outcome of a command, and assert what holds for every command that is not run in a terminal."""
    assert "Traceback" not in outcome.err, outcome.err
    assert "\x1b" not in outcome.out + outcome.err, outcome
    return outcome
