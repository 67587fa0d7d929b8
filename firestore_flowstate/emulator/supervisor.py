"""Runs one program, and ends it as soon as the process that asked for it has ended.

This is started as a script of its own, with nothing but the standard library: `supervisor.py PARENT_PID COMMAND...`.
Its standard input is a pipe from the parent. A killed Python runs no `finally`, and a library is not to set signal
handlers; but a process that has ended, in whichever way, has closed its pipes. (PR_SET_PDEATHSIG of Linux does not
serve: it also fires when the *thread* that started the program ends, as in a pool of threads.)
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import Final

_POLL_SECONDS: Final = 0.5


def main() -> int:
    """Run the command; return its exit code, which is 128 + n if signal n ended the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, lambda *_: None)
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the caller's own command
    # Forked children of the parent may hold its end of the pipe open, so the parent's id is looked at as well.
    while program.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin, woken], [], [], _POLL_SECONDS)
        if sys.stdin in readable or (woken in readable and signal.SIGTERM in os.read(woken, 64)):
            break
    program.kill()  # at once: the emulator keeps nothing that an orderly end would save
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
