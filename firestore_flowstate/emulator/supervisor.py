"""Runs one program and ends it as soon as the process that asked for it is gone.

Started as a script of its own, with nothing but the standard library: `supervisor.py PARENT_PID COMMAND...`, with
a pipe from the parent as its standard input. A killed Python runs no `finally`, and signal handlers are not a
library's to set; but a process that is gone, however it went, has closed its pipes. (Linux' PR_SET_PDEATHSIG
would do, were it not for thread pools: it also fires when the *thread* that started the program ends.)
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
    """Run the command; return its exit code, 128 + n if signal n ended it."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for signum in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(signum, lambda *_: None)
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - the caller's own command
    # Children that the parent has forked may hold its end of the pipe open, so look for the parent as well.
    while program.poll() is None and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin, woken], [], [], _POLL_SECONDS)
        if sys.stdin in readable or (woken in readable and signal.SIGTERM in os.read(woken, 64)):
            break
    program.kill()  # at once: the emulator keeps nothing that an orderly end would save
    code = program.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
