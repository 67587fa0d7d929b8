"""Processes and threads that a test has started, and that outlive it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK: Final = "TESTED_BY"  # in the environment of each process that tests start: the id of the process that tests
_TEST: Final = "PYTEST_CURRENT_TEST"
_STARTS_IN: Final = 5.0  # seconds, within which a process has its environment; one that is given none never has
_THREADS: Final = "firestore-flowstate"  # the names of the threads that stores start begin so


class Leftovers:
    """What is left at a moment, but for what was there when this was made.

    Processes are found in /proc by the environment that they were started with: on Linux alone, which CI has.

    Args:
        patience: Seconds in which it may end by itself. The supervisor of an emulator looks twice a second whether it
            is still wanted.
    """

    def __init__(self, *, patience: float = 10.0) -> None:
        self._patience = patience
        self._threads = _background_threads()

    def of_tests(self) -> list[str]:
        """Return what the bodies of tests have left, each with its test, and end such processes.

        What fixtures have started may serve the tests of other files.
        """
        return self._found(lambda test: test.endswith("(call)"))

    def of_anybody(self) -> list[str]:
        """Return what is left of the whole session, and end such processes."""
        return self._found(lambda _: True)

    def _new_threads(self) -> set[threading.Thread]:
        return _background_threads() - self._threads

    def _found(self, counts: Callable[[str], bool]) -> list[str]:
        def processes() -> dict[int, str]:
            return {pid: test for pid, test in _marked_processes().items() if counts(test)}

        deadline = time.monotonic() + self._patience
        while (self._new_threads() or processes()) and time.monotonic() < deadline:
            gc.collect()  # an error that a test has looked at keeps its frames, and they a store, until then
            time.sleep(0.02)
        found = [f"thread {thread.name}" for thread in self._new_threads()]
        for pid, test in processes().items():
            with suppress(OSError):  # it has just ended
                found.append(f"process {pid} of {test}: {_command(pid)}")
                os.kill(pid, signal.SIGKILL)
        return found


def ignore_by_handlers() -> None:
    """Go on ignoring what the shell has said to ignore, as nohup and a job in the background are told.

    Unlike an ignored signal, one with a handler is not ignored by the programs that tests start.
    """
    for signum in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


def _background_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)}


def _marked_processes() -> dict[int, str]:
    """Return each process that this one has started, or one that it has started, by its id, with its test."""
    if sys.platform != "linux":
        return {}
    mark = f"{MARK}={os.getpid()}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with suppress(OSError):  # another user's, or it has just ended
            variables = _environment(folder).split(b"\0")
            if mark in variables:
                tests = (each for each in variables if each.startswith(_TEST.encode()))
                found[int(folder.name)] = next(tests, b"=").decode().partition("=")[2]
    return found


def _environment(folder: Path) -> bytes:
    """Return the environment that a process was started with: of a zombie, and of one of the kernel, nothing.

    Popen returns a moment before the environment of its program is there, and that moment is longer on a busy machine.
    """
    by = time.monotonic() + _STARTS_IN
    while not (variables := (folder / "environ").read_bytes()) and time.monotonic() < by:
        state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        if state == b"Z" or int(parent) != os.getpid():
            break
        time.sleep(0.001)
    return variables


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
