"""Running a command until it ends: signals are passed on to it, and its exit code is returned."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Final

_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str | None]:
    """Run the command until it ends; return its exit code as a shell gives it, and why it did not run, or None.

    The code is 128 + n if signal n ended the command, 127 if there is no such command, and 126 if it cannot be
    executed. To be called on the main thread: SIGTERM, SIGINT, SIGHUP and SIGQUIT of this process go to the command
    until it has ended.
    """
    process: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        if process is None:
            early.append(signum)
        elif not _comes_from_the_terminal(signum):
            process.send_signal(signum)

    # Signals that this process was told to ignore, as by nohup, are not passed on: the command ignores them as well.
    heeded = [signum for signum in _PASSED_ON if signal.getsignal(signum) is not signal.SIG_IGN]
    before = {signum: signal.signal(signum, pass_on) for signum in heeded}
    try:
        process = subprocess.Popen(command, env=environment)  # noqa: S603 - the command is what the user asked for
        for signum in early:
            process.send_signal(signum)
        code = _await_end(process)
    except FileNotFoundError:
        return _NOT_FOUND, f"{command[0]}: command not found"
    except OSError as error:
        return _NOT_EXECUTABLE, f"{command[0]}: {error.strerror}"
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return (code if code >= 0 else 128 - code), None


def _await_end(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of the process when it has ended; handlers of signals run meanwhile."""
    while True:
        # With a timeout Popen polls. Without one, the handler of a signal that arrives right before the wait would run
        # only when the process has ended.
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=3600)


def _comes_from_the_terminal(signum: int) -> bool:
    """Return whether the terminal has sent the signal to the command too, which is in the same foreground group."""
    if signum not in (signal.SIGINT, signal.SIGQUIT):
        return False
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
